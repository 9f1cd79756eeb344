"""The tables of README.md, of the model's card and of docs/, made from results/*.json.

    python -m benchmarks.tables

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.results_file import RESULTS

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "gliclass_rerank" / "bundled" / "MODEL_CARD.md",
    ROOT / "docs" / "serving.md",
    ROOT / "docs" / "speed.md",
    ROOT / "docs" / "training.md",
)
_SETS = {
    "all": "one for each passage, written before any model saw them",
    "test": "every seventh of those, which a test holds",
    "hard": "near misses hold nearly all of the question's words",
}


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def quality() -> str:
    """nDCG@10 of the first stage and of the bundled model, with its interval."""
    record = read("quality")
    rows: list[list[object]] = []
    for row in record["collections"]:
        first, reranked = row["first stage"]["nDCG@10"]["mean"], row["models"]["bundled"]["nDCG@10"]
        interval = f"{reranked['low']:.3f} to {reranked['high']:.3f}"
        rows.append([row["collection"], row["queries"], f"{first:.3f}", f"{reranked['mean']:.3f}", interval])
    of_all = record["mean"]
    means = [of_all["first stage"]["nDCG@10"], of_all["models"]["bundled"]["nDCG@10"]]
    rows.append(["**mean**", "", *(f"{value:.3f}" for value in means), ""])
    return as_markdown(["collection", "queries", "BM25", "reranked", "95 % interval"], rows)


def budgets() -> str:
    """How many answers a token budget keeps, in the first stage's order and reranked."""
    kept: dict[str, dict[str, float]] = {}
    for row in read("context_window")["rules"]:
        order, rule = row["rule"].split(", ")
        if "tokens" in rule:
            kept.setdefault(rule, {})[order] = row["answers kept"]
    rows = [[rule, f"{found['first stage']:.1%}", f"{found['reranked']:.1%}"] for rule, found in kept.items()]
    return as_markdown(["budget", "BM25", "reranked"], rows)


def thresholds() -> str:
    """How many tokens and answers a threshold keeps."""
    found = [row for row in read("context_window")["rules"] if "score" in row["rule"]]
    rows = [
        [row["rule"].split(", ")[1].replace(">=", "≥"), f"{row['tokens kept']:.1%}", f"{row['answers kept']:.1%}"]
        for row in found
    ]
    return as_markdown(["threshold", "tokens kept", "answers kept"], rows)


def written_corpus() -> str:
    """First hits on the small corpus."""
    sets = {row["set"]: row for row in read("written_corpus")["sets"]}
    rows = [[words, *(sets[name][key] for key in ("questions", "BM25", "model"))] for name, words in _SETS.items()]
    return as_markdown(["questions", "", "BM25", "reranked"], rows)


def answerability() -> str:
    """How well scores tell answers from other passages, and what the threshold makes of them."""
    columns = ("AUROC", "precision", "recall", "F1")
    rows = [[row["against"], *(f"{row[c]:.3f}" for c in columns)] for row in read("answerability")["comparisons"]]
    return as_markdown(["answerable questions against", *columns], rows)


def together() -> str:
    """What several queries in one prompt cost."""
    rows = read("together")["collections"]
    counts = list(dict.fromkeys(row["together"] for row in rows))
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["collection"], []).append(f"{row['nDCG@10']:.3f}")
    header = ["collection", *("alone" if count == 1 else f"{count} together" for count in counts)]
    means = [f"{mean(row['nDCG@10'] for row in rows if row['together'] == count):.3f}" for count in counts]
    return as_markdown(header, [*([name, *values] for name, values in found.items()), ["**mean**", *means]])


def calibration() -> str:
    """How far scores are probabilities, before and after calibration."""
    record = read("calibration")
    rows = [
        [name, *(f"{record[name][key]:.3f}" for key in ("log_loss", "calibration_error", "f1"))]
        for name in ("before", "after")
    ]
    return as_markdown(["calibration", "log-loss", "calibration error", "F1"], rows)


