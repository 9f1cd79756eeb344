"""Zero-shot classification on the same engine: topics, sentiment, statements that follow from a text."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, get_args

from gliclass_rerank.options import ModelOptions
from gliclass_rerank.probabilities import sigmoid, softmax
from gliclass_rerank.prompt.label_tree import LabelTree, flatten, nest
from gliclass_rerank.validation import Dtype, check_choice, check_model, check_texts, check_threshold, is_list, kind

if TYPE_CHECKING:
    from gliclass_rerank.engine.loading import LoadedModel
    from gliclass_rerank.engine.passages import LabelledPassage, PassageLogits

ClassificationType = Literal["multi-label", "single-label"]


class Prediction(TypedDict):
    """A label and its score."""

    label: str
    score: float


class ZeroShotClassifier:
    """Scores labels against texts, like the official ``ZeroShotClassificationPipeline``. Threads may share one.

    Make it with ``from_pretrained``. Results are those of the official pipeline at batch size 1 if everything
    fits into ``max_length``. If not, the text is cut (a warning says which), never a label or an example; and
    labels that take more than half of the room are shared out over several prompts. A text cannot forge the
    prompt, and equal labels stay apart.

    Args:
        model: A loaded checkpoint and the scorer that runs it.
        options: The options that the model was loaded with.
        classification_type: "multi-label" for any number of labels, each with its own score; "single-label"
            for the best one, with scores that add up to 1.
        label_separator: Joins the levels of hierarchical labels.

    Attributes:
        engine: Scores passages; rerankers of the same checkpoint share its weights.
        max_length: Tokens per sequence, labels and text together.

    Raises:
        ValueError: ``max_length`` exceeds the encoder's positions, or ``classification_type`` is unknown.
    """

    def __init__(
        self,
        model: LoadedModel,
        options: ModelOptions,
        *,
        classification_type: ClassificationType = "multi-label",
        label_separator: str = ".",
    ) -> None:
        from gliclass_rerank.engine.passages import PassageScorer

        check_choice("classification_type", classification_type, get_args(ClassificationType))
        # A reranker's options hold more than a classifier can be made from.
        self.options = ModelOptions(**{field.name: getattr(options, field.name) for field in fields(ModelOptions)})
        self.classification_type = classification_type
        self.label_separator = label_separator
        self.engine = PassageScorer(model, max_length=options.max_length, noun="label", scores_empty=True)
        self.max_length = self.engine.max_length

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
            model: A hub name or a local folder; None for the bundled model, which was trained mainly to rank.
            device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is
                present.
            dtype: "auto" for bf16 where the hardware runs it fast, else fp32; or "float32",
                "bfloat16", "float16".
            max_length: Tokens per sequence, labels and text together; None for the smallest of the
                encoder's positions, the tokenizer's limit and 1024.
            classification_type: "multi-label" or "single-label"; a call may choose again.
            label_separator: Joins the levels of hierarchical labels.
            revision: Branch, tag or commit on the hub.
            token: Access token for the hub; it is not stored.

        Raises:
            CheckpointError: The checkpoint cannot be found or used (a ValueError).
            ValueError: This machine lacks the device, or another option is out of range.

        Example:
            >>> ZeroShotClassifier.from_pretrained(device="cpu").max_length
            512
        """
        from gliclass_rerank.engine.loading import load_model

        place = None if device is None else str(device)  # a torch.device is fine too
        options = ModelOptions(check_model(model), place, dtype, max_length, revision)
        loaded = load_model(options.model, revision=revision, token=token, device=place, dtype=dtype)
        options = replace(options, model=loaded.model)
        return cls(loaded, options, classification_type=classification_type, label_separator=label_separator)

    def __repr__(self) -> str:
        model = self.engine.model
        return f"ZeroShotClassifier({model.checkpoint.name!r}, device={str(model.scorer.device)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        own = {"classification_type": self.classification_type, "label_separator": self.label_separator}
        settings: dict[str, Any] = {**asdict(self.options), **own}
        return partial(type(self).from_pretrained, **settings), ()

    def __copy__(self) -> Self:
        return self  # a classifier never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __call__(
        self,
        texts: str | Iterable[str],
        labels: LabelTree | Sequence[LabelTree],
        threshold: float | Sequence[float] | None = 0.5,
        classification_type: ClassificationType | int | None = None,
        *,
        batch_size: int | None = None,
        examples: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
        rac_examples: Sequence[Any] | None = None,
        prompt: str | Sequence[str] | None = None,
        return_hierarchical: bool = False,
    ) -> list[list[Prediction]] | list[dict[str, Any]]:
        """Classify texts.

        Args:
            texts: A text, or several. For natural language inference, the premise.
            labels: A list of labels, or a dict of lists (of dicts, ...), whose levels are joined by the
                separator; or one such list or dict for each text. For inference, the hypotheses.
            threshold: Multi-label: return labels with ``score >= threshold``, in [0, 1], None for all; or one
                threshold for each text.
            classification_type: None for the classifier's own. An int is accepted in this place, where the official
                pipeline has its batch size.
            batch_size: Accepted for the official pipeline's sake; batches are planned by tokens.
            examples: Few-shot examples, each with "text" and "labels"; or a list of them for each text.
            rac_examples: Must be None: retrieved examples are given as ``examples``.
            prompt: A description of the task, written in front of the text; or one for each text.
            return_hierarchical: Whether to return all scores in the shape of the labels.

        Returns:
            For each text a list of ``{"label": ..., "score": ...}`` in the order of the labels
            (single-label: only the best one); or the scores of all labels in the shape of the labels.

        Raises:
            TypeError: An argument has the wrong type; a text or label is named by its index.
            ValueError: There is no label, a value is out of range, a list is not as long as ``texts``, there are
                examples but the checkpoint has no token for them, or a label leaves the text no room.
            FloatingPointError: The model gave a logit that is not finite.

        Example:
            >>> classifier = ZeroShotClassifier.from_pretrained(device="cpu", classification_type="single-label")
            >>> [[prediction]] = classifier("The match ended in a draw.", ["sports", "cooking"])
            >>> prediction["label"]
            'sports'
        """
        if rac_examples:
            raise ValueError("rac_examples is given; this classifier takes such examples as examples=[...].")
        if classification_type is None or isinstance(classification_type, int):
            classification_type = self.classification_type
        check_choice("classification_type", classification_type, get_args(ClassificationType))
        texts = check_texts("texts", [texts] if isinstance(texts, str) else texts)
        count = len(texts)
        trees, tree_names = _label_trees(labels, count)
        label_lists = [
            tuple(flatten(tree, self.label_separator, name)) for tree, name in zip(trees, tree_names, strict=True)
        ]
        for text_labels, name in zip(label_lists, tree_names, strict=True):
            if not text_labels:
                raise ValueError(f"{name} is empty; expected at least one label.")
        thresholds: list[float | None] = _one_per_text(threshold, count, "threshold", single=(Real, type(None)))
        for value in thresholds:
            check_threshold("threshold", value)
        tasks = _one_per_text(prompt, count, "prompt", single=(str, type(None)))
        tasks = check_texts("prompt", [task or "" for task in tasks])
        rows = self._logits(texts, label_lists, tasks, _example_texts(examples, count))
        scores = [score_labels(row, classification_type) for row in rows]
        if return_hierarchical:
            return [nest(tree, text_scores) for tree, text_scores in zip(trees, scores, strict=True)]
        return [
            choose_labels(text_labels, text_scores, value, classification_type)
            for text_labels, text_scores, value in zip(label_lists, scores, thresholds, strict=True)
        ]

    def _logits(
        self,
        texts: Sequence[str],
        label_lists: Sequence[tuple[str, ...]],
        tasks: Sequence[str],
        examples: Sequence[tuple[str, ...]],
    ) -> list[list[float]]:
        """Logits by text and label."""
        from gliclass_rerank.engine.passages import LabelledPassage

        shares = self.engine.share_labels(
            [
                LabelledPassage(labels, text, task=task, examples=text_examples)
                for text, labels, task, text_examples in zip(texts, label_lists, tasks, examples, strict=True)
            ]
        )
        rows, cut = join_logits(shares, self.engine.score([pair for pairs in shares for pair in pairs]))
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(texts)} texts were cut to {self.max_length} tokens, first texts[{cut[0]}].",
                stacklevel=3,
            )
        return rows


