"""What ``gliclass-rerank eval`` does with sets of labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.markup import escape
from rich.progress import Progress

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.cli.terminal import errors
from gliclass_rerank.evaluation.classification import (
    Classified,
    Classify,
    LabelledTexts,
    evaluate_classification,
    nli_classifier,
)


def load_classifiers(
    models: Mapping[str, str | None], cross_encoders: Mapping[str, str | None], options: Mapping[str, Any]
) -> dict[str, Classify]:
    """What classifies, by name; behind that of a cross-encoder stands (NLI).

    Args:
        models: GLiClass checkpoints by name; None for the bundled model.
        cross_encoders: Models for natural language inference by name.
        options: "dtype" and "device".

    Raises:
        CheckpointError: See ``ZeroShotClassifier.from_pretrained``.
        OSError: See ``nli_classifier``.
        ValueError: See both.

    Example:
        >>> list(load_classifiers({"bundled": None}, {}, {"dtype": "auto", "device": None}))
        ['bundled']
    """

    def load(model: str | None) -> Classify:
        classifier = ZeroShotClassifier.from_pretrained(model, classification_type="single-label", **options)

        def classify(texts: list[str], labels: list[str]) -> list[str]:
            found: list[Any] = classifier(texts, labels)
            return [best["label"] for [best] in found]

        return classify

    return {name: load(model) for name, model in models.items()} | {
        f"{name} (NLI)": nli_classifier(str(model), options["device"], options["dtype"])
        for name, model in cross_encoders.items()
    }


def classify_sets(sets: Sequence[LabelledTexts], classifiers: Mapping[str, Classify]) -> dict[str, list[Classified]]:
    """What came of each set, by classifier, under a progress bar.

    Args:
        sets: The sets.
        classifiers: From ``load_classifiers``.

    Raises:
        ImportError: The extra "eval" is not installed.

    Example:
        >>> data = LabelledTexts("tea", ["hot", "cold"], ["It steams."], [0])
        >>> classify_sets([data], {"always hot": lambda texts, labels: ["hot"]})["always hot"][0].accuracy
        1.0
    """
    results: dict[str, list[Classified]] = {name: [] for name in classifiers}
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        for data in sets:
            for name, classify in classifiers.items():
                task = progress.add_task(escape(f"{data.name}, {name}"), total=len(data.texts))
                results[name].append(evaluate_classification(data, classify, partial(progress.advance, task)))
    return results
