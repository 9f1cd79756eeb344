"""Held-out questions: which they are, how training measures on them, and what it does with the scores."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.training.data import Passage, Question, TrainingData, set_aside
from gliclass_rerank.training.log import TrainingLog
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.start import start_from_encoder
from tests.colors import COLORS
from tests.json_lines import write_rows
from tests.training_runs import PowerCutError, cut_after, read_log, read_record, run, write_bare_encoder

PASSAGES = [f"The wall is {color}." for color in COLORS]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that has learned nothing."""
    folder = tmp_path_factory.mktemp("start")
    save_checkpoint(*start_from_encoder(write_bare_encoder(folder / "encoder"), "bare"), folder / "model")
    return folder / "model"


def write_walls(file: Path, answers: list[str], questions: list[str] | None = None) -> Path:
    rows = [
        {"query": question, "positives": [answer], "negatives": [p for p in PASSAGES if p != answer]}
        for question, answer in zip(questions or [f"Which wall is {c}?" for c in COLORS], answers, strict=True)
    ]
    return write_rows(file, *rows)


def dev_scores(folder: Path) -> dict[int, float]:
    return {line["step"]: line["dev_ndcg@10"] for line in read_log(folder) if "dev_ndcg@10" in line}


# Which questions are held out


def shared_by(data: TrainingData, questions: list[Question], attribute: str) -> set[str]:
    return {getattr(data.passages[i], attribute) for question in questions for i in question.passages}