def _one_per_text(values: Any, count: int, name: str, *, single: tuple[type, ...] = ()) -> list[Any]:  # noqa: ANN401
    """A list with one value for each text, from such a list or from a single value for all."""
    if isinstance(values, single):
        return [values] * count
    if not is_list(values):
        raise TypeError(f"{name} is {kind(values)}; expected one value for all texts, or a list with one for each.")
    items: list[Any] = list(values)
    if len(items) != count:
        raise ValueError(f"{name} has {len(items)} items for {count} texts: give one for all, or one for each.")
    return items


def _label_trees(labels: Any, count: int) -> tuple[list[LabelTree], list[str]]:  # noqa: ANN401 - checked here
    """The labels of each text, and the name that an error gives them."""
    if isinstance(labels, (str, bytes, bytearray)) or not isinstance(labels, (Sequence, Mapping)):
        raise TypeError(f"labels is {kind(labels)}; expected a list of str, or a dict of lists.")
    if isinstance(labels, Mapping) or not any(isinstance(item, (list, tuple, Mapping)) for item in labels):
        return [labels] * count, ["labels"] * count
    return _one_per_text(labels, count, "labels"), [f"labels[{i}]" for i in range(count)]


def _example_texts(examples: Any, count: int) -> list[tuple[str, ...]]:  # noqa: ANN401 - checked here
    """The examples of each text, as the official library writes them: checkpoints were trained with that."""
    if examples is not None and not is_list(examples):
        raise TypeError(f"examples is {kind(examples)}; expected a list of dicts, or one such list for each text.")
    examples = list(() if examples is None else examples)
    if not examples or any(isinstance(example, Mapping) for example in examples):
        return [tuple(map(_example_text, examples))] * count
    for i, text_examples in enumerate(examples):
        if text_examples is not None and not is_list(text_examples):
            raise TypeError(f"examples[{i}] is {kind(text_examples)}; expected a dict, or a list of dicts.")
    lists = _one_per_text(examples, count, "examples")
    return [tuple(map(_example_text, text_examples or ())) for text_examples in lists]