def classification() -> str:
    """Zero-shot classification by the bundled model."""
    return classified("classification")


def knowledge() -> str:
    """Zero-shot classification before and after training as a reranker."""
    return classified("knowledge")


def classified(result: str) -> str:
    """Macro-F1 of each model on each set of a result."""
    record = read(result)
    averages = record["average macro-F1"]
    rows = [
        [row["dataset"], row["texts"], *(f"{row['models'][model]['macro-F1']:.4f}" for model in averages)]
        for row in record["classification"]
    ]
    rows.append(["**average**", "", *(f"{average:.4f}" for average in averages.values())])
    return as_markdown(["dataset", "texts", *averages], rows)


def windows() -> str:
    """What reading in windows makes of paragraphs that lie in long texts."""
    record = read("windows")
    rows = [[row["read"], f"{row['nDCG@10']:.3f}", f"{row['first']:.1%}"] for row in record["ways"]]
    return as_markdown(["what is read", "nDCG@10", "the right one is first"], rows)


def speed() -> str:
    """Seconds for some passages."""
    record = read("speed")
    rows = [
        [row["contender"], f"{row['median']:.2f}", f"{row['passages'] / row['median']:.0f}"]
        for row in sorted(record["contenders"], key=lambda row: row["median"])
        if row["shape"] == "bundled"
    ]
    return as_markdown(["", "seconds", "passages a second"], rows)


def shapes() -> str:
    """Seconds of each checkpoint shape at dtype auto, here bf16."""
    return raced("bfloat16", ("CrossEncoder, float32", "CrossEncoder, bfloat16"))


def shapes_in_fp32() -> str:
    """Seconds of each checkpoint shape in fp32."""
    return raced("float32", ("CrossEncoder, float32",))


def raced(dtype: str, others: Sequence[str]) -> str:
    """This engine in a dtype beside the official pipeline and others, with how many times as long they take."""
    rows = []
    for shape, seconds in raced_by_shape("median").items():
        own, floor = (time_of(seconds, f"{name}, {dtype}") for name in ("this engine", "matrix products alone"))
        slower = [time_of(seconds, "official", mark) for mark in ("default", "best")]
        slower += [time_of(seconds, name) for name in others]
        rows.append([shape, f"{own:.2f}", f"{floor / own:.0%}", *(f"{s:.2f} ({s / own:.1f}×)" for s in slower)])
    official = ("official, default", "official, best batch size")
    return as_markdown(["", f"this engine, {dtype}", "all matrix products", *official, *others], rows)


def time_of(seconds: dict[str, float], begin: str, mark: str = "") -> float:
    """The time of the contender whose name begins so and has the mark."""
    return next(value for name, value in seconds.items() if name.startswith(begin) and mark in name)


def raced_by_shape(value: str) -> dict[str, dict[str, Any]]:
    """A value of the speed benchmark's rows, where they have it, by shape and contender."""
    found: dict[str, dict[str, Any]] = {}
    for row in read("speed")["contenders"] + read("speed_large")["contenders"]:
        if row[value] is not None:
            shape = row["shape"] if row["passages"] == 100 else f"{row['shape']}, {row['passages']} passages"
            found.setdefault(shape, {})[row["contender"]] = row[value]
    return found


def memory() -> str:
    """MB that a process takes at most."""
    found = raced_by_shape("peak memory, MB")
    names = [name.split(" (")[0] for name in next(iter(found.values()))]
    return as_markdown(["", *names], [[shape, *own.values()] for shape, own in found.items()])


def several_queries() -> str:
    """How many times as long as one query several take."""
    found: dict[str, dict[str, str]] = {}
    for row in read("multi_query")["ways"]:
        count, way = row["contender"].split(", ")
        if row["shape"] != "bundled" or count == "1":
            continue
        name = f"{way}, {row['words']} tokens each"
        found.setdefault(name, {})[f"{count} queries"] = f"{row['times one query']:.2f}"
    return as_markdown(["", *next(iter(found.values()))], [[name, *times.values()] for name, times in found.items()])


