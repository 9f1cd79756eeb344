"""The model's other use: which labels a text deserves - topics, tones, statements that follow from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from gliclass_rerank.grouping import group_labels
from gliclass_rerank.label_tree import LabelTree, flatten, nest
from gliclass_rerank.probabilities import sigmoid, softmax
from gliclass_rerank.validation import Dtype, check_texts, check_threshold

if TYPE_CHECKING:
    from gliclass_rerank.loading import LoadedModel

ClassificationType = Literal["multi-label", "single-label"]

_BLOCK = 256  # texts tokenised and scored at a time, so that memory stays constant


class Prediction(TypedDict):
    """A label and its score."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of one text; texts of which the same is asked run together."""

    labels: tuple[str, ...]
    task: str
    examples: tuple[str, ...]


class ZeroShotClassifier:
    """Scores labels against texts, as the official ``ZeroShotClassificationPipeline``. Threads may share one.

    Made by ``from_pretrained``. Results are those of the official pipeline at batch size 1; but a
    text cannot forge the prompt, equal labels stay apart, and a text is cut rather than a label.

    Args:
        loaded: A loaded checkpoint and what runs it.
        max_length: Tokens per sequence; None for what suits the model.
        classification_type: "multi-label" for any number of labels, each with its own score; "single-label"
            for the best one, of scores that add up to 1.
        label_separator: Between the levels of hierarchical labels.

    Raises:
        ValueError: ``max_length`` or ``classification_type`` cannot be had.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_length: int | None = None,
        classification_type: ClassificationType = "multi-label",
        label_separator: str = ".",
    ) -> None:
        _check_type(classification_type)
        self.max_length = loaded.choose_length(max_length)
        self.classification_type = classification_type
        self.label_separator = label_separator
        self._loaded = loaded

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        classification_type: ClassificationType = "multi-label",
        label_separator: str = ".",
        revision: str | None = None,
        token: str | None = None,
    ) -> ZeroShotClassifier:
        """Load a classifier; it shares the weights with rerankers of the same checkpoint, device and dtype.

        Args:
            model: A hub name or a local folder; None for the model inside this package, which was
                trained to rank, and classifies so-so.
            device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that
                is there.
            dtype: "auto" for bf16 where the hardware runs it fast and fp32 elsewhere; or
                "float32", "bfloat16", "float16".
            max_length: Tokens per sequence, labels and text together; None for the smallest of the
                encoder's positions, the tokenizer's limit and 1024.
            classification_type: See the class.
            label_separator: See the class.
            revision: Branch, tag or commit on the hub.
            token: Access token for the hub; it is not kept.

        Raises:
            CheckpointError: The checkpoint cannot be found or used (a ValueError).
            ValueError: Device, dtype, max_length or classification_type cannot be had.

        Example:
            >>> ZeroShotClassifier.from_pretrained(device="cpu").max_length
            512
        """
        from gliclass_rerank.loading import load_model

        name = None if model is None else os.fspath(model)
        loaded = load_model(name, revision=revision, token=token, device=device, dtype=dtype)
        return cls(
            loaded, max_length=max_length, classification_type=classification_type, label_separator=label_separator
        )

    def __call__(
        self,
        texts: str | Iterable[str],
        labels: LabelTree | Sequence[LabelTree],
        threshold: float | Sequence[float] = 0.5,
        classification_type: ClassificationType | None = None,
        *,
        examples: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]] = (),
        prompt: str | Sequence[str] = "",
        return_hierarchical: bool = False,
    ) -> list[list[Prediction]] | list[dict[str, Any]]:
        """Classify texts.

        Args:
            texts: A text, or several. For natural language inference, the premise.
            labels: A list of labels, or a dict of lists (of dicts, ...), which are joined by the
                separator; or one such list or dict for each text. For inference, the hypotheses.
            threshold: Multi-label: keep labels with ``score >= threshold``, in [0, 1]; or one for each text.
            classification_type: None for the classifier's own.
            examples: Few-shot examples, each with "text" and "labels"; or a list of them for each text.
            prompt: A description of the task, put in front of the text; or one for each text.
            return_hierarchical: Whether to return all scores in the shape of the labels.

        Returns:
            For each text a list of ``{"label": ..., "score": ...}`` in the order of the labels
            (single-label: the best one alone); or the scores of all labels in the shape of the labels.

        Raises:
            TypeError: An argument is not what it should be; a text or label is named by its index.
            ValueError: There is no label, a value is out of range, a list is not as long as ``texts``, there are
                examples but the checkpoint knows none, or a label leaves the text no room.
            FloatingPointError: The model gave a logit that is not finite.

        Example:
            >>> classifier = ZeroShotClassifier.from_pretrained(device="cpu", classification_type="single-label")
            >>> [[found]] = classifier("The match ended in a draw.", ["sports", "cooking"])
            >>> found["label"]
            'sports'
        """
        self._loaded.scorer.check_process()
        kind = self.classification_type if classification_type is None else classification_type
        _check_type(kind)
        texts = [texts] if isinstance(texts, str) else check_texts("texts", texts)
        count = len(texts)
        trees = _for_each(labels, count, "labels", apart=_are_trees(labels))
        cuts = _for_each(threshold, count, "threshold", apart=isinstance(threshold, Sequence))
        for cut in dict.fromkeys(cuts):
            check_threshold("threshold", cut)
        tasks = _for_each(prompt, count, "prompt", apart=not isinstance(prompt, str))
        shown = _for_each(examples, count, "examples", apart=bool(examples) and not isinstance(examples[0], Mapping))
        asked = [
            _Question(tuple(flatten(tree, self.label_separator)), task, tuple(map(_as_text, some)))
            for tree, task, some in zip(trees, tasks, shown, strict=True)
        ]
        if not all(question.labels for question in asked):
            raise ValueError("labels is empty, expected at least one label.")
        rows = self._logits(texts, asked)
        scores = [list(map(sigmoid, row)) if kind == "multi-label" else softmax(row) for row in rows]
        if return_hierarchical:
            return [nest(tree, of_text) for tree, of_text in zip(trees, scores, strict=True)]
        return [
            _predict(question.labels, of_text, cut, kind)
            for question, of_text, cut in zip(asked, scores, cuts, strict=True)
        ]

    def _logits(self, texts: Sequence[str], asked: Sequence[_Question]) -> list[list[float]]:
        """Logits by text and label."""
        rows: list[list[float]] = [[] for _ in texts]
        for question in dict.fromkeys(asked):
            of_question = [i for i, other in enumerate(asked) if other == question]
            for start in range(0, len(of_question), _BLOCK):
                block = of_question[start : start + _BLOCK]
                for i, row in zip(block, self._ask(question, [texts[i] for i in block]), strict=True):
                    rows[i] = row
        return rows

    def _ask(self, question: _Question, texts: Sequence[str]) -> list[list[float]]:
        """Logits of a few texts; where all labels leave a text too little room, several prompts share them."""
        prompts, scorer, length = self._loaded.checkpoint.prompts, self._loaded.scorer, self.max_length
        around: dict[str, Any] = {"task": question.task, "examples": question.examples}
        groups = group_labels(question.labels, lambda group: prompts.count_tokens(group, **around) <= length // 2)
        if len(groups) == 1:
            found: list[list[float]] = scorer.logits(prompts.build(question.labels, texts, length, **around)).tolist()
            return found
        rows: list[list[float]] = [[] for _ in texts]
        rest = list(range(len(texts)))
        if prompts.count_tokens(question.labels, **around) < length:
            built = dict(enumerate(prompts.build(question.labels, texts, length, **around)))
            whole = [i for i in rest if not built[i].truncated]
            rest = [i for i in rest if built[i].truncated]
            for i, row in zip(whole, scorer.logits([built[i] for i in whole]).tolist(), strict=True):
                rows[i] = row
        for group in groups if rest else ():
            logits = scorer.logits(prompts.build(group, [texts[i] for i in rest], length, **around))
            for i, row in zip(rest, logits.tolist(), strict=True):
                rows[i] = rows[i] + row
        return rows


def _check_type(value: str) -> None:
    if value not in get_args(ClassificationType):
        raise ValueError(
            f"classification_type is {value!r}, expected one of {', '.join(get_args(ClassificationType))}."
        )


def _for_each(value: Any, count: int, name: str, *, apart: bool) -> list[Any]:  # noqa: ANN401 - of any argument
    """One value for each text: the same one, or those of a list."""
    if not apart:
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} items for {count} texts: give one for all, or one for each.")
    return list(value)


def _are_trees(labels: Any) -> bool:  # noqa: ANN401 - it is what is found out
    """Whether labels are lists or dicts themselves, one for each text."""
    if isinstance(labels, (str, bytes, bytearray)) or not isinstance(labels, (Sequence, Mapping)):
        raise TypeError(f"labels is a {type(labels).__name__}, expected a list of str, or a dict of lists.")
    return isinstance(labels, Sequence) and any(isinstance(item, (list, tuple, Mapping)) for item in labels)


def _as_text(example: Mapping[str, Any]) -> str:
    """An example as the official library writes it, since checkpoints were trained with that."""
    if not isinstance(example, Mapping) or not isinstance(example.get("text"), str):
        raise TypeError(f'an example is {example!r}, expected {{"text": ..., "labels": [...]}}.')
    labels = example.get("labels", example.get("true_labels", []))
    return f"{example['text']} \nLabels:\n {labels if isinstance(labels, str) else ', '.join(labels)}"


def _predict(labels: Sequence[str], scores: Sequence[float], threshold: float, kind: str) -> list[Prediction]:
    if kind == "single-label":
        best = max(range(len(scores)), key=scores.__getitem__)
        return [{"label": labels[best], "score": scores[best]}]
    found = zip(labels, scores, strict=True)
    return [{"label": label, "score": score} for label, score in found if score >= threshold]
