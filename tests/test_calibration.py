from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from gliclass_rerank.training.platt import (
    Calibration,
    fit_calibration,
    fold_calibration,
    measure_calibration,
)
from gliclass_rerank.training.reading import read_data
from tests.colors import COLORS, write_colors
from tests.random_checkpoints import OfficialPipeline

PASSAGES = ["Bread rises because yeast makes gas.", "Leaves turn light into sugar.", "Grease holds dust."]


def drawn_logits(scale: float, offset: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and answers drawn with the probability of the calibrated logit."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=count) * 3
    return logits, rng.random(count) < 1 / (1 + np.exp(-(scale * logits + offset)))


def test_the_fit_finds_scale_and_offset_that_the_answers_were_drawn_with() -> None:
    fitted = fit_calibration(*drawn_logits(0.5, -2.0))
    assert (fitted.scale, fitted.offset) == pytest.approx((0.5, -2.0), abs=0.1)


def test_calibration_lowers_log_loss_and_error_and_the_threshold_lifts_f1() -> None:
    logits, answers = drawn_logits(0.5, -2.0)
    before, after = (
        measure_calibration(logits, answers),
        measure_calibration(logits, answers, fit_calibration(logits, answers)),
    )
    assert after.log_loss < before.log_loss and after.calibration_error < 0.02 < before.calibration_error
    assert after.f1 > before.f1


def test_the_measures_are_as_defined() -> None:
    logits = np.log([0.92 / 0.08, 0.94 / 0.06, 0.25 / 0.75])
    quality = measure_calibration(logits, [True, False, False], threshold=0.93)
    assert quality.log_loss == pytest.approx(-(np.log(0.92) + np.log(0.06) + np.log(0.75)) / 3)
    assert quality.calibration_error == pytest.approx(2 / 3 * abs(0.93 - 0.5) + 1 / 3 * 0.25)
    assert quality.f1 == 0


@pytest.mark.parametrize(
    ("logits", "answers", "message"),
    [
        ([1.0, 2.0], [True, False], "1 answers and 1 other passages, expected at least 30 of each"),
        (range(200), [i < 100 for i in range(200)], "scale is -"),
    ],
)
def test_what_cannot_be_fitted_is_said(logits, answers, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_calibration(logits, answers)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scorer", ["simple", "weighted-dot", "mlp", "hopfield", "cross-attn"])
def test_folded_logits_are_scaled_and_shifted_in_both_libraries(
    scorer: str, normalize: bool, checkpoint_folder, tmp_path: Path
) -> None:
    pooling = "pass" if scorer == "cross-attn" else "avg"
    folder = checkpoint_folder("bert", scorer_type=scorer, pooling_strategy=pooling, normalize_features=normalize)
    offset = 0.0 if scorer == "simple" else -1.5
    checkpoint = load_checkpoint(folder)
    fold_calibration(checkpoint.network, Calibration(0.25, offset, 0.42))
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path)
    before, after = (
        np.array(GLiClassReranker.from_pretrained(f, device="cpu", dtype="float32").score("a question", PASSAGES))
        for f in (folder, tmp_path)
    )
    logits = np.log(before / (1 - before))
    assert after == pytest.approx(1 / (1 + np.exp(-(0.25 * logits + offset))), abs=1e-5)
    assert after == pytest.approx(np.array(OfficialPipeline(tmp_path).score("a question", PASSAGES)), abs=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["recommended_threshold"] == 0.42


@pytest.mark.parametrize(
    ("others", "answers", "threshold"),
    [
        (np.full(50, -1000.0), np.full(50, 1000.0), 0.99),  # nothing between them
        (np.linspace(-1, 0, 10_000), np.linspace(-0.95, 0.02, 30), 0.01),  # hardly any answer, and no way to know it
    ],
)
def test_a_threshold_keeps_some_and_drops_some(others: np.ndarray, answers: np.ndarray, threshold: float) -> None:
    truth = [False] * len(others) + [True] * len(answers)
    assert fit_calibration(np.concatenate([others, answers]), truth).threshold == threshold


def test_a_dot_product_has_no_place_for_an_offset(checkpoint_folder) -> None:
    network = load_checkpoint(checkpoint_folder("bert")).network
    with pytest.raises(ValueError, match="has no place for one"):
        fold_calibration(network, Calibration(1.0, 0.5, 0.5))


def test_the_command_calibrates_and_changes_no_order(tmp_path: Path) -> None:
    numbers = [str(n) for n in range(10, 90)]
    folder = write_colors(tmp_path / "numbers", colors=numbers, repeat=1)
    result = CliRunner().invoke(
        app, ["calibrate", str(tmp_path / "model"), str(folder), "--questions", "70", "--dtype", "float16"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["after"]["log_loss"] < report["before"]["log_loss"]
    bundled, calibrated = (
        GLiClassReranker.from_pretrained(f, device="cpu", dtype="float32") for f in (None, tmp_path / "model")
    )
    passages = [f"The wall is {c}." for c in COLORS]
    orders = [[hit.index for hit in r.rank("Which wall is green?", passages)] for r in (bundled, calibrated)]
    assert orders[0] == orders[1]
    assert torch.isfinite(torch.tensor(calibrated.score("Which wall is green?", passages))).all()
    again = CliRunner().invoke(app, ["calibrate", str(tmp_path / "model"), str(folder), "--questions", "70"])
    assert again.exit_code == 2 and "already holds a model" in " ".join(again.stderr.split())


def test_the_command_uses_the_questions_that_training_kept_out_and_says_when_there_are_none(tmp_path: Path) -> None:
    folder = write_colors(tmp_path / "few")
    other = write_colors(tmp_path / "other", colors=["mauve", "beige", "pink"])
    data = read_data([folder])
    (tmp_path / "model").mkdir()
    for file in BUNDLED.iterdir():
        (tmp_path / "model" / file.name).symlink_to(file)
    record = tmp_path / "model" / "training.json"

    def stderr_of(source: Path, *options: str) -> str:
        output = str(tmp_path / "calibrated")
        command = ["calibrate", output, str(source), "--model", str(tmp_path / "model"), *options]
        return " ".join(CliRunner().invoke(app, command).stderr.split())

    run = {"data": data.digest, "sources": ["few"]}
    record.write_text(json.dumps({**run, "kept_out": []}))
    assert "trained on all questions of this data" in stderr_of(folder)
    record.write_text(json.dumps({**run, "kept_out": [question.key for question in data.questions[2:5]]}))
    assert "training kept 3 of this data out" in stderr_of(folder, "--questions", "4")
    assert "3 answers and 21 other passages, expected at least 30 of each" in stderr_of(
        folder
    )  # these three are used, and too few
    assert "3 answers and 30 other passages" in stderr_of(other, str(folder))  # whatever lies beside them
    assert "2 answers and 14 other passages" in stderr_of(folder, "--questions", "2")
    assert "trained on other data (few). Say how many." in stderr_of(other)
    record.unlink()
    assert "nothing is known of what this model was trained on" in stderr_of(folder)
