"""Classify sets of labelled texts, for ``gliclass-rerank eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.data.progress import progress_bar
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
    """Load classifiers; the name of a cross-encoder gets the suffix (NLI).

    Args:
        models: GLiClass checkpoints by name; None for the bundled model.
        cross_encoders: Models for natural language inference by name.
        options: "dtype" and "device".

    Returns:
        By name, a function of texts and labels that returns the best label of each text.

    Raises:
        CheckpointError: A checkpoint cannot be found or used.
        OSError: A cross-encoder cannot be found.
        ValueError: A cross-encoder has no label for entailment, or an option is wrong.

    Example:
        >>> list(load_classifiers({"bundled": None}, {}, {"dtype": "auto", "device": None}))
        ['bundled']
    """

    def load(model: str | None) -> Classify:
        classifier = ZeroShotClassifier.from_pretrained(model, classification_type="single-label", **options)

        def classify(texts: list[str], labels: list[str]) -> list[str]:
            predictions: list[Any] = classifier(texts, labels)
            return [best["label"] for [best] in predictions]

        return classify

    return {name: load(model) for name, model in models.items()} | {
        f"{name} (NLI)": nli_classifier(str(model), options["device"], options["dtype"])
        for name, model in cross_encoders.items()
    }


def classify_sets(sets: Sequence[LabelledTexts], classifiers: Mapping[str, Classify]) -> dict[str, list[Classified]]:
    """Classify each set with each classifier, under a progress bar.

    Args:
        sets: The sets.
        classifiers: The result of ``load_classifiers``.

    Returns:
        By classifier, the results of the sets in their order.

    Raises:
        ImportError: The extra "eval" is not installed.

    Example:
        >>> data = LabelledTexts("tea", ["hot", "cold"], ["It steams."], [0])
        >>> classify_sets([data], {"always hot": lambda texts, labels: ["hot"]})["always hot"][0].accuracy
        1.0
    """
    results: dict[str, list[Classified]] = {name: [] for name in classifiers}
    for data in sets:
        for name, classify in classifiers.items():
            with progress_bar(f"{data.name}, {name}", len(data.texts)) as advance:
                results[name].append(evaluate_classification(data, classify, advance))
    return results
