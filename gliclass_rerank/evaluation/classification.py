"""Zero-shot classification, measured: each text has one label, and all labels are shown at once."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gliclass_rerank.data.beir import read_json, read_json_lines
from gliclass_rerank.optional import require
from gliclass_rerank.validation import Dtype, check_count, check_queries, check_texts

LABELS = "labels.json"
_BLOCK = 256  # texts classified at a time, so that a progress bar moves

Classify = Callable[[list[str], list[str]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Some texts, each with one of a few labels.

    Attributes:
        name: The folder's.
        labels: The labels as a model is shown them.
        texts: The texts.
        truth: For each text the position of its label.

    Example:
        >>> LabelledTexts("tea", ["hot", "cold"], ["It steams."], [0]).labels[0]
        'hot'
    """

    name: str
    labels: list[str]
    texts: list[str]
    truth: list[int]


@dataclass(frozen=True, slots=True)
class Classified:
    """How many of a set's texts got their label.

    Attributes:
        name: The set's.
        labels: How many labels there are to choose from.
        texts: How many texts.
        macro_f1: The mean of the F1 of each label that occurs.
        accuracy: The share of texts that got their label.
    """

    name: str
    labels: int
    texts: int
    macro_f1: float
    accuracy: float


def read_labelled_texts(
    folder: str | os.PathLike[str],
    split: str = "test",
    *,
    wording: Sequence[str] | None = None,
    texts: int | None = None,
    seed: int = 0,
) -> LabelledTexts:
    """Read labels.json, a list, and <split>.jsonl, lines of {"text", "label"}.

    Args:
        folder: The set.
        split: Which file of texts.
        wording: What models are shown in place of each label, in the order of labels.json; None
            for the labels themselves, written as words ("PlayMusic" and "play_music" as "Play Music" and
            "play music") where these differ from each other.
        texts: How many, drawn at random; None for all.
        seed: Of what is random.

    Raises:
        OSError: A file is missing or cannot be read.
        TypeError: A label is no str.
        ValueError: A file does not hold what it should; file, line and what was expected are named.

    Example:
        >>> read_labelled_texts("cls_snips").labels  # doctest: +SKIP
        ['Add To Playlist', 'Book Restaurant', ...]
    """
    check_count("texts", texts)
    folder = Path(folder)
    labels = read_json(folder / LABELS)
    if not isinstance(labels, list) or len(set(map(str, labels))) != len(labels) or len(labels) < 2:
        raise ValueError(f"{folder / LABELS}: expected a list of at least two different labels.")
    labels = check_queries(LABELS, labels)
    shown = labels if wording is None else check_queries("wording", check_texts("wording", wording))
    if len(shown) != len(labels) or len(set(shown)) != len(labels):
        raise ValueError(f"wording has {len(set(shown))} different labels, expected {len(labels)}, one for each.")
    words = [as_words(label) for label in labels]
    if wording is None and len(set(words)) == len(labels):
        shown = words
    rows = []
    for place, row in read_json_lines(folder / f"{split}.jsonl"):
        if not isinstance(row.get("text"), str) or row.get("label") not in labels:
            raise ValueError(f'{place}: expected {{"text", "label"}} with a label of {LABELS}.')
        rows.append((row["text"], labels.index(row["label"])))
    if not rows:
        raise ValueError(f"{folder / f'{split}.jsonl'} holds no texts.")
    if texts is not None and texts < len(rows):
        rows = random.Random(seed).sample(rows, texts)
    return LabelledTexts(folder.resolve().name, shown, [text for text, _ in rows], [truth for _, truth in rows])


def as_words(label: str) -> str:
    """A label as words.

    Args:
        label: For instance a name from a program.

    Example:
        >>> as_words("PlayMusic"), as_words("play_music")
        ('Play Music', 'play music')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label.replace("_", " "))


def evaluate_classification(
    data: LabelledTexts, classify: Classify, advance: Callable[[int], None] = lambda _: None
) -> Classified:
    """Classify a set's texts and count.

    Args:
        data: See ``read_labelled_texts``.
        classify: Called with some texts and all labels, gives one of the labels for each text.
        advance: Told how many more texts are done, for a progress bar.

    Raises:
        ImportError: The extra "eval" is not installed.
        ValueError: ``classify`` gives what is no label.

    Example:
        >>> tea = LabelledTexts("tea", ["hot", "cold"], ["It steams.", "It is iced."], [0, 1])
        >>> evaluate_classification(tea, lambda texts, labels: ["hot"] * len(texts)).accuracy
        0.5
    """
    require("sklearn", extra="eval")
    from sklearn.metrics import accuracy_score, f1_score

    answers: list[int] = []
    for start in range(0, len(data.texts), _BLOCK):
        texts = data.texts[start : start + _BLOCK]
        answers += map(data.labels.index, classify(texts, list(data.labels)))
        advance(len(texts))
    occurring = sorted(set(data.truth))
    return Classified(
        data.name,
        len(data.labels),
        len(data.texts),
        float(f1_score(data.truth, answers, average="macro", labels=occurring, zero_division=0)),
        float(accuracy_score(data.truth, answers)),
    )


def nli_classifier(model: str | os.PathLike[str], device: str | None = None, dtype: Dtype = "auto") -> Classify:
    """A model for natural language inference, which reads each text with each label in a pass of its own.

    Args:
        model: A hub name or a local folder of a sequence classifier with a label "entailment"; only
            safetensors are read.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU.
        dtype: See ``GLiClassReranker.from_pretrained``.

    Returns:
        What ``evaluate_classification`` calls: transformers' own pipeline for zero-shot classification.

    Raises:
        OSError: The model cannot be found.
        ValueError: The device or dtype cannot be had, or the model has no label "entailment".

    Example:
        >>> classify = nli_classifier("MoritzLaurer/deberta-v3-base-zeroshot-v2.0")  # doctest: +SKIP
        >>> classify(["The match ended in a draw."], ["sports", "cooking"])  # doctest: +SKIP
        ['sports']
    """
    from transformers import pipeline

    from gliclass_rerank.engine.scorer import choose_device, choose_dtype

    where = choose_device(device)
    run = pipeline(
        "zero-shot-classification",
        model=os.fspath(model),
        device=where,
        dtype=choose_dtype(dtype, where),
        model_kwargs={"use_safetensors": True},
    )
    if run.entailment_id < 0:
        raise ValueError(f"{os.fspath(model)} has no label 'entailment', so it is no model for inference.")

    def classify(texts: list[str], labels: list[str]) -> list[str]:
        filled = [text or " " for text in texts]  # the pipeline takes no empty one
        return [prediction["labels"][0] for prediction in run(filled, candidate_labels=labels)]

    return classify
