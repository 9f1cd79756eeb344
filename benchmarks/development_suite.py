r"""Compare rerankers on the development suite: nDCG@10 of BM25, of encoders' cosines and of models, set by set.

    python -m benchmarks.development_suite data/eval/{squad_dev,wikiqa,covidqa_chunks,chunkeval,vaswani,cisi} \
        data/eval/{hotpot100,liveqa_med,cacm} data/train/{stackexchange_small,tech_docs,boolq_articles,tosdr} \
        [--model bundled FOLDER...] [--cosine FOLDER...] [--together] [--queries 100] [--result development_suite]

A collection is a folder in BEIR layout. One with qrels/test.tsv is read like ``gliclass-rerank eval`` reads it. One
with qrels/train.tsv alone is a training set, which says something only about models that were trained without it:
its candidates are BM25's first 50 of its whole corpus. --cosine ranks by the cosine of a local sentence encoder that
averages over its tokens; --together scores each query beside three others of its collection too.

Prints each collection's figures once they are known, then a table, and writes results/development_suite.json, or the
name that --result gives, anew after each collection.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from benchmarks.together import score_among
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.cli.model_names import name_models
from gliclass_rerank.data.progress import progress_bar
from gliclass_rerank.evaluation import Collection, Evaluation, evaluate, read_collection
from gliclass_rerank.evaluation.collection import search_candidates
from gliclass_rerank.evaluation.evaluator import Score
from gliclass_rerank.evaluation.gains import gain, measure_gains
from gliclass_rerank.evaluation.measures import MAIN_MEASURE
from gliclass_rerank.evaluation.report import as_record
from gliclass_rerank.training.encoders import encode

SEED = 0
EXTRA_QUERIES = 3  # queries that share the prompt with the one that is measured

Ranker = Callable[[Collection], Score]


def read_set(folder: Path, queries: int) -> Collection:
    """Queries drawn at random, with the collection's own candidates or, of a training set, BM25's first 50."""
    if (folder / "qrels" / "test.tsv").is_file():
        return read_collection(folder, queries=queries, seed=SEED)
    return search_candidates(read_collection(folder, "train", queries=queries, seed=SEED))


def rank_by_cosine(folder: str, collection: Collection) -> Score:
    """Scores by the cosine of query and passage; each text is encoded once."""
    texts = dict.fromkeys(collection.queries.values())
    texts |= dict.fromkeys(collection.passages[i] for ids in collection.candidates.values() for i in ids)
    rows = {text: row for row, text in enumerate(texts)}
    vectors = encode(folder, list(texts))

    def score(query: str, passages: list[str]) -> list[float]:
        cosines: list[float] = (vectors[[rows[passage] for passage in passages]] @ vectors[rows[query]]).tolist()
        return cosines

    return score


def rank_pairs(score: Score, collection: Collection) -> Score:
    """Scores that depend on query and passage only, so they are the same for every collection."""
    del collection
    return score


def rank_together(reranker: GLiClassReranker, collection: Collection) -> Score:
    """A reranker's scores where each query shares its prompt with others of the collection."""

    def score(query: str, passages: list[str]) -> list[float]:
        rng = random.Random(f"{SEED} {query}")
        others = [other for other in dict.fromkeys(collection.queries.values()) if other != query]
        extra_queries = rng.sample(others, min(EXTRA_QUERIES, len(others)))
        scores: list[float] = score_among(query, extra_queries, passages, reranker, rng).tolist()
        return scores

    return score


def show_progress(score: Score, advance: Callable[[int], None]) -> Score:
    """The same scores, with a step of a progress bar after each query."""

    def score_and_advance(query: str, passages: list[str]) -> Sequence[float]:
        scores = score(query, passages)
        advance(1)
        return scores

    return score_and_advance