def labels() -> str:
    """Examples a second at several numbers of labels."""
    rates = read("labels")["examples a second"]
    counts = next(iter(rates.values()))
    header = ["", *(f"{count} label{'s' * (count != '1')}" for count in counts)]
    return as_markdown(header, [[name, *(f"{rate:.2f}" for rate in own.values())] for name, own in rates.items()])


def scaling() -> str:
    """What more passages, known passages and the first call cost."""
    return as_markdown(["", "ratio"], [[name, f"{ratio:.3f}"] for name, ratio in read("scaling")["ratios"].items()])


def precision() -> str:
    """nDCG@10 and seconds in fp32 and bf16."""
    return precise("precision")


def precision_others() -> str:
    """The same of int8 and ONNX Runtime beside them."""
    return precise("precision_others")


def precise(result: str) -> str:
    """nDCG@10 and seconds of what is in a result."""
    record = read(result)
    names = [time["contender"] for time in record["seconds"]]
    rows = [[row["collection"], *(f"{row[name]:.4f}" for name in names)] for row in record["collections"]]
    rows.append(["**mean**", *(f"{mean(row[name] for row in record['collections']):.4f}" for name in names)])
    rows.append(["seconds, 100 passages", *(f"{time['median']:.2f}" for time in record["seconds"])])
    return as_markdown(["nDCG@10", *names], rows)


def load() -> str:
    """What the server costs beside the scorer alone."""
    record = read("load")
    one, rate, alone = (
        record["one client, milliseconds"],
        record["passages a second"],
        "scorer alone, passages a second",
    )
    rows = [
        ["one client, median milliseconds of a request", one["in process"], one["server"]],
        [f"{record['connections']} connections, passages a second", f"{record[alone]:.0f}", f"{rate:.0f}"],
    ]
    return as_markdown(["", "in process", "server"], rows)


def faults() -> str:
    """What became of requests when things went wrong."""
    record = read("faults")

    def statuses(name: str) -> str:
        return ", ".join(f"{count:,} × {status}" for status, count in record[name]["statuses"].items())

    left, killed = record["disconnects"], record["ray"]
    again = sum(killed["failures, tried again"].values())
    rows = [
        [
            f"{left['clients']} clients close their connection",
            f"{left['passages scored']:.0f} of {20 * left['clients']:,} passages are scored; the next one is answered",
        ],
        [f"{record['full']['requests']} at a time where few may wait", statuses("full")],
        [f"SIGTERM while {record['sigterm']['requests']} wait", statuses("sigterm")],
        [f"{record['fuzz']['requests']:,} requests of a fuzzer, well and badly formed", statuses("fuzz")],
        [
            "Ray Serve's only replica is killed under load",
            f"all {killed['requests']} are answered, {again} of them when tried again; "
            f"the longest silence is {killed['longest silence, seconds']} s",
        ],
    ]
    return as_markdown(["what goes wrong", "what comes of it"], rows)


def bulk() -> str:
    """Bulk scoring of many pairs."""
    record = read("bulk")
    rows = [
        [
            name,
            record[name]["seconds"],
            record[name]["a worker's MB, first quarter"],
            record[name]["a worker's MB, at most"],
        ]
        for name in ("at once", "killed half-way", "resumed")
    ]
    return as_markdown(["run", "seconds", "a worker's MB in the first quarter", "at most"], rows)


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        quality,
        budgets,
        thresholds,
        written_corpus,
        answerability,
        together,
        calibration,
        classification,
        knowledge,
        windows,
        speed,
        shapes,
        shapes_in_fp32,
        memory,
        several_queries,
        labels,
        scaling,
        precision,
        precision_others,
        load,
        faults,
        bulk,
    )
}


def read(name: str) -> dict[str, Any]:
    """A result file."""
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def fill(page: str) -> str:
    """A page with its tables as the results have them."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}"

    return re.sub(r"(<!-- table: (\w+) -->).*?(<!-- end -->)", replace, page, flags=re.DOTALL)


def main() -> None:
    """Fill the pages."""
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
