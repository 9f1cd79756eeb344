"""The model's other use: which labels a text deserves - topics, tones, statements that follow from it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, get_args

from gliclass_rerank.options import ModelOptions
from gliclass_rerank.probabilities import sigmoid, softmax
from gliclass_rerank.prompt.grouping import group_labels
from gliclass_rerank.prompt.label_tree import LabelTree, flatten, nest
from gliclass_rerank.validation import Dtype, check_choice, check_texts, check_threshold

if TYPE_CHECKING:
    from gliclass_rerank.engine.loading import LoadedModel
    from gliclass_rerank.prompt.builder import Prompt

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

    Made by ``from_pretrained``. Results are those of the official pipeline at batch size 1, where all
    fits into ``max_length``. Where it does not, the text is cut (a warning says which), never a label or
    an example; labels that would leave it less than half of what it might have are shared out over
    several prompts. A text cannot forge the prompt, and equal labels stay apart.

    Args:
        loaded: A loaded checkpoint and what runs it.
        options: What it was made from.
        classification_type: "multi-label" for any number of labels, each with its own score; "single-label"
            for the best one, of scores that add up to 1.
        label_separator: Between the levels of hierarchical labels.

    Raises:
        ValueError: ``max_length`` or ``classification_type`` cannot be had.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: ModelOptions,
        *,
        classification_type: ClassificationType = "multi-label",
        label_separator: str = ".",
    ) -> None:
        check_choice("classification_type", classification_type, get_args(ClassificationType))
        self.options = options
        self.max_length = loaded.choose_length(options.max_length)
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
        from gliclass_rerank.engine.loading import load_model

        name = None if model is None else os.fspath(model)
        loaded = load_model(name, revision=revision, token=token, device=device, dtype=dtype)
        options = ModelOptions(name, None if device is None else str(device), dtype, max_length, revision)
        return cls(loaded, options, classification_type=classification_type, label_separator=label_separator)

    def __reduce__(self) -> tuple[Any, ...]:
        kind = {"classification_type": self.classification_type, "label_separator": self.label_separator}
        return _from_options, (type(self), {**asdict(self.options), **kind})

    def __copy__(self) -> Self:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __call__(
        self,
        texts: str | Iterable[str],
        labels: LabelTree | Sequence[LabelTree],
        threshold: float | Sequence[float] | None = 0.5,
        classification_type: ClassificationType | None = None,
        *,
        examples: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
        prompt: str | Sequence[str] | None = None,
        return_hierarchical: bool = False,
    ) -> list[list[Prediction]] | list[dict[str, Any]]:
        """Classify texts.

        Args:
            texts: A text, or several. For natural language inference, the premise.
            labels: A list of labels, or a dict of lists (of dicts, ...), which are joined by the
                separator; or one such list or dict for each text. For inference, the hypotheses.
            threshold: Multi-label: keep labels with ``score >= threshold``, in [0, 1], None for all; or one for
                each text.
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
        check_choice("classification_type", kind, get_args(ClassificationType))
        texts = [texts] if isinstance(texts, str) else check_texts("texts", texts)
        count = len(texts)
        trees, asked_of = _trees_of(labels, count)
        names = [tuple(flatten(tree, self.label_separator, name)) for tree, name in zip(trees, asked_of, strict=True)]
        for of_text, name in zip(names, asked_of, strict=True):
            if not of_text:
                raise ValueError(f"{name} is empty, expected at least one label.")
        cuts: list[float | None] = _for_each(threshold, count, "threshold", one=(Real, type(None)))
        for cut in cuts:
            check_threshold("threshold", cut)
        tasks = check_texts(
            "prompt", [task or "" for task in _for_each(prompt, count, "prompt", one=(str, type(None)))]
        )
        shown = _examples_of(examples, count)
        asked = [_Question(*question) for question in zip(names, tasks, shown, strict=True)]
        rows = self._logits(texts, asked)
        scores = [list(map(sigmoid, row)) if kind == "multi-label" else softmax(row) for row in rows]
        if return_hierarchical:
            return [nest(tree, of_text) for tree, of_text in zip(trees, scores, strict=True)]
        return [_predict(of_text, found, cut, kind) for of_text, found, cut in zip(names, scores, cuts, strict=True)]

    def _logits(self, texts: Sequence[str], asked: Sequence[_Question]) -> list[list[float]]:
        """Logits by text and label."""
        rows: list[list[float]] = []
        cut: list[int] = []
        for start in range(0, len(texts), _BLOCK):
            block = range(start, min(start + _BLOCK, len(texts)))
            alike: dict[_Question, list[int]] = {}
            for i in block:
                alike.setdefault(asked[i], []).append(i)
            built: dict[int, list[Prompt]] = {}
            for question, numbers in alike.items():
                built.update(zip(numbers, self._build(question, [texts[i] for i in numbers]), strict=True))
            cut += [i for i in block if any(prompt.truncated for prompt in built[i])]
            rows += self._run([built[i] for i in block])
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(texts)} texts were cut to {self.max_length} tokens, first texts[{cut[0]}].",
                stacklevel=3,
            )
        return rows

    def _build(self, question: _Question, texts: Sequence[str]) -> list[list[Prompt]]:
        """The prompts of each text: one, or several that share labels which would leave it too little room."""
        build, count = self._loaded.checkpoint.prompts.build, self._loaded.checkpoint.prompts.count_tokens
        around: dict[str, Any] = {"task": question.task, "examples": question.examples}
        fixed = count((), **around)
        most = fixed + (self.max_length - fixed) // 2
        groups = group_labels(question.labels, lambda group: count(group, **around) <= most)
        if len(groups) == 1 or count(question.labels, **around) < self.max_length:
            built = [[prompt] for prompt in build(question.labels, texts, self.max_length, **around)]
        else:
            built = [[] for _ in texts]
        if len(groups) == 1:
            return built
        tight = [i for i, prompts in enumerate(built) if not prompts or prompts[0].truncated]
        parts = [build(group, [texts[i] for i in tight], self.max_length, **around) for group in groups]
        for place, i in enumerate(tight):
            built[i] = [part[place] for part in parts]
        return built

    def _run(self, built: Sequence[Sequence[Prompt]]) -> list[list[float]]:
        """Logits of some texts' prompts, those of one text joined; prompts of as many labels run together."""
        by_size: dict[int, list[Prompt]] = {}
        for prompts in built:
            for prompt in prompts:
                by_size.setdefault(prompt.num_labels, []).append(prompt)
        found = {size: iter(self._loaded.scorer.logits(alike).tolist()) for size, alike in by_size.items()}
        return [[logit for prompt in prompts for logit in next(found[prompt.num_labels])] for prompts in built]