@pytest.mark.parametrize("count", [1, 4, 20])
def test_held_out_questions_share_no_passage_and_no_title_with_others(count: int) -> None:
    passages = [Passage(f"title {i // 3}", f"passage {i}") for i in range(60)]
    data = TrainingData(passages, [Question(str(i), (i % 60, (i + 1) % 3 + i % 60 // 3 * 3)) for i in range(180)])
    rest, aside = set_aside(data, count)
    assert len(aside) == count and len(rest.questions) >= 90
    for attribute in ("text", "title"):
        assert not shared_by(data, aside, attribute) & shared_by(data, rest.questions, attribute)


def test_held_out_questions_come_from_ten_titles_where_these_are_long() -> None:
    passages = [Passage(f"title {i}", f"passage {i}") for i in range(40)]
    data = TrainingData(passages, [Question(str(i), (i // 50,)) for i in range(2000)])
    _, aside = set_aside(data, 30)
    assert len(shared_by(data, aside, "title")) == 10


def test_a_title_of_nearly_all_passages_does_not_count() -> None:
    passages = [Passage("FAQ", f"passage {i}") for i in range(20)]
    data = TrainingData(passages, [Question(str(i), (i // 2,)) for i in range(40)])
    rest, aside = set_aside(data, 6)
    assert len(aside) == 6 and len(rest.questions) >= 40 - 12
    assert not shared_by(data, aside, "text") & shared_by(data, rest.questions, "text")


def test_where_all_questions_share_passages_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = TrainingData([Passage("", "one"), Passage("", "two")], [Question(str(i), (0, 1)) for i in range(6)])
    rest, aside = set_aside(data, 2)
    assert [question.text for question in aside] == ["0", "3"] and len(rest.questions) == 4
    assert "held-out questions share passages with others" in caplog.text


def test_held_out_questions_do_not_change_training(start: Path, tmp_path: Path) -> None:
    questions = [f"Which wall is {c}?" for c in COLORS]

    def train_with(name: str, changed: int | None) -> list[dict[str, float]]:
        texts = ["Where is bread?" if i == changed else question for i, question in enumerate(questions)]
        write_walls(tmp_path / "walls.jsonl", PASSAGES, texts)
        options = ["--start", start, "--steps", 10, "--held-out", 1]
        run("train", tmp_path / name, tmp_path / "walls.jsonl", *options)
        return [line for line in read_log(tmp_path / name) if "loss" in line]

    losses = train_with("as it is", None)
    keys = [Question(question.upper(), ()).key for question in questions]
    [held_out] = [keys.index(key) for key in read_record(tmp_path / "as it is")["kept_out"]]
    assert losses == train_with("another held out", held_out) != train_with("another trained on", (held_out + 1) % 8)


# What training does with them


@pytest.fixture(scope="module")
def expert(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows which wall has which colour."""
    folder = tmp_path_factory.mktemp("expert")
    walls = write_walls(folder / "walls.jsonl", PASSAGES)
    run("train", folder / "model", walls, "--start", start, "--steps", 60, "--learning-rate", 5e-3)
    return folder / "model"


@pytest.fixture(scope="module")
def lies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True answers to the two questions that training will hold out, and a wrong one to each without its question mark."""
    file = tmp_path_factory.mktemp("lies") / "lies.jsonl"
    _, aside = set_aside(read_data([write_walls(file, PASSAGES)]), 2)
    true = [question.passages[0] for question in aside]
    wrong = next(i for i in range(len(PASSAGES)) if i not in true)
    questions = [f"Which wall is {c}?" for c in COLORS] + [f"Which wall is {COLORS[i]}" for i in true]
    return write_walls(file, [*PASSAGES, *[PASSAGES[wrong]] * 2], questions)


def options_from(start: Path) -> list[object]:
    return ["--start", start, "--held-out", 2, "--learning-rate", 5e-3]


def test_the_dev_score_is_known_before_the_first_step_and_shown_in_pipes(start: Path, tmp_path: Path) -> None:
    walls = write_walls(tmp_path / "walls.jsonl", PASSAGES)
    output = run("train", tmp_path / "m", walls, "--start", start, "--steps", 7, "--save-every", 5, "--held-out", 2)
    assert list(dev_scores(tmp_path / "m")) == [0, 5, 7]
    for line in ("training from step 0 to 7", "step 0 of 7  dev ndcg@10 ", "step 7 of 7  ", "the model is in"):
        assert line in output


def test_a_run_that_never_improves_saves_its_start_and_says_so(expert: Path, lies: Path, tmp_path: Path) -> None:
    output = run("train", tmp_path / "m", lies, *options_from(expert), "--steps", 40)
    scores = dev_scores(tmp_path / "m")
    assert scores[0] == 1 > scores[40]
    before, after = (load_checkpoint(folder).network.state_dict() for folder in (expert, tmp_path / "m"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    message = "no state ranks the held-out questions better than the start"
    assert message in output and message in read_log(tmp_path / "m")[-1]["result"]


def test_the_best_state_is_saved(start: Path, tmp_path: Path) -> None:
    walls = write_walls(tmp_path / "walls.jsonl", PASSAGES)
    arguments = [walls, *options_from(start)]
    run("train", tmp_path / "long", *arguments, "--steps", 40, "--save-every", 4)
    scores = dev_scores(tmp_path / "long")
    best = max(scores, key=lambda step: (scores[step], step))
    assert read_log(tmp_path / "long")[-1]["saved_step"] == best
    assert f"(saved) | {scores[best]:.4f} |" in (tmp_path / "long" / "README.md").read_text()


def test_patience_stops_a_run_and_a_power_cut_changes_nothing(expert: Path, lies: Path, tmp_path: Path) -> None:
    arguments = [lies, *options_from(expert), "--steps", 60, "--save-every", 4, "--patience", 4]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run("train", whole, *arguments)
    for steps in (6, 7):  # the first cut is behind step 4, the second behind step 8
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gliclass_rerank.training.trainer.GroupTrainer.compute_loss", cut_after(steps))
            with pytest.raises(PowerCutError):
                CliRunner().invoke(app, ["train", str(stopped), *map(str, arguments)], catch_exceptions=False)
    run("train", stopped, *arguments)
    assert dev_scores(whole) == dev_scores(stopped) and max(dev_scores(whole)) == 16
    ends = [load_checkpoint(folder).network.state_dict() for folder in (whole, stopped)]
    assert max((ends[0][name] - tensor).abs().max().item() for name, tensor in ends[1].items()) < 1e-6


def test_ranking_shows_how_many_questions_are_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gliclass_rerank.training"):
        assert list(TrainingLog(tmp_path / "log.jsonl").ranking([1, 2, 3])) == [1, 2, 3]
    assert caplog.messages == ["ranked 0 of 3 held-out questions"]


# What else a run leaves


def test_hard_negatives_are_written_as_lines_that_training_reads(start: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", *({"query": f"Which is {c}?", "positives": [f"It is {c}."]} for c in COLORS))
    file = tmp_path / "new" / "negatives.jsonl"
    run("train", tmp_path / "m", tmp_path / "rows.jsonl", "--start", start, "--steps", 1, "--negatives", file)
    before, after = read_data([tmp_path / "rows.jsonl"]), read_data([file])
    assert [question.text for question in after.questions] == [question.text for question in before.questions]
    for question in after.questions:
        assert question.negatives and not set(question.negatives) & set(question.passages)


def test_the_card_says_where_the_model_comes_from_and_how_to_load_it(start: Path, tmp_path: Path) -> None:
    walls = write_walls(tmp_path / "walls.jsonl", PASSAGES)
    run("train", tmp_path / "my-model", walls, "--start", start, "--steps", 2, "--held-out", 2)
    card = (tmp_path / "my-model" / "README.md").read_text()
    for line in (f"from `{start.name}`.", "| walls.jsonl | 8 | 0 |", "| steps | 2 |", "| before training"):
        assert line in card
    block = card.split("```python\n")[1].split("```")[0].replace('"my-model"', repr(str(tmp_path / "my-model")))
    names: dict[str, object] = {}
    exec(block, names)
    assert isinstance(names["reranker"], GLiClassReranker) and len(names["hits"]) == 2


@pytest.fixture
def tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A writer for TensorBoard where none is installed."""
    (tmp_path / "tensorboardX.py").write_text(
        "from pathlib import Path\n"
        "class SummaryWriter:\n"
        "    def __init__(self, log_dir):\n"
        "        Path(log_dir).mkdir(parents=True)\n"
        "        self.file = Path(log_dir) / 'events.txt'\n"
        "    def add_text(self, *_): pass\n"
        "    def add_scalar(self, name, value, step):\n"
        "        with self.file.open('a') as file: file.write(f'{name} {step}\\n')\n"
        "    def flush(self): pass\n"
        "    def close(self): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tensorboardX", None)


@pytest.mark.usefixtures("tensorboard")
def test_reports_stay_in_the_output(start: Path, tmp_path: Path) -> None:
    walls = write_walls(tmp_path / "walls.jsonl", PASSAGES)
    options = ["--steps", 2, "--held-out", 2, "--report-to", "tensorboard"]
    run("train", tmp_path / "m", walls, "--start", start, *options)
    [events] = (tmp_path / "m" / "runs").glob("*/events*")
    if events.suffix == ".txt":  # not where TensorBoard itself is installed
        assert "train/dev_ndcg@10 0" in events.read_text()
