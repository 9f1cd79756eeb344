"""Calibrate a checkpoint on questions that it was not trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import (
    Checkpoint,
    check_unused,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from gliclass_rerank.engine.scorer import GLiClassScorer
from gliclass_rerank.training.data import Question, TrainingData, spread
from gliclass_rerank.training.labels import fit_labels
from gliclass_rerank.training.platt import (
    Calibration,
    Quality,
    fit_calibration,
    fold_calibration,
    has_offset,
    measure_calibration,
)
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.start import stored_dtype
from gliclass_rerank.training.train import KEPT_OUT, RECORD

_CANDIDATES = 20  # of BM25 for each question, as a reranker gets them


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What was fitted on all questions, and its quality by fitting on every other question and measuring on the rest.

    Attributes:
        calibration: What the saved checkpoint holds.
        before: Without calibration, at threshold 0.5.
        after: With one fitted on the other half, at its threshold.
        pairs: How many pairs of question and passage there were.
    """

    calibration: Calibration
    before: Quality
    after: Quality
    pairs: int

    def as_dict(self) -> dict[str, Any]:
        """Every figure, rounded, ready for JSON."""
        return {
            name: {key: round(figure, 4) for key, figure in value.items()} if isinstance(value, dict) else value
            for name, value in asdict(self).items()
        }


def calibrate(
    model: str | os.PathLike[str] | None,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    questions: int | None = None,
    exclude: Collection[str] = (),
    dtype: torch.dtype | None = None,
) -> CalibrationReport:
    """Fit scale and offset of a checkpoint's logits, and save it with them in its last layer.

    The order of passages stays as it is. The config gets ``recommended_threshold``.

    Args:
        model: A GLiClass checkpoint (hub name or folder; None for the bundled model).
        sources: Data as for training.
        output: Folder for the calibrated checkpoint.
        questions: How many questions, spread evenly over all of them, or over those that were kept
            out when the model was trained on this data; None for all of these.
        exclude: Ids of passages to leave out.
        dtype: What the weights are saved as; None for what the model's are stored as.

    Raises:
        CheckpointError: The checkpoint cannot be loaded.
        OSError: A file is missing.
        ValueError: There are too few pairs, the data is not what it should be, the model was
            trained on so many of these questions that too few are left, or the output holds a model.

    Example:
        >>> calibrate("my-model", ["squad_train"], "my-calibrated-model", questions=300)  # doctest: +SKIP
    """
    check_unused(output)
    folder = find_checkpoint(model)
    data = read_data(sources, exclude=exclude)
    logits, answers, halves = _score(load_checkpoint(folder), data, _choose(folder, data, questions))
    checkpoint = load_checkpoint(folder)  # anew: a scorer lays weights out in its own way
    with_offset = has_offset(checkpoint.network)
    on_all = fit_calibration(logits, answers, with_offset=with_offset)
    first = halves == 0
    fitted = fit_calibration(logits[first], answers[first], with_offset=with_offset)
    report = CalibrationReport(
        on_all,
        measure_calibration(logits[~first], answers[~first]),
        measure_calibration(logits[~first], answers[~first], fitted),
        len(logits),
    )
    fold_calibration(checkpoint.network, report.calibration)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, output, dtype=dtype or stored_dtype(folder))
    return report


def _choose(folder: Path, data: TrainingData, questions: int | None) -> list[Question]:
    """Questions that the model was not trained on, as far as is known."""
    record = folder / RECORD
    run = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    kept_out = set(run.get(KEPT_OUT, ()))
    unseen = [question for question in data.questions if question.key in kept_out]
    if unseen:
        if questions is not None and questions > len(unseen):
            raise ValueError(
                f"questions is {questions}, but training kept {len(unseen)} of this data out: the model knows the "
                "others. Leave questions away."
            )
        return spread(unseen, len(unseen) if questions is None else questions)
    if run.get("data") == data.digest:
        raise ValueError("the model was trained on all questions of this data. Calibrate it on other data.")
    if questions is None:
        past = (
            f"the model was trained on other data ({', '.join(run['sources'])})"
            if "sources" in run
            else "nothing is known of what this model was trained on"
        )
        raise ValueError(f"questions is missing: {past}. Say how many.")
    return spread(data.questions, questions)


def _score(
    checkpoint: Checkpoint, data: TrainingData, questions: Sequence[Question]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Logit of each pair, whether the passage answers, and which half the question belongs to."""
    scorer = GLiClassScorer(checkpoint.network, dtype="float32")
    index = KeywordIndex(passage.whole for passage in data.passages)
    logits: list[float] = []
    answers: list[bool] = []
    halves: list[int] = []
    for i, question in enumerate(progress(questions, "scoring")):
        hits = index.search(question.text, top_k=_CANDIDATES)
        # Without those that hold the answer's words, but are not marked: nobody knows about them.
        known = [hit for hit in hits if hit in question.passages or not question.is_named_in(data.passages[hit].whole)]
        labels = fit_labels(checkpoint.prompts, [question.text], checkpoint.max_length)
        prompts = checkpoint.prompts.build(labels, [data.passages[hit].whole for hit in known], checkpoint.max_length)
        logits += scorer.logits(prompts)[:, 0].tolist() if prompts else []
        answers += [hit in question.passages for hit in known]
        halves += [i % 2] * len(known)
    return np.array(logits), np.array(answers, dtype=bool), np.array(halves)
