"""The public face: words in, ranked passages out.

Nothing heavy is imported before a model is loaded.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self, get_args

from gliclass_rerank.engine.ahead import Item, ahead
from gliclass_rerank.fusion import Fusion, fuse
from gliclass_rerank.options import LongPassages, RerankerOptions
from gliclass_rerank.probabilities import sigmoid
from gliclass_rerank.prompt.grouping import group_labels
from gliclass_rerank.validation import (
    Dtype,
    check_choice,
    check_count,
    check_facets,
    check_queries,
    check_query,
    check_some_queries,
    check_texts,
    check_threshold,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gliclass_rerank.engine.loading import LoadedModel
    from gliclass_rerank.prompt.builder import Prompt
    from gliclass_rerank.prompt.windows import Span

_MOST_TOGETHER = 8  # queries and facets of one prompt, where queries share it: the bundled model saw no more
_WINDOW = 192  # tokens: about as long as the passages that the bundled model was trained on
_BLOCK = 256  # passages tokenised and scored at a time, so that memory stays constant


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage with its score.

    Attributes:
        index: Its position in the input.
        score: How well it answers the query, in [0, 1].
        text: The passage as it was given.
        truncated: Whether the model read only its beginning, since max_length has no room for all of
            it beside the query (and what else is in the prompt).
        span: Of a passage that was read in windows, where the best one stands: ``text[start:end]``,
            which on its own has the same score (with several queries: the window that fits one of
            them best). None where all was read at once.
        facets: How well each facet that was asked for fits it, in [0, 1]; with several queries, beside
            the first of them. Of windows the best one counts, for each facet.

    Example:
        >>> RankedPassage(index=2, score=0.93, text="a passage", truncated=False).score
        0.93
    """

    index: int
    score: float
    text: str
    truncated: bool
    span: Span | None = None
    facets: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the model found in one passage: a score for each query and for each facet."""

    scores: list[float]
    facets: list[float]
    truncated: bool
    span: Span | None


class GLiClassReranker:
    """Scores and ranks passages against a query. Threads may share one.

    Made by ``from_pretrained``. Rerankers of the same checkpoint, revision, device and dtype share
    one set of weights, which is freed with the last of them. A reranker that is pickled loads its
    checkpoint again where it is unpickled.

    Args:
        loaded: A loaded checkpoint and what runs it.
        options: What it was made from.

    Raises:
        ValueError: ``max_length`` is not positive or more than the encoder can tell apart, or
            ``long_passages`` unknown.
    """

    def __init__(self, loaded: LoadedModel, options: RerankerOptions) -> None:
        self.name = loaded.checkpoint.name
        self.options = options
        check_choice("long_passages", options.long_passages, get_args(LongPassages))
        self.max_length = loaded.choose_length(options.max_length)
        self._loaded = loaded

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        revision: str | None = None,
        token: str | None = None,
    ) -> GLiClassReranker:
        """Load a reranker.

        Args:
            model: A hub name or a local folder; None for the model inside this package.
            device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that
                is there.
            dtype: "auto" for bf16 where the hardware runs it fast and fp32 elsewhere; or
                "float32", "bfloat16", "float16".
            max_length: Tokens per sequence, query and passage together; None for the smallest of
                the encoder's positions, the tokenizer's limit and 1024.
            long_passages: What becomes of a passage that does not fit: "truncate" cuts it; "windows"
                scores overlapping parts of up to 192 tokens, of which the best counts.
            revision: Branch, tag or commit on the hub.
            token: Access token for the hub; it is not kept.

        Raises:
            CheckpointError: The checkpoint cannot be found or used (a ValueError).
            ValueError: Device, dtype, max_length or long_passages cannot be had.

        Example:
            >>> GLiClassReranker.from_pretrained(device="cpu").max_length
            512
        """
        from gliclass_rerank.engine.loading import load_model

        name = None if model is None else os.fspath(model)
        loaded = load_model(name, revision=revision, token=token, device=device, dtype=dtype)
        where = None if device is None else str(device)  # a torch.device is fine too
        return cls(loaded, RerankerOptions(name, where, dtype, max_length, revision, long_passages))

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_options, (type(self), self.options)

    def __copy__(self) -> Self:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def device(self) -> str:
        """Where the model runs, for instance "cpu" or "cuda:0"."""
        return str(self._loaded.scorer.device)

    @property
    def recommended_threshold(self) -> float | None:
        """The score that best parts answers from other passages (by F1), on questions kept out of training.

        With it as ``threshold``, ``rank`` returns nothing where nothing is relevant. It was chosen for one
        query over passages that fit: windows, several queries and facets move scores. None where the
        checkpoint names none; ``gliclass-rerank calibrate`` finds one.
        """
        return self._loaded.checkpoint.config.recommended_threshold

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
    ) -> list[RankedPassage]:
        """Sort passages by how well they answer a query, or several.

        Args:
            query: The question or search words; or several, of a query that was taken apart or
                written in several ways.
            passages: The passages; duplicates and empty ones are fine.
            top_k: How many to keep, at least 1; None for all.
            threshold: Keep passages with ``score >= threshold``, in [0, 1]; None for all.
            fusion: What several queries' scores become: "max", "mean", or "rrf" (reciprocal rank
                fusion), which decides on the order alone: the score stays the best query's.
            together: Whether up to eight queries share one forward pass, which costs little more than
                one query where passages are long. Scores then move with their companions, so a
                threshold for single queries does not carry over, and passages have less room.
            facets: Other things to know of each passage ("is about prices"), scored in the same
                pass as the query, which moves its score likewise; or a dict from each to the lowest
                score with which a passage is kept.

        Returns:
            Passages by falling score ("rrf": by falling fused rank); equal ones in input order.

        Raises:
            TypeError: ``passages`` or ``facets`` is a single str, or an item is no str (named by index).
            ValueError: The query is empty or leaves no room for a passage, query and facets (or, in
                windows, the query alone) leave it less than half of max_length, or another argument is
                out of range.
            FloatingPointError: The model gave a logit that is not finite.
            MemoryError: Not even one passage fits into memory.
            RuntimeError: The process was forked after the model was loaded.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> hits = reranker.rank(
            ...     "How do plants make sugar?",
            ...     ["The stock market closed early.", "Leaves turn light, water and air into sugar."])
            >>> hits[0].index
            1
        """
        check_count("top_k", top_k)
        check_threshold("threshold", threshold)
        check_choice("fusion", fusion, get_args(Fusion))
        queries = check_some_queries("query", query)
        lowest = check_facets(facets)
        passages = check_texts("passages", passages)
        found = self._score(queries, passages, list(lowest), together=together)
        scores, order = fuse([[of_one.scores[i] for of_one in found] for i in range(len(queries))], fusion)
        ranked = []
        for i in order:
            of_facets = dict(zip(lowest, found[i].facets, strict=True))
            deserved = all(score >= lowest[facet] for facet, score in of_facets.items())
            if deserved and (threshold is None or scores[i] >= threshold):
                ranked.append(
                    RankedPassage(i, scores[i], passages[i], found[i].truncated, found[i].span, facets=of_facets)
                )
        return ranked[:top_k]

    def score(self, query: str, passages: Iterable[str]) -> list[float]:
        """Score passages against a query.

        Args:
            query: The question or search words.
            passages: The passages.

        Returns:
            One score in [0, 1] per passage, in input order.

        Raises:
            TypeError: See ``rank``.
            ValueError: See ``rank``.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> low, high = reranker.score("capital of France", ["Bread is baked.", "Paris is the capital of France."])
            >>> low < high
            True
        """
        check_query("query", query)
        return [found.scores[0] for found in self._score([query], check_texts("passages", passages))]

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Score pairs of a query and a passage; those of different queries share batches.

        Args:
            pairs: The pairs.

        Returns:
            One score in [0, 1] per pair, in input order: that which ``score`` gives.

        Raises:
            TypeError: A query or a passage is no str.
            ValueError: A query is empty or leaves no room for a passage.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> low, high = reranker.score_pairs([("tea", "Rain falls."), ("rain", "Rain falls.")])
            >>> low < high
            True
        """
        pairs = list(pairs)
        by_query: dict[str, list[str]] = {}
        for query, passage in pairs:
            by_query.setdefault(query, []).append(passage)
        for query, passages in by_query.items():
            check_query("query", query)
            check_texts(f"passages of {query!r}", passages)
        self._loaded.scorer.check_process()
        self._check_room(by_query)
        for query in by_query:
            self._build([query], [])  # refuses a query that leaves no room, before anything is scored
        windows = {query: self._windows(passages, [[query]]) for query, passages in by_query.items()}
        parts = list(
            dict.fromkeys(
                (query, passage[start:end])
                for query, of_query in windows.items()
                for passage, spans in of_query.items()
                for start, end in spans
            )
        )
        found = {part: logit for part, _, [logit] in self._read(parts, self._build_pairs)}
        return [
            sigmoid(max(found[query, passage[start:end]] for start, end in windows[query][passage]))
            for query, passage in pairs
        ]

    def score_matrix(
        self, queries: Iterable[str], passages: Iterable[str], *, together: bool = False
    ) -> NDArray[np.float32]:
        """Score every passage against every query.

        Args:
            queries: The queries.
            passages: The passages.
            together: Whether queries share forward passes. Without it each pair is scored on its own;
                with it, up to eight queries go into a prompt, as many as leave half of max_length to
                the passage, and scores move with their companions.

        Returns:
            (queries, passages) scores in [0, 1], float32.

        Raises:
            TypeError: ``queries`` or ``passages`` is a single str, or an item is no str.
            ValueError: See ``rank``.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> reranker.score_matrix(["tea", "coffee"], ["Tea is brewed.", "Beans are roasted.", "Rain."]).shape
            (2, 3)
        """
        import numpy as np

        queries, passages = check_queries("queries", check_texts("queries", queries)), check_texts("passages", passages)
        found = self._score(queries, passages, together=together)
        by_passage = np.array([of_one.scores for of_one in found], dtype=np.float32)
        return by_passage.reshape(len(passages), len(queries)).T

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
    ) -> list[RankedPassage]:
        """``rank`` in a worker thread: the event loop goes on meanwhile.

        Args:
            query: See ``rank``.
            passages: See ``rank``.
            top_k: See ``rank``.
            threshold: See ``rank``.
            fusion: See ``rank``.
            together: See ``rank``.
            facets: See ``rank``.

        Returns:
            See ``rank``.

        Raises:
            TypeError: See ``rank``.
            ValueError: See ``rank``.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> len(asyncio.run(reranker.arank("tea", ["Tea is brewed.", "Rain falls."], top_k=1)))
            1
        """
        call = partial(self.rank, top_k=top_k, threshold=threshold, fusion=fusion, together=together, facets=facets)
        return await asyncio.to_thread(call, query, passages)

    async def ascore(self, query: str, passages: Iterable[str]) -> list[float]:
        """``score`` in a worker thread: the event loop goes on meanwhile.

        Args:
            query: See ``score``.
            passages: See ``score``.

        Returns:
            See ``score``.

        Raises:
            TypeError: See ``rank``.
            ValueError: See ``rank``.

        Example:
            >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
            >>> len(asyncio.run(reranker.ascore("tea", ["Tea is brewed.", "Rain falls."])))
            2
        """
        return await asyncio.to_thread(self.score, query, passages)

    def _score(
        self, queries: Sequence[str], passages: Sequence[str], facets: Sequence[str] = (), *, together: bool = False
    ) -> list[_Found]:
        """What is found in each passage."""
        self._loaded.scorer.check_process()  # before anything that a thread of the first process may have locked
        self._check_room(queries, facets)
        groups = self._group(queries, facets, together=together)
        windows = self._windows(passages, [[*group, *facets] for group in groups])
        # Each text once: duplicates cost nothing, and their scores are equal to the last bit.
        texts = list(dict.fromkeys(text[start:end] for text, spans in windows.items() for start, end in spans))
        rows: dict[str, list[float]] = {text: [] for text in texts}  # of all queries
        of_facets: dict[str, list[float]] = {}
        cut: set[str] = set()
        for group in groups:
            for text, prompt, row in self._read(texts, partial(self._build, [*group, *facets])):
                rows[text] += row[: len(group)]
                of_facets.setdefault(text, row[len(group) :])  # beside the first queries
                if prompt.truncated:
                    cut.add(text)
        found: dict[str, _Found] = {}
        for passage, spans in windows.items():
            parts = [passage[start:end] for start, end in spans]
            best = max(range(len(parts)), key=lambda i: max(rows[parts[i]], default=0.0))
            found[passage] = _Found(
                _best([rows[text] for text in parts]),
                _best([of_facets.get(text, []) for text in parts]),
                truncated=any(text in cut for text in parts),
                span=None if len(parts) == 1 else spans[best],
            )
        return [found[passage] for passage in passages]

    def _read(
        self, items: Sequence[Item], build: Callable[[Sequence[Item]], list[Prompt]]
    ) -> Iterator[tuple[Item, Prompt, list[float]]]:
        """Each item with its prompt and that one's logits; the next block's prompts are built meanwhile."""
        blocks = _blocks(items)
        for block, prompts in zip(blocks, ahead(build, blocks), strict=True):
            yield from zip(block, prompts, self._loaded.scorer.logits(prompts).tolist(), strict=True)

    def _windows(self, passages: Sequence[str], prompts: Sequence[Sequence[str]]) -> dict[str, list[Span]]:
        """Which parts of each passage are read beside the labels of some prompts: of most, all at once."""
        distinct = list(dict.fromkeys(passages))
        if self.options.long_passages == "truncate":
            return {passage: [(0, len(passage))] for passage in distinct}
        builder = self._loaded.checkpoint.prompts
        room = self.max_length - max(map(builder.count_tokens, prompts), default=0)
        find = partial(builder.windows, max_length=self.max_length, room=room, size=min(_WINDOW, room))
        spans: dict[str, list[Span]] = {}
        for block in _blocks(distinct):
            spans.update(zip(block, find(block), strict=True))
        return spans

    def _check_room(self, queries: Iterable[str], facets: Sequence[str] = ()) -> None:
        """Refuse labels that leave a passage too little: beside facets, or in windows, less than half."""
        if facets or self.options.long_passages == "windows":
            prompts = self._loaded.checkpoint.prompts
            taken = max((prompts.count_tokens([query, *facets]) for query in queries), default=0)
            if taken > self.max_length // 2:
                raise ValueError(
                    f"query and facets take {taken} of max_length {self.max_length} tokens, more than half. "
                    "Shorten them, ask for fewer facets or raise max_length."
                )

    def _group(self, queries: Sequence[str], facets: Sequence[str], *, together: bool) -> list[list[str]]:
        """Which queries share a prompt; labels that share one leave half of it to the passage."""
        count, room = self._loaded.checkpoint.prompts.count_tokens, self.max_length // 2
        return group_labels(
            queries,
            lambda group: together and len(group) + len(facets) <= _MOST_TOGETHER and count([*group, *facets]) <= room,
        )

    def _build_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Prompt]:
        """Prompts of pairs, of which those of one query stand together."""
        prompts: list[Prompt] = []
        for query, group in groupby(pairs, key=itemgetter(0)):
            prompts += self._build([query], [passage for _, passage in group])
        return prompts

    def _build(self, labels: Sequence[str], passages: Sequence[str]) -> list[Prompt]:
        return self._loaded.checkpoint.prompts.build(labels, passages, self.max_length)


def _blocks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK)]


def _best(rows: Sequence[Sequence[float]]) -> list[float]:
    """The highest logit of each label in some windows, as scores."""
    return [sigmoid(max(of_label)) for of_label in zip(*rows, strict=True)]


def _from_options(cls: type[GLiClassReranker], options: RerankerOptions) -> GLiClassReranker:
    return cls.from_pretrained(**asdict(options))
