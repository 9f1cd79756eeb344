from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel
from typer.testing import CliRunner

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.training.data import Passage, Question, TrainingData
from gliclass_rerank.training.encoders import encode
from gliclass_rerank.training.mining import last_state
from gliclass_rerank.training.platt import Calibration, fold_calibration
from gliclass_rerank.training.settings import LOSSES
from gliclass_rerank.training.start import start_from_encoder, stored_dtype
from gliclass_rerank.training.teacher import ask_teacher
from tests.colors import COLORS
from tests.json_lines import write_rows
from tests.random_checkpoints import OfficialPipeline
from tests.training_runs import PowerCutError, cut_after, read_log, read_record, run, write_bare_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bare_encoder(tmp_path_factory.mktemp("encoder"))


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if "loss" in line]


# What no model can know before it is told.
SECRETS = {
    "red": "kettle",
    "blue": "anchor",
    "green": "violin",
    "white": "ladder",
    "black": "pepper",
    "brown": "castle",
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "secrets.jsonl"
    passages = [f"It is the {word}." for word in SECRETS.values()]
    rows = [
        {"query": f"Which is {color}?", "positives": [right], "negatives": [p for p in passages if p != right]}
        for color, right in zip(SECRETS, passages, strict=True)
    ]
    write_rows(file, *rows)
    return file


def secrets_known(model: Path | None) -> float:
    """Share of the secrets for which the right passage comes first."""
    reranker = GLiClassReranker.from_pretrained(model, device="cpu", dtype="float32")
    passages = [f"It is the {word}." for word in SECRETS.values()]
    scores = reranker.score_matrix([f"Which is {color}?" for color in SECRETS], passages)
    return float(np.mean(scores.argmax(1) == np.arange(len(SECRETS))))


# Starting


def test_a_teacher_s_cosine_is_that_of_mean_pooling(encoder: Path, tmp_path: Path) -> None:
    texts = ["red wall", "a much longer text about bread"]
    data = TrainingData([Passage("", text) for text in texts], [Question("bread?", (1,))])
    teacher = ask_teacher(encoder, data, tmp_path / "cache.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = BertModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        means = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in (*texts, "bread?")]
    expected = [[torch.cosine_similarity(mean, means[2], dim=0).item()] for mean in means[:2]]
    similarities = torch.tensor(teacher.similarities([0, 1], [0]))
    torch.testing.assert_close(similarities, torch.tensor(expected), atol=0.02, rtol=0)
    # A second run reads the cache, unless it was made from something else.
    again = ask_teacher(tmp_path / "gone" / encoder.name, data, tmp_path / "cache.safetensors")
    assert torch.equal(again.passages, teacher.passages)
    other = TrainingData(data.passages, [Question("yeast?", (1,))])
    other_teacher = ask_teacher(encoder, other, tmp_path / "cache.safetensors")
    assert not torch.equal(other_teacher.questions, teacher.questions)


@pytest.mark.parametrize(
    ("pooling", "averages"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, False),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, False),  # both, side by side
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, True),
        ({"pooling_mode": "cls"}, False),
        ({"pooling_mode": "mean"}, True),
    ],
)
def test_only_an_encoder_that_averages_can_teach(
    encoder: Path, tmp_path: Path, pooling: dict[str, object], averages: bool
) -> None:
    shutil.copytree(encoder, tmp_path / "e")
    (tmp_path / "e" / "1_Pooling").mkdir()
    (tmp_path / "e" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if averages:
        assert encode(tmp_path / "e", ["an emoji cut in two: \ud83d"]).shape == (1, 32)
    else:
        with pytest.raises(ValueError, match="does not average over its tokens"):
            encode(tmp_path / "e", ["text"])


def test_a_bare_encoder_s_logit_starts_as_the_cosine_of_query_and_passage(encoder: Path) -> None:
    network, tokenizer = start_from_encoder(encoder, "bare")
    prompts = PromptBuilder(tokenizer, prompt_first=True)
    for query, passage in (("which bread?", "yeast makes gas"), ("the wall", "the red wall")):
        [prompt] = prompts.build([query], [passage], 64)
        ids = torch.tensor([prompt.ids])
        with torch.no_grad():
            logit = network.eval()(ids, torch.ones_like(ids), 1).item()
            [states] = network.encoder_model(ids).last_hidden_state
        label, text = (prompt.ids.index(prompts.label_id), prompt.ids.index(prompts.text_id))
        cosine = torch.cosine_similarity(states[label:text].mean(0), states[text:].mean(0), dim=0).item()
        assert logit == pytest.approx(20 * cosine - 12, abs=0.05)


def test_a_bare_encoder_s_head_is_the_scaled_product_itself(encoder: Path) -> None:
    network, _ = start_from_encoder(encoder, "bare")
    text, labels = (torch.nn.functional.normalize(torch.randn(*shape, 32), dim=-1) for shape in ((5,), (5, 3)))
    with torch.no_grad():
        logits = network.eval().scorer(text, labels, torch.ones(5, 1), torch.ones(5, 3))
        projected = [projector(text) - text for projector in (network.text_projector, network.classes_projector)]
    torch.testing.assert_close(logits, 20 * (text.unsqueeze(1) * labels).sum(2) - 12, atol=1e-4, rtol=0)
    assert max(moved.abs().max() for moved in projected) < 0.01


def test_a_network_keeps_its_encoder_and_gets_control_tokens(encoder: Path) -> None:
    network, tokenizer = start_from_encoder(encoder, "bare")
    bare = BertModel.from_pretrained(encoder).eval()
    ids = tokenizer("yeast makes gas", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours = network.eval().encoder_model(ids).last_hidden_state
        torch.testing.assert_close(ours, bare(ids).last_hidden_state, atol=1e-4, rtol=0)
    assert tokenizer.convert_tokens_to_ids("<<LABEL>>") == network.config.class_token_index
    embeddings = network.encoder_model.get_input_embeddings().weight
    first = bare.embeddings.word_embeddings.weight[tokenizer.cls_token_id]
    for index in (network.config.class_token_index, network.config.text_token_index):
        torch.testing.assert_close(embeddings[index], first)


# Training


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--learning-rate", 2e-4], ["--lora", "bundled", "--learning-rate", 1e-3, "--head-learning-rate", 1e-3]],
    ids=["full", "lora"],
)
def test_the_bundled_model_learns_what_it_is_told(secrets: Path, tmp_path: Path, options: list[object]) -> None:
    run("train", tmp_path / "model", secrets, "--steps", 80, *options)
    assert losses(tmp_path / "model")[-1] < 0.3 * losses(tmp_path / "model")[0]
    assert secrets_known(None) < 0.5 and secrets_known(tmp_path / "model") == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_training_gives_a_checkpoint_that_both_libraries_load(
    encoder: Path, colors: Path, tmp_path: Path, loss: str
) -> None:
    output = tmp_path / "model"
    arguments = ["--start", encoder, "--teacher", encoder, "--mine-every", 5, "--loss", loss, "--held-out", 2]
    run("train", output, colors, *arguments, "--steps", 15, "--save-every", 5, "--dtype", "float16")
    files = {
        "README.md",
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    assert {path.name for path in output.iterdir()} == files
    passages = [f"The wall is {c}." for c in COLORS]
    ours = GLiClassReranker.from_pretrained(output, device="cpu", dtype="float32")
    official = OfficialPipeline(output).score("Which wall is red?", passages)
    assert ours.score("Which wall is red?", passages) == pytest.approx(official, abs=1e-5)
    assert "already holds a model" in run("train", output, colors, "--start", encoder, fails=True)


def test_head_and_encoder_have_a_learning_rate_each(encoder: Path, colors: Path, tmp_path: Path) -> None:
    rates = ["--steps", 2, "--head-learning-rate", 1e-3, "--learning-rate", 1e-9]
    run("train", tmp_path / "m", colors, "--start", encoder, *rates)
    before = start_from_encoder(encoder, "bare")[0].state_dict()
    after = load_checkpoint(tmp_path / "m").network.state_dict()
    moved = {name: (after[name] - tensor).abs().max().item() for name, tensor in before.items()}
    # The pooler, which nothing reads, starts at random each time.
    encoder_moves = [distance for name, distance in moved.items() if "encoder_model." in name and "pooler" not in name]
    head_moves = [distance for name, distance in moved.items() if "encoder_model." not in name]
    assert max(encoder_moves) < 1e-6 and max(head_moves) > 1e-4


def test_lora_brings_its_preset_s_focal_alpha(colors: Path, tmp_path: Path, checkpoint_folder) -> None:
    start = checkpoint_folder("modernbert", prompt_first=True)
    run("train", tmp_path / "m", colors, "--start", start, "--lora", "modern-base", "--steps", 1)
    assert read_record(tmp_path / "m")["focal_alpha"] == 0.7


@pytest.mark.parametrize(
    ("options", "rate"),
    [([], 6e-5), (["--lora", "bundled"], 5e-4), (["--lora", "bundled", "--learning-rate", 1e-4], 1e-4)],
    ids=["all weights", "LoRA", "given"],
)
def test_the_default_learning_rate_follows_lora(
    colors: Path, tmp_path: Path, checkpoint_folder, options: list[object], rate: float
) -> None:
    start = checkpoint_folder("bert", prompt_first=True)
    run("train", tmp_path / "m", colors, "--start", start, "--steps", 1, *options)
    assert read_record(tmp_path / "m")["learning_rate"] == rate


@pytest.mark.parametrize("options", [[], ["--dtype", "float32"]], ids=["by default", "given"])
def test_weights_are_stored_as_the_start_s_and_everybody_may_read_them(
    colors: Path, tmp_path: Path, checkpoint_folder, options: list[str]
) -> None:
    start = load_checkpoint(checkpoint_folder("bert", prompt_first=True))
    save_checkpoint(start.network, start.tokenizer, tmp_path / "start", dtype=torch.float16)
    run("train", tmp_path / "m", colors, "--start", tmp_path / "start", "--steps", 1, *options)
    assert stored_dtype(tmp_path / "m") == (torch.float32 if options else torch.float16)
    assert (tmp_path / "m" / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_threads_are_as_many_as_the_option_says(encoder: Path, colors: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run("train", tmp_path / "m", colors, "--start", encoder, "--steps", 1, "--threads", before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_model_that_is_trained_further_loses_its_threshold(colors: Path, tmp_path: Path, checkpoint_folder) -> None:
    start = load_checkpoint(checkpoint_folder("bert", prompt_first=True))
    fold_calibration(start.network, Calibration(1.0, 0.0, 0.3))
    save_checkpoint(start.network, start.tokenizer, tmp_path / "start")
    run("train", tmp_path / "m", colors, "--start", tmp_path / "start", "--steps", 1)
    assert load_checkpoint(tmp_path / "m").config.recommended_threshold is None


@pytest.mark.parametrize("lora", [[], ["--lora", "bundled"]], ids=["full", "lora"])
def test_a_stopped_run_ends_as_one_that_was_not_stopped(
    encoder: Path, colors: Path, tmp_path: Path, lora: list[str]
) -> None:
    start = tmp_path / "start"
    run("train", start, colors, "--start", encoder, "--steps", 1)
    arguments = [colors, "--start", start, "--save-every", 5, "--mine-every", 4, *lora]
    arguments += ["--learning-rate", 1e-3]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run("train", whole, *arguments, "--steps", 24)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gliclass_rerank.training.trainer.GroupTrainer.compute_loss", cut_after(17))
        with pytest.raises(PowerCutError):
            CliRunner().invoke(
                app, ["train", str(stopped), *map(str, arguments), "--steps", "24"], catch_exceptions=False
            )
    # What a power cut can leave: a state without its last file, beside a whole one.
    (stopped / "states" / "checkpoint-15" / "optimizer.pt").unlink()
    (stopped / "states" / "checkpoint-15" / "mined.json").unlink()
    assert last_state(stopped) == stopped / "states" / "checkpoint-10"
    with (stopped / "log.jsonl").open("a") as log:
        log.write('{"step": 17, "lo')
    assert "other settings" in run("train", stopped, *arguments, "--steps", 25, fails=True)
    other = run("train", stopped, *arguments, "--held-out", 2, "--steps", 24, fails=True)
    assert "held_out 0, now 2" in other and "kept_out" not in other
    run("train", stopped, *arguments, "--steps", 24)
    start_weights, *ends = [load_checkpoint(f).network.state_dict() for f in (start, whole, stopped)]
    moved = max((ends[0][name] - tensor).abs().max().item() for name, tensor in start_weights.items())
    apart = max((ends[0][name] - ends[1][name]).abs().max().item() for name in ends[0])
    assert apart < 1e-6 < moved


def test_lora_learns_from_labelled_texts_and_rows(colors: Path, tmp_path: Path, checkpoint_folder) -> None:
    rows = [{"query": f"Which is {c}?", "positives": [f"The wall is {c}."], "negatives": ["Nothing."]} for c in COLORS]
    rows += [{"text": f"The wall is {c}.", "query": f"It is {c}.", "label": True} for c in COLORS]
    file = tmp_path / "rows.jsonl"
    write_rows(file, *rows)
    start = checkpoint_folder("bert", prompt_first=True)
    arguments = ["--lora", "bundled", "--learning-rate", 3e-3, "--steps", 30]
    run("train", tmp_path / "model", file, colors, "--start", start, *arguments)
    assert np.mean(losses(tmp_path / "model")[-2:]) < losses(tmp_path / "model")[0]
    before, after = (load_checkpoint(f).network.state_dict() for f in (start, tmp_path / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith(".weight") and "embeddings" not in name for name in changed)


def test_endless_questions_leave_room_for_the_passage(encoder: Path, tmp_path: Path) -> None:
    rows = [{"query": "x" * 5000 + str(i), "positives": [f"bread {i}"]} for i in range(4)]
    rows += [{"text": "bread", "query": "long " * 500, "label": True}]
    write_rows(tmp_path / "rows.jsonl", *rows)
    run("train", tmp_path / "m", tmp_path / "rows.jsonl", "--start", encoder, "--steps", 3, "--held-out", 1)


def test_a_checkpoint_can_be_the_teacher(encoder: Path, colors: Path, tmp_path: Path) -> None:
    passages = [f"The wall is {c}." for c in COLORS]
    liked = [*passages[1:], passages[0]]  # what the teacher has learnt is not what the data says
    rows = [
        {"query": f"Which wall is {c}?", "positives": [p], "negatives": [n for n in passages if n != p]}
        for c, p in zip(COLORS, liked, strict=True)
    ]
    write_rows(tmp_path / "rows.jsonl", *rows)
    teacher = tmp_path / "teacher"
    arguments = ["--start", encoder, "--learning-rate", 1e-3, "--steps", 30]
    run("train", teacher, tmp_path / "rows.jsonl", *arguments)
    run("train", tmp_path / "taught", colors, *arguments, "--teacher", teacher)
    run("train", tmp_path / "alone", colors, *arguments)

    def lead(model: Path) -> float:
        """By how much the teacher's passages are ahead of the mean."""
        reranker = GLiClassReranker.from_pretrained(model, device="cpu", dtype="float32")
        scores = reranker.score_matrix([f"Which wall is {c}?" for c in COLORS], liked)
        logits = np.log(scores) - np.log1p(-scores)
        return float(np.mean(logits.diagonal() - logits.mean(1)))

    assert lead(teacher) > lead(tmp_path / "taught") > lead(tmp_path / "alone")


def test_a_run_that_failed_before_its_first_state_can_be_corrected(encoder: Path, colors: Path, tmp_path: Path) -> None:
    run("train", tmp_path / "m", colors, "--start", encoder, "--max-length", 513, fails=True)
    run("train", tmp_path / "m", colors, "--start", encoder, "--max-length", 64, "--steps", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder.jsonl"], "No such file"),
        (["COLORS", "--start", "./nowhere"], "there is no folder"),
        (["COLORS", "--held-out", "8"], "8 questions to be kept out"),
        (["COLORS", "--lora", "base"], "presets that fit it: bundled"),
        (["COLORS", "--lora", "bass"], "lora is 'bass', expected one of"),
        (["COLORS", "--max-length", "513"], "the encoder has 512 positions"),
        (["COLORS", "--loss", "hinge"], "loss is 'hinge', expected one of listwise"),
        (["COLORS", "--loss", "kl"], "learns from a teacher. Give a teacher"),
        (["COLORS", "--patience", "2"], "no question is held out"),
        (["COLORS", "--report-to", "paper"], "paper is not supported"),
        (["COLORS", "--learning-rate", "1e20", "--steps", "3"], "lower the learning rate"),
    ],
)
def test_what_cannot_be_trained_is_said(colors: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    message_shown = run("train", tmp_path / "m", *[colors if a == "COLORS" else a for a in arguments], fails=True)
    assert message in " ".join(message_shown.split())