def _from_options(cls: type[ZeroShotClassifier], options: dict[str, Any]) -> ZeroShotClassifier:
    return cls.from_pretrained(**options)


def _for_each(values: Any, count: int, name: str, *, one: tuple[type, ...] = ()) -> list[Any]:  # noqa: ANN401
    """A list with one value for each text, from such a list or from one value for all."""
    if isinstance(values, one):
        return [values] * count
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is a {type(values).__name__}, expected one for all texts, or a list.")
    items: list[Any] = list(values)
    if len(items) != count:
        raise ValueError(f"{name} has {len(items)} items for {count} texts: give one for all, or one for each.")
    return items


def _trees_of(labels: Any, count: int) -> tuple[list[LabelTree], list[str]]:  # noqa: ANN401 - checked here
    """The labels of each text, and what an error calls them."""
    if isinstance(labels, (str, bytes, bytearray)) or not isinstance(labels, (Sequence, Mapping)):
        raise TypeError(f"labels is a {type(labels).__name__}, expected a list of str, or a dict of lists.")
    if isinstance(labels, Mapping) or not any(isinstance(item, (list, tuple, Mapping)) for item in labels):
        return [labels] * count, ["labels"] * count
    return _for_each(labels, count, "labels"), [f"labels[{i}]" for i in range(count)]


def _examples_of(examples: Any, count: int) -> list[tuple[str, ...]]:  # noqa: ANN401 - checked here
    """The examples of each text, as the official library writes them, since checkpoints were trained with that."""
    if isinstance(examples, (str, Mapping)) or not isinstance(examples, Iterable | None):
        raise TypeError(f"examples is a {type(examples).__name__}, expected a list of dicts.")
    examples = list(examples or ())
    if all(isinstance(example, Mapping) for example in examples):
        return [tuple(map(_as_text, examples))] * count
    return [tuple(map(_as_text, some or ())) for some in _for_each(examples, count, "examples")]


def _as_text(example: Any) -> str:  # noqa: ANN401 - checked here
    known = example if isinstance(example, Mapping) else {}
    text, labels = known.get("text"), known.get("labels", known.get("true_labels", []))
    labels = [labels] if isinstance(labels, str) else labels
    if (
        not isinstance(text, str)
        or not isinstance(labels, (list, tuple))
        or not all(isinstance(x, str) for x in labels)
    ):
        raise TypeError(f'an example is {example!r}, expected {{"text": ..., "labels": [...]}}.')
    return f"{text} \nLabels:\n {', '.join(labels)}"


def _predict(labels: Sequence[str], scores: Sequence[float], threshold: float | None, kind: str) -> list[Prediction]:
    if kind == "single-label":
        best = max(range(len(scores)), key=scores.__getitem__)
        return [{"label": labels[best], "score": scores[best]}]
    found = zip(labels, scores, strict=True)
    return [{"label": label, "score": score} for label, score in found if score >= (threshold or 0)]
