"""The reranker: checks arguments and returns ranked passages.

Heavy libraries such as torch are imported only when a model is loaded.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from gliclass_rerank.fusion import Fusion, fuse
from gliclass_rerank.options import LongPassages, LongQueries, RerankerOptions
from gliclass_rerank.probabilities import sigmoid
from gliclass_rerank.validation import (
    Dtype,
    check_model,
    check_pairs,
    check_queries,
    check_query,
    check_ranking,
    check_texts,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gliclass_rerank.engine.loading import LoadedModel
    from gliclass_rerank.engine.passages import PassageLogits

_PAIRS_AT_A_TIME = 1 << 14  # in score_matrix: a pair and its result take a kilobyte until the score is known
_MAX_LABELS_TOGETHER = 8  # queries and facets in one prompt: the bundled model was trained with at most this many


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage with its score.

    Attributes:
        index: The passage's position in the input.
        score: How well it answers the query, in [0, 1].
        text: The passage.
        truncated: Whether the model read only a part of the passage or of the query, because both do not
            fit into ``max_length``.
        span: The position of the best window, if the passage was read in windows: ``text[start:end]`` has
            the same score on its own. With several queries it is the best window of the query with the
            highest score. None if the passage was read in one piece.
        facets: The score of each facet, in [0, 1]. With several queries, the facets are scored together
            with the first of them. Each facet has its own best window.
        logit: The model's raw output; the score is its sigmoid. Passages whose scores both round to 1
            still have different logits. NaN if the passage was made without one.

    Example:
        >>> RankedPassage(index=2, score=0.93, text="a passage", truncated=False).score
        0.93
    """

    index: int
    score: float
    text: str
    truncated: bool
    span: tuple[int, int] | None = None
    facets: Mapping[str, float] = field(default_factory=dict, hash=False)
    logit: float = math.nan


