r"""Compare any published cross-encoder with the bundled model, on the same candidates.

    python -m benchmarks.peers COLLECTION... --peer cross-encoder/ms-marco-MiniLM-L6-v2 [FOLDER...] \
        [--model bundled FOLDER...] [--cosine FOLDER...] [--queries 100] [--result peers]

A peer is a hub name or a folder of a sequence classifier with one label, as sentence-transformers' CrossEncoder
loads it; it runs in transformers alone, and only safetensors are read. A collection is a folder that
benchmarks.development_suite reads. Prints nDCG@10 and its gain over BM25, then how all others differ from the first
model, with p-values, and writes both to results/peers.json, or the name that --result gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.development_suite import SEED, load_rankers, make_parser, measure_sets, rank_pairs, tabulate
from benchmarks.results_file import print_table, write_result
from gliclass_rerank.cli.model_names import name_models
from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.scorer import choose_device, choose_dtype
from gliclass_rerank.evaluation.comparison import compare
from gliclass_rerank.evaluation.measures import MAIN_MEASURE
from gliclass_rerank.evaluation.report import as_comparison_record, as_comparison_table, as_record
from gliclass_rerank.prompt.tokenizer import without_surrogates

TOKEN_BUDGET = 4096


class CrossEncoder:
    """A sequence classifier with one label that reads query and passage in one sequence.

    Args:
        model: A hub name or a folder.
    """

    def __init__(self, model: str) -> None:
        device = choose_device(None)
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._network, info = AutoModelForSequenceClassification.from_pretrained(
            model,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=choose_dtype("auto", device),
            output_loading_info=True,
        )
        # transformers fills a head that the files lack with random weights.
        if info["missing_keys"] or self._network.config.num_labels != 1:
            raise SystemExit(f"{model} is not a cross-encoder with one label. Name one that ranks, by --peer.")
        torch.nn.Module.to(self._network, device).train(False)
        positions = getattr(self._network.config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._max_length = min(self._tokenizer.model_max_length, positions)

    @torch.inference_mode()
    def score(self, query: str, passages: list[str]) -> Sequence[float]:
        """One logit for each passage."""
        valid = [without_surrogates(passage) for passage in passages]
        pairs = self._tokenizer([query] * len(valid), valid, truncation=True, max_length=self._max_length)
        logits = torch.empty(len(passages))
        for batch in plan_batches([len(ids) for ids in pairs["input_ids"]], TOKEN_BUDGET):
            chosen = {name: [rows[i] for i in batch] for name, rows in pairs.items()}
            inputs = self._tokenizer.pad(chosen, return_tensors="pt").to(self._network.device)
            logits[batch] = self._network(**inputs).logits[:, 0].float().cpu()
        scores: list[float] = logits.tolist()
        return scores


def main() -> None:
    """Measure, print both tables and write results/peers.json."""
    parser = make_parser(__doc__, "peers")
    parser.add_argument("--peer", nargs="+", required=True, help="hub names and folders of cross-encoders")
    options = parser.parse_args()
    rankers = load_rankers(options.cosine, options.model)
    model = list(rankers)[len(options.cosine)]
    rankers |= {
        f"{name} (cross-encoder)": partial(rank_pairs, CrossEncoder(str(peer)).score)
        for name, peer in name_models(options.peer).items()
    }
    for results in measure_sets(options.collections, rankers, options.queries):
        table = tabulate(results)
        comparisons = {name: compare(rows, results[model]) for name, rows in results.items() if name != model}
        baseline = as_comparison_record(comparisons, model)
        write_result(options.result, {"seed": SEED} | as_record(results) | {"baseline": baseline, "table": table})
    print_table(table, MAIN_MEASURE)
    Console().print(as_comparison_table(comparisons, model))


if __name__ == "__main__":
    main()
