"""The engine's one scoring function: it takes labels and a passage, and returns a logit per label.

Every entry point (rank, score, score_matrix, the classifier, the server, bulk jobs) calls ``PassageScorer``,
so their scores cannot differ. Code that calls it does not deal with windows, blocks or batches.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.prefetch import prefetch_results
from gliclass_rerank.options import LongPassages, LongQueries
from gliclass_rerank.prompt.builder import Prompt, PromptFrame
from gliclass_rerank.prompt.tokenizer import EncodedText, Span
from gliclass_rerank.prompt.windows import encode_windows

log = logging.getLogger(__name__)

# The logit of a passage without a token. Its score is exactly 0.0, so it ranks last.
EMPTY_LOGIT = -1000.0

_WINDOW_TOKENS = 192  # about as long as the passages that the bundled model was trained on
# How many tokens, estimated from characters, are prepared at a time: enough to form batches of similar length, and
# few enough that memory does not grow with the number of passages, and that the next ones are prepared meanwhile.
_BLOCK_TOKENS = 1 << 17
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """One passage and the labels that share its prompt.

    Attributes:
        labels: At least one query, or at least one label of a classifier.
        text: The passage.
        facets: More labels in the same prompt; they have no influence on which window is the best.
        task: A description of the task, for a classifier.
        examples: Few-shot examples as the official library writes them, for a classifier.

    Example:
        >>> LabelledPassage(("tea",), "Tea is brewed.").facets
        ()
    """

    labels: tuple[str, ...]
    text: str
    facets: tuple[str, ...] = ()
    task: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PassageLogits:
    """The result for one ``LabelledPassage``; it does not depend on anything else in the call.

    Attributes:
        logits: One per label: the highest over all windows.
        facet_logits: One per facet: the highest over all windows.
        span: The position of the best window in the passage, ``text[start:end]``; None if the passage was read
            in one piece.
        truncated: Whether the passage or a label was cut.
    """

    logits: tuple[float, ...]
    facet_logits: tuple[float, ...]
    span: Span | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Window:
    """A window as a sequence; ``span`` is None if it is the whole passage, ``prompt`` is None if it has no token."""

    span: Span | None
    prompt: Prompt | None
    truncated: bool


_FrameKey = tuple[tuple[str, ...], tuple[str, ...], str, tuple[str, ...]]


class PassageScorer:
    """Scores passages with one model. Threads may share one.

    Args:
        model: A loaded checkpoint and the scorer that runs it.
        max_length: Tokens per sequence; None for the checkpoint's default.
        long_passages: "truncate" cuts a passage that does not fit; "windows" reads all of it in
            overlapping windows, and the best one gives the passage its score.
        long_queries: "error" refuses labels that leave a passage too little room; "truncate" cuts them
            so that half of ``max_length`` is left for the passage.
        token_budget: How many tokens are computed at a time; None for the device's default.
        noun: What error messages call a label.
        scores_empty: Whether a passage without a token goes through the model, as in the official
            classifier, instead of getting ``EMPTY_LOGIT``.

    Raises:
        TypeError: ``max_length`` or ``token_budget`` is not an int.
        ValueError: One of them is not positive, or ``max_length`` exceeds the encoder's positions.

    Example:
        >>> from gliclass_rerank.engine.loading import load_model
        >>> model = load_model(None, revision=None, token=None, device="cpu", dtype="float32")
        >>> engine = PassageScorer(model)
        >>> tea, rain = engine.score([LabelledPassage(("tea",), text) for text in ("Tea is brewed.", "Rain falls.")])
        >>> tea.logits > rain.logits
        True
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
        noun: str = "query",
        scores_empty: bool = False,
    ) -> None:
        self.model = model
        self.max_length = model.choose_length(max_length)
        self._long_passages, self._long_queries = long_passages, long_queries
        self._token_budget, self._noun, self._scores_empty = token_budget, noun, scores_empty
        self._prompts = model.checkpoint.prompts
        self._has_logged_truncation = False

    def score(self, pairs: Sequence[LabelledPassage]) -> list[PassageLogits]:
        """Score passages, each against its own labels; equal pairs are computed once.

        Args:
            pairs: The passages with their labels.

        Returns:
            One result per pair, in input order.

        Raises:
            ValueError: A label has no token, or labels leave a passage too little room.
            FloatingPointError: The model computed a logit that is not finite.
            MemoryError: Not even one sequence fits into memory.
            RuntimeError: The process was forked after the model was loaded, or the tokenizer failed.
        """
        self.model.scorer.check_process()  # first, because a thread of the parent process may hold locks used below
        distinct = list(dict.fromkeys(pairs))
        frames = {key: self._frame(pair) for key, pair in {_frame_key(pair): pair for pair in distinct}.items()}
        results: dict[LabelledPassage, PassageLogits] = {}
        blocks = list(self._blocks(distinct))
        prepared = prefetch_results([partial(self._prepare, block, frames) for block in blocks])
        for block, windows in zip(blocks, prepared, strict=True):
            results.update(self._score_block(block, windows, frames))
        self._log_truncation(results)
        return [results[pair] for pair in pairs]

    def check(self, labels: Sequence[str], facets: Sequence[str] = ()) -> None:
        """Raise the errors that ``score`` would raise for these labels, even if there is nothing to score.

        Args:
            labels: Labels that share a prompt.
            facets: More labels in the same prompt.

        Raises:
            ValueError: See ``score``.
        """
        self._frame(LabelledPassage(tuple(labels), "", tuple(facets)))

    def group_labels(
        self,
        labels: Sequence[str],
        *,
        max_labels: int | None = None,
        facets: Sequence[str] = (),
        task: str = "",
        examples: Sequence[str] = (),
    ) -> list[tuple[str, ...]]:
        """Divide labels among prompts so that each leaves half of its room to the passage.

        Args:
            labels: The labels.
            max_labels: How many labels a prompt may have, including facets; None for no limit.
            facets: Labels that every prompt contains.
            task: See ``LabelledPassage``.
            examples: See ``LabelledPassage``.

        Returns:
            Groups of labels in input order. A label that takes more than half of the room forms a group of its own.
        """
        empty = self._prompts.count_tokens((), task=task, examples=examples)
        limit = empty + (self.max_length - empty) // 2
        if facets or self._long_passages == "windows":
            limit = self.max_length // 2  # the same limit as in ``score``
        lengths = self._prompts.frame([*labels, *facets]).label_lengths
        facet_tokens = sum(length + 1 for length in lengths[len(labels) :])  # each has a control token
        groups: list[list[str]] = []
        size = limit
        for label, length in zip(labels, lengths, strict=False):
            is_full = max_labels is not None and bool(groups) and len(groups[-1]) + len(facets) >= max_labels
            if not groups or is_full or size + length + 1 > limit:
                groups.append([])
                size = empty + facet_tokens
            groups[-1].append(label)
            size += length + 1
        return [tuple(group) for group in groups]

    def share_labels(self, pairs: Sequence[LabelledPassage]) -> list[list[LabelledPassage]]:
        """Pair each passage with all its labels if they fit into a prompt together, and otherwise with groups of them.

        A checkpoint may say in its config how many labels it can tell apart in one prompt (``labels_per_prompt``).

        Args:
            pairs: The passages with all their labels.

        Returns:
            For each pair one or more with the same passage, which together have all its labels in order.
        """
        max_labels = self.model.checkpoint.config.labels_per_prompt
        groups = {
            key: self.group_labels(key[0], max_labels=max_labels, task=key[2], examples=key[3])
            for key in set(map(_frame_key, pairs))
        }
        frames = {
            key: self._prompts.frame(key[0], task=key[2], examples=key[3])
            for key, key_groups in groups.items()
            if len(key_groups) > 1
        }
        encoded = self._encode_texts([pair for pair in pairs if _frame_key(pair) in frames])

        def fits(pair: LabelledPassage) -> bool:
            frame = frames.get(_frame_key(pair))
            if frame is None:
                return True
            if frame.size >= self.max_length or (max_labels is not None and len(pair.labels) > max_labels):
                return False
            return not frame.around(encoded[self._text(pair)], self.max_length).truncated

        return [
            [pair] if fits(pair) else [replace(pair, labels=group) for group in groups[_frame_key(pair)]]
            for pair in pairs
        ]

    # Frames: the token ids around a passage

    def _frame(self, pair: LabelledPassage) -> PromptFrame:
        labels = [*pair.labels, *pair.facets]
        frame = self._prompts.frame(labels, task=pair.task, examples=pair.examples)
        for label, length in zip(labels, frame.label_lengths, strict=True):
            if not length:
                raise ValueError(f"{self._noun} is {label!r}, in which the tokenizer finds no token. Say it in words.")
        needs_half = bool(pair.facets) or self._long_passages == "windows"
        limit = self.max_length // 2 if needs_half else self.max_length - 1
        if frame.size <= limit:
            return frame
        label_room = self.max_length // 2 - (frame.size - sum(frame.label_lengths[: len(pair.labels)]))
        if self._long_queries == "truncate" and label_room >= len(pair.labels):
            max_tokens = label_room // len(pair.labels)
            limits = [max_tokens] * len(pair.labels) + [None] * len(pair.facets)
            return self._prompts.frame(labels, task=pair.task, examples=pair.examples, label_limits=limits)
        raise ValueError(self._refusal(pair, frame.size, needs_half=needs_half))

    def _refusal(self, pair: LabelledPassage, size: int, *, needs_half: bool) -> str:
        name = f"{self._noun} takes"
        if pair.facets:
            name = f"{self._noun} and facets take"
        elif pair.task or pair.examples or len(pair.labels) > 1:
            name = "labels, task and examples take"
        room = "more than half" if needs_half else "which leaves the text no room"
        way_out = " or raise max_length"
        if self._noun == "query" and self._long_queries == "error":
            way_out = ", raise max_length or set long_queries='truncate'"
        return (
            f"{name} {size} of max_length {self.max_length} tokens, {room} "
            f"({self._noun}: {pair.labels[0][:40]!r}). Shorten that{way_out}."
        )

    # Windows: parts of a passage, each of which becomes a sequence

    def _blocks(self, pairs: Sequence[LabelledPassage]) -> Iterator[list[LabelledPassage]]:
        block: list[LabelledPassage] = []
        tokens = 0
        for pair in pairs:
            estimate = len(pair.text) // _CHARACTERS_PER_TOKEN + len(pair.labels)
            tokens += min(estimate, self.max_length) if self._long_passages == "truncate" else estimate
            block.append(pair)
            if tokens >= _BLOCK_TOKENS:
                yield block
                block, tokens = [], 0
        if block:
            yield block

    def _prepare(
        self, pairs: Sequence[LabelledPassage], frames: Mapping[_FrameKey, PromptFrame]
    ) -> list[list[_Window]]:
        """Return each passage's windows; the engine prepares one block while it computes another."""
        encoded = self._encode_texts(pairs)
        return [self._windows(pair, encoded[self._text(pair)], frames[_frame_key(pair)]) for pair in pairs]

    def _score_block(
        self,
        pairs: Sequence[LabelledPassage],
        windows: Sequence[Sequence[_Window]],
        frames: Mapping[_FrameKey, PromptFrame],
    ) -> Iterator[tuple[LabelledPassage, PassageLogits]]:
        rows = self._run([window.prompt for parts in windows for window in parts if window.prompt is not None])
        for pair, parts in zip(pairs, windows, strict=True):
            empty = [EMPTY_LOGIT] * (len(pair.labels) + len(pair.facets))
            part_rows = [empty if window.prompt is None else next(rows) for window in parts]
            yield pair, _combine(pair, frames[_frame_key(pair)], parts, part_rows)

    def _text(self, pair: LabelledPassage) -> str:
        return self._prompts.with_task(pair.text, pair.task)

    def _encode_texts(self, pairs: Sequence[LabelledPassage]) -> dict[str, EncodedText]:
        """Return the token ids of each distinct text; a text is tokenised once, however many labels it has."""
        texts = list(dict.fromkeys(map(self._text, pairs)))
        return dict(zip(texts, self._prompts.encode_texts(texts, self.max_length), strict=True))

    def _windows(self, pair: LabelledPassage, encoded: EncodedText, frame: PromptFrame) -> list[_Window]:
        room = self.max_length - len(frame.before) - len(frame.after)
        if self._long_passages == "windows" and (encoded.is_cut or len(encoded.ids) > room):
            size = min(_WINDOW_TOKENS, room)
            parts = encode_windows(self._prompts, pair.text, self.max_length, room=room, size=size)
            if parts:
                return [_window(frame.around(ids, self.max_length), span) for span, ids in parts]
            encoded = EncodedText([], is_cut=False)
        if not encoded.ids and not self._scores_empty:
            return [_Window(None, None, encoded.is_cut)]
        return [_window(frame.around(encoded, self.max_length), None)]

    def _run(self, prompts: Sequence[Prompt]) -> Iterator[list[float]]:
        """Return the logits of each prompt, in order; prompts with the same number of labels run together."""
        by_size: dict[int, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            by_size[prompt.num_labels].append(prompt)
        rows = {
            size: iter(self.model.scorer.logits(batch, token_budget=self._token_budget).tolist())
            for size, batch in by_size.items()
        }
        return (next(rows[prompt.num_labels]) for prompt in prompts)

    def _log_truncation(self, results: dict[LabelledPassage, PassageLogits]) -> None:
        cut = sum(result.truncated for result in results.values())
        if cut and not self._has_logged_truncation:
            self._has_logged_truncation = True
            log.warning(
                "%d of %d passages were read only in part: max_length is %d tokens. Results say so in `truncated`; "
                "this is logged once.",
                cut,
                len(results),
                self.max_length,
            )


def _window(prompt: Prompt, span: Span | None) -> _Window:
    return _Window(span, prompt, prompt.truncated)


def _frame_key(pair: LabelledPassage) -> _FrameKey:
    return pair.labels, pair.facets, pair.task, pair.examples


def _combine(
    pair: LabelledPassage, frame: PromptFrame, windows: Sequence[_Window], rows: Sequence[Sequence[float]]
) -> PassageLogits:
    """Combine the windows of a passage: the highest logit of each label, and the span of the best window."""
    count = len(pair.labels)
    best_row = max(range(len(rows)), key=lambda i: max(rows[i][:count]))
    best = [max(column) for column in zip(*rows, strict=True)]
    truncated = frame.is_cut or any(window.truncated for window in windows)
    return PassageLogits(tuple(best[:count]), tuple(best[count:]), windows[best_row].span, truncated)