class GLiClassReranker:
    """Scores and ranks passages against a query. Threads may share one.

    Create one with ``from_pretrained``. Rerankers with the same checkpoint, revision, device and dtype
    share one set of weights, which is freed when the last of them is gone. Unpickling a reranker loads
    its checkpoint again.

    Args:
        model: A loaded checkpoint and the scorer that runs it.
        options: The options that the model was loaded with.

    Attributes:
        name: The checkpoint's hub name or folder.
        options: The options that the reranker was loaded with; they are enough to create an equal one.
        engine: Scores passages; the server and bulk jobs call it directly.
    """

    def __init__(self, model: LoadedModel, options: RerankerOptions) -> None:
        from gliclass_rerank.engine.passages import PassageScorer

        self.name = model.checkpoint.name
        self.options = options
        self.engine = PassageScorer(
            model,
            max_length=options.max_length,
            long_passages=options.long_passages,
            long_queries=options.long_queries,
            token_budget=options.token_budget,
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> GLiClassReranker:
        """Load a reranker.

        Args:
            model: A hub name or a local folder; None for the bundled model.
            device: "cpu", "cuda", "cuda:1" or "mps"; None for the first that is present of CUDA, MPS and CPU.
            dtype: "auto" for bf16 where the hardware runs it fast, else fp32; or "float32",
                "bfloat16", "float16".
            max_length: Tokens per sequence, query and passage together; None for the smallest of
                the encoder's positions, the tokenizer's limit and 1024.
            long_passages: "truncate" cuts a passage that does not fit; "windows" scores overlapping
                windows of up to 192 tokens, and the best one gives the passage its score.
            long_queries: "error" refuses a query that leaves no room for a passage; "truncate" cuts
                it so that half of ``max_length`` is left for the passage.
            token_budget: Tokens computed at a time, fewer to save memory; None for the device's default.
            revision: Branch, tag or commit on the hub.
            token: Access token for the hub; it is not stored.

        Raises:
            CheckpointError: The checkpoint cannot be found or used (a ValueError).
            TypeError: An option is of the wrong type.
            ValueError: This machine does not have the device, or another option is out of range.

        Example:
            >>> GLiClassReranker.from_pretrained(device="cpu").max_length
            512
        """
        from gliclass_rerank.engine.loading import load_model

        place = None if device is None else str(device)  # a torch.device is fine too
        fit = (long_passages, long_queries, token_budget)
        options = RerankerOptions(check_model(model), place, dtype, max_length, revision, *fit)
        loaded = load_model(options.model, revision=revision, token=token, device=place, dtype=dtype)
        return cls(loaded, replace(options, model=loaded.model))

    def __repr__(self) -> str:
        settings = f"device={self.device!r}, dtype={self.dtype!r}, max_length={self.max_length}"
        return f"GLiClassReranker({self.name!r}, {settings})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self).from_pretrained, **asdict(self.options)), ()

    def __copy__(self) -> Self:
        return self  # a reranker never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def device(self) -> str:
        """The device that the model runs on, for instance "cpu" or "cuda:0"."""
        return str(self.engine.model.scorer.device)

    @property
    def dtype(self) -> str:
        """The precision that the encoder computes in: "float32", "bfloat16" or "float16"."""
        return str(self.engine.model.scorer.dtype).removeprefix("torch.")

    @property
    def max_length(self) -> int:
        """Tokens per sequence, query and passage together."""
        return self.engine.max_length

    @property
    def recommended_threshold(self) -> float | None:
        """The score that best separates answers from other passages (by F1), on questions held out from training.

        Pass it to ``rank`` as ``threshold`` to get an empty list when nothing is relevant. It is meant for a
        single query and passages that fit; windows, several queries and facets change scores. None if the
        checkpoint has none; ``gliclass-rerank calibrate`` computes one.
        """
        return self.engine.model.checkpoint.config.recommended_threshold

    def rank(
        self,
        query: str | Iterable[str],
        passages: Iterable[str],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Iterable[str] | Mapping[str, float] = (),
        retrieval_weight: float = 0.0,
    ) -> list[RankedPassage]:
        """Sort passages by how well they answer a query, or several queries.

        Args:
            query: The question or search words; or several, such as the parts or paraphrases of one question.
            passages: The passages; duplicates and empty ones are fine.
            top_k: How many passages to return at most; None for all.
            threshold: Return passages with ``score >= threshold``, in [0, 1]; None for all.
            fusion: How several queries' scores become one: "max", "mean", or "rrf" (reciprocal rank
                fusion), which orders by ranks and reports the best query's score.
            together: Whether up to eight queries share one prompt and so one forward pass, which takes
                little more time than one query if passages are long. Scores then depend on the other
                queries in the prompt, so choose the threshold again. Passages have less room.
            facets: Other statements to score in the same pass ("is about prices"), which also changes the
                query's score; or a dict that gives each facet the score that a passage must reach.
            retrieval_weight: How much the order of ``passages``, best first, counts: they are sorted by
                logit - retrieval_weight * ln(position), at least 0. Scores stay as they are.

        Returns:
            Passages by falling score, unless "rrf" or ``retrieval_weight`` orders them otherwise; equal
            ones in input order. A passage without a token scores 0.0.

        Raises:
            TypeError: ``passages`` or ``facets`` is a single str, or an item is not a str (named by index).
            ValueError: A query has no token, or it leaves too little room for a passage (no token at all;
                with facets or windows, less than half of ``max_length``), or another argument is out of
                range.
            FloatingPointError: The model computed a logit that is not finite.
            MemoryError: Not even one passage fits into memory.
            RuntimeError: The process was forked after the model was loaded.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> passages = ["The stock market closed early.", "Leaves turn light, water and air into sugar."]
            >>> reranker.rank("How do plants make sugar?", passages)[0].index
            1
        """
        queries, facet_thresholds = check_ranking(
            query, top_k=top_k, threshold=threshold, fusion=fusion, facets=facets, retrieval_weight=retrieval_weight
        )
        passages = check_texts("passages", passages)
        rows = self._score(queries, passages, tuple(facet_thresholds), together=together)
        logits, order = fuse(_logits_by_query(rows), fusion, retrieval_weight)
        hits = []
        for i in order:
            results = [row[i] for row in rows]
            hit = _ranked(i, logits[i], passages[i], results, facet_thresholds)
            passes_facets = all(hit.facets[facet] >= needed for facet, needed in facet_thresholds.items())
            if passes_facets and hit.score >= (threshold or 0):
                hits.append(hit)
        return hits[:top_k]

    def score(self, query: str, passages: Iterable[str]) -> list[float]:
        """Score passages against a query.

        Args:
            query: The question or search words.
            passages: The passages.

        Returns:
            One score in [0, 1] per passage, in input order.

        Raises:
            TypeError: ``query`` or a passage is not a str.
            ValueError: The query has no token or leaves a passage no room.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> low, high = reranker.score("capital of France", ["Bread is baked.", "Paris is the capital of France."])
            >>> low < high
            True
        """
        [row] = self._score([check_query("query", query)], check_texts("passages", passages))
        return [sigmoid(result.logits[0]) for result in row]

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Score (query, passage) pairs; pairs of different queries share batches.

        Args:
            pairs: The pairs.

        Returns:
            One score in [0, 1] per pair, in input order, equal to ``score``'s.

        Raises:
            TypeError: An item is not a pair of two str (named by index).
            ValueError: A query has no token or leaves a passage no room.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> low, high = reranker.score_pairs([("tea", "Rain falls."), ("rain", "Rain falls.")])
            >>> low < high
            True
        """
        from gliclass_rerank.engine.passages import LabelledPassage

        checked = [LabelledPassage((query,), passage) for query, passage in check_pairs("pairs", pairs)]
        return [sigmoid(result.logits[0]) for result in self.engine.score(checked)]

    def score_matrix(
        self, queries: Iterable[str], passages: Iterable[str], *, together: bool = False
    ) -> NDArray[np.float32]:
        """Score every passage against every query.

        Args:
            queries: The queries.
            passages: The passages.
            together: Whether queries share prompts: up to eight in each, as long as half of ``max_length``
                is left for the passage. Scores then depend on the other queries in the prompt.

        Returns:
            (queries, passages) scores in [0, 1], float32.

        Raises:
            TypeError: ``queries`` or ``passages`` is a single str, or an item is not a str.
            ValueError: A query has no token or leaves a passage no room.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> reranker.score_matrix(["tea", "coffee"], ["Tea is brewed.", "Beans are roasted.", "Rain."]).shape
            (2, 3)
        """
        import numpy as np

        queries = check_queries("queries", check_texts("queries", queries))
        passages = check_texts("passages", passages)
        scores = np.empty((len(queries), len(passages)), dtype=np.float32)
        step = max(1, _PAIRS_AT_A_TIME // max(1, len(queries)))
        for start in range(0, max(1, len(passages)), step):  # once without passages: a bad query is refused
            results = self._score(queries, passages[start : start + step], together=together)
            for score_row, logit_row in zip(scores, _logits_by_query(results), strict=False):
                score_row[start : start + step] = [*map(sigmoid, logit_row)]
        return scores

    async def arank(
        self,
        query: str | Iterable[str],
        passages: Iterable[str],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Iterable[str] | Mapping[str, float] = (),
        retrieval_weight: float = 0.0,
    ) -> list[RankedPassage]:
        """Run ``rank`` in a worker thread, so that the event loop is not blocked. Arguments and result are the same.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> len(asyncio.run(reranker.arank("tea", ["Tea is brewed.", "Rain falls."], top_k=1)))
            1
        """
        call = partial(self.rank, top_k=top_k, threshold=threshold, fusion=fusion, together=together, facets=facets)
        return await asyncio.to_thread(call, query, passages, retrieval_weight=retrieval_weight)

    async def ascore(self, query: str, passages: Iterable[str]) -> list[float]:
        """Run ``score`` in a worker thread, so that the event loop is not blocked. Arguments and result are the same.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> len(asyncio.run(reranker.ascore("tea", ["Tea is brewed.", "Rain falls."])))
            2
        """
        return await asyncio.to_thread(self.score, query, passages)

    def _score(
        self, queries: Sequence[str], passages: Sequence[str], facets: tuple[str, ...] = (), *, together: bool = False
    ) -> list[list[PassageLogits]]:
        """Return a list of results for each group of queries that share a prompt, in the order of the passages."""
        from gliclass_rerank.engine.passages import LabelledPassage

        group_labels = partial(self.engine.group_labels, max_labels=_MAX_LABELS_TOGETHER, facets=facets)
        groups = group_labels(queries) if together else [(query,) for query in queries]
        if not passages:  # refuse a bad query even so
            for group in groups:
                self.engine.check(group, facets)
        # All pairs of one passage stand together, so that its text is tokenised once for all queries.
        pairs = [LabelledPassage(group, passage, facets) for passage in passages for group in groups]
        results = self.engine.score(pairs)
        return [results[i :: len(groups)] for i in range(len(groups))]


def _logits_by_query(groups: Sequence[Sequence[PassageLogits]]) -> list[list[float]]:
    """Return the logits of all groups of queries, as (queries, passages)."""
    return [[*logits] for results in groups for logits in zip(*(result.logits for result in results), strict=True)]


def _ranked(i: int, logit: float, text: str, results: Sequence[PassageLogits], facets: Iterable[str]) -> RankedPassage:
    """Build the result for one passage from its fused logit and the results of all groups of queries."""
    span = max(results, key=lambda result: max(result.logits)).span
    truncated = any(result.truncated for result in results)
    facet_scores = dict(zip(facets, map(sigmoid, results[0].facet_logits), strict=True))
    return RankedPassage(i, sigmoid(logit), text, truncated, span, facet_scores, logit)
