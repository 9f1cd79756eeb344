"""Give results of the package's own commands the tables that pages show.

    python -m benchmarks.add_tables quality classification knowledge calibration

``gliclass-rerank eval --json benchmarks/results/NAME.json`` and the bundled model's recipe write figures only.
Run this after them.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.results_file import RESULTS, ResultTable, make_table, print_table


def tabulate(record: dict[str, Any]) -> ResultTable:
    """The table of a record, by what it measures."""
    if "collections" in record:
        return _quality(record)
    if "classification" in record:
        return _classification(record)
    if "before" in record and "after" in record:
        return _calibration(record)
    raise ValueError(f"the record has the keys {list(record)}: it is neither of `eval` nor of a calibration.")


def _quality(record: dict[str, Any]) -> ResultTable:
    """nDCG@10 of the first stage and of the first model, with its interval and its gain."""
    [model, *_] = record["mean"]["models"]
    rows = []
    for row in record["collections"]:
        first, reranked = row["first stage"]["nDCG@10"]["mean"], row["models"][model]["nDCG@10"]
        interval = f"{reranked['low']:.3f} to {reranked['high']:.3f}"
        gain = f"{reranked['mean'] - first:+.3f}"
        rows.append([row["collection"], row["queries"], f"{first:.3f}", f"{reranked['mean']:.3f}", interval, gain])
    first, mean = record["mean"]["first stage"]["nDCG@10"], record["mean"]["models"][model]["nDCG@10"]
    rows.append(["**mean**", "", f"{first:.3f}", f"{mean:.3f}", "", f"{mean - first:+.3f}"])
    return make_table(["collection", "queries", "BM25", "reranked", "95 % interval", "gain"], rows)


def _classification(record: dict[str, Any]) -> ResultTable:
    """Macro-F1 of each model on each set of texts."""
    averages = record["average macro-F1"]
    rows = [
        [row["dataset"], row["texts"], *(f"{row['models'][model]['macro-F1']:.4f}" for model in averages)]
        for row in record["classification"]
    ]
    rows.append(["**average**", "", *(f"{average:.4f}" for average in averages.values())])
    return make_table(["dataset", "texts", *averages], rows)


def _calibration(record: dict[str, Any]) -> ResultTable:
    """How far scores are probabilities, before and after calibration."""
    keys = ("log_loss", "calibration_error", "f1")
    rows = [[name, *(f"{record[name][key]:.3f}" for key in keys)] for name in ("before", "after")]
    return make_table(["calibration", "log-loss", "calibration error", "F1"], rows)


def main() -> None:
    """Add a table to each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="of files in results/, without .json")
    for name in parser.parse_args().names:
        path = RESULTS / f"{name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["table"] = tabulate(record)
        print_table(record["table"], name)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