def _example_text(example: Any) -> str:  # noqa: ANN401 - checked here
    fields = example if isinstance(example, Mapping) else {}
    text, labels = fields.get("text"), fields.get("labels", fields.get("true_labels", []))
    labels = [labels] if isinstance(labels, str) else labels
    is_list = isinstance(labels, (list, tuple)) and all(isinstance(label, str) for label in labels)
    if not isinstance(text, str) or not is_list:
        raise TypeError(f'an example is {example!r}; expected {{"text": ..., "labels": [...]}}.')
    return f"{text} \nLabels:\n {', '.join(labels)}"


def join_logits(
    shares: Sequence[Sequence[LabelledPassage]], results: Iterable[PassageLogits]
) -> tuple[list[list[float]], list[int]]:
    """Join the results of the prompts that share the labels of a text.

    Args:
        shares: The prompts of each text, as ``PassageScorer.share_labels`` returns them.
        results: One result per prompt, in the same order.

    Returns:
        A list of logits for each text, one per label; and the indexes of the texts that were cut.
    """
    remaining = iter(results)
    by_text = [[next(remaining) for _ in pairs] for pairs in shares]
    rows = [[logit for result in text_results for logit in result.logits] for text_results in by_text]
    return rows, [i for i, text_results in enumerate(by_text) if any(result.truncated for result in text_results)]


def score_labels(logits: Sequence[float], classification_type: ClassificationType) -> list[float]:
    """Turn the logits of one text's labels into scores.

    Args:
        logits: One per label.
        classification_type: "multi-label": each in [0, 1]; "single-label": they add up to 1.

    Example:
        >>> score_labels([0.0, 0.0], "single-label")
        [0.5, 0.5]
    """
    return softmax(logits) if classification_type == "single-label" else [*map(sigmoid, logits)]


def choose_labels(
    labels: Sequence[str], scores: Sequence[float], threshold: float | None, classification_type: ClassificationType
) -> list[Prediction]:
    """The labels of one text that its scores let through.

    Args:
        labels: The labels.
        scores: One per label.
        threshold: Multi-label: return labels with at least this score; None for all.
        classification_type: "multi-label", or "single-label" for only the best label.

    Example:
        >>> choose_labels(["tea", "rain"], [0.9, 0.2], 0.5, "multi-label")
        [{'label': 'tea', 'score': 0.9}]
    """
    if classification_type == "single-label":
        best = max(range(len(scores)), key=scores.__getitem__)
        return [{"label": labels[best], "score": scores[best]}]
    pairs = zip(labels, scores, strict=True)
    return [{"label": label, "score": score} for label, score in pairs if score >= (threshold or 0)]
