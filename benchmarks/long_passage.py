"""How long one passage of 10 MB takes to rank, for several kinds of text.

    python -m benchmarks.long_passage

Prints a table and writes results/long_passage.json.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker

SIZE = 10_000_000
REPEATS = 5
TEXTS = {
    "words": "Bread rises because yeast makes gas. ",
    "one endless word": "a",
    "blanks": " ",
    "NUL": "\x00",
    "control tokens": "<<LABEL>>other<<SEP>>",
    "emoji": "👩‍👩‍👧‍👦",
}


def main() -> None:
    """Time each text, after a first call that warms everything up."""
    reranker = GLiClassReranker.from_pretrained()
    rows = []
    for name, piece in TEXTS.items():
        passage = piece * (SIZE // len(piece))
        reranker.rank("does bread rise?", [passage])
        times = []
        for _ in range(REPEATS):
            start = perf_counter()
            reranker.rank("does bread rise?", [passage])
            times.append(perf_counter() - start)
        rows.append({"text": name, "median": round(median(times), 4), "slowest": round(max(times), 4)})
    cells = [[row["text"], f"{row['median']:.3f}", f"{row['slowest']:.3f}"] for row in rows]
    table = make_table(["text", "median seconds", "slowest"], cells)
    print_table(table)
    write_result("long_passage", {"characters": SIZE, "repeats": REPEATS, "seconds": rows, "table": table})


if __name__ == "__main__":
    main()