def load_rankers(cosines: Sequence[str], models: Sequence[str], *, together: bool = False) -> dict[str, Ranker]:
    """What is measured, by the title of its column."""
    rankers: dict[str, Ranker] = {
        f"{name}, cosine": partial(rank_by_cosine, str(folder)) for name, folder in name_models(cosines).items()
    }
    for name, model in name_models(models).items():
        reranker = GLiClassReranker.from_pretrained(model)
        rankers[name] = partial(rank_pairs, reranker.score)
        if together:
            rankers[f"{name}, {EXTRA_QUERIES + 1} together"] = partial(rank_together, reranker)
    return rankers


def measure_set(collection: Collection, rankers: Mapping[str, Ranker]) -> dict[str, Evaluation]:
    """Rerank a collection with every ranker, and print its figures."""
    evaluations: dict[str, Evaluation] = {}
    for name, ranker in rankers.items():
        with progress_bar(f"{collection.name}, {name}", len(collection.queries)) as advance:
            evaluations[name] = evaluate(collection, show_progress(ranker(collection), advance))
    first = next(iter(evaluations.values())).first_stage[MAIN_MEASURE].mean
    figures = [f"{name} {evaluation.reranked[MAIN_MEASURE].mean:.3f}" for name, evaluation in evaluations.items()]
    print(f"{collection.name}: BM25 {first:.3f}", *figures, sep="; ", flush=True)
    return evaluations


def tabulate(results: Mapping[str, Sequence[Evaluation]]) -> ResultTable:
    """nDCG@10 and its gain over BM25: a row for each collection, a column for each ranker."""
    rows: list[list[str]] = []
    for evaluations in zip(*results.values(), strict=True):
        first = evaluations[0]
        cells = [f"{result.reranked[MAIN_MEASURE].mean:.3f} ({gain(result):+.3f})" for result in evaluations]
        rows.append([first.collection, str(len(first.queries)), f"{first.first_stage[MAIN_MEASURE].mean:.3f}", *cells])
    bm25 = mean(evaluation.first_stage[MAIN_MEASURE].mean for evaluation in next(iter(results.values())))
    gains = [measure_gains(evaluations) for evaluations in results.values()]
    rows.append(["**mean**", "", f"{bm25:.3f}", *(f"{bm25 + each.mean:.3f} ({each.mean:+.3f})" for each in gains)])
    rows.append(["**worst gain**", "", "", *(f"{each.worst:+.3f} ({each.worst_collection})" for each in gains)])
    return make_table(["collection", "queries", "BM25", *results], rows)


def measure_sets(
    folders: Sequence[Path], rankers: Mapping[str, Ranker], queries: int
) -> Iterator[dict[str, list[Evaluation]]]:
    """Evaluations by ranker, of one more collection each time."""
    results: dict[str, list[Evaluation]] = {name: [] for name in rankers}
    for folder in folders:
        for name, evaluation in measure_set(read_set(folder, queries), rankers).items():
            results[name].append(evaluation)
        yield results


def make_parser(description: str | None, result: str) -> argparse.ArgumentParser:
    """The arguments of benchmarks that compare rankers set by set."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--model", nargs="+", default=["bundled"], help="hub names and folders; bundled by default")
    parser.add_argument("--cosine", nargs="+", default=[], help="folders of sentence encoders")
    parser.add_argument("--queries", type=int, default=100, help="queries of each collection, drawn at random")
    parser.add_argument("--result", default=result, help="name of the file in results/")
    return parser


def main() -> None:
    """Measure, print a table and write results/development_suite.json."""
    parser = make_parser(__doc__, "development_suite")
    parser.add_argument("--together", action="store_true", help="score each query beside three others too")
    options = parser.parse_args()
    rankers = load_rankers(options.cosine, options.model, together=options.together)
    for results in measure_sets(options.collections, rankers, options.queries):
        # Anew after each collection: a run of hours that ends early leaves its figures.
        table = tabulate(results)
        write_result(options.result, {"seed": SEED} | as_record(results) | {"table": table})
    print_table(table, MAIN_MEASURE)


if __name__ == "__main__":
    main()
