"""An encoder learns to read labels and text of a prompt as if each stood alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import BertModel

from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import Prompt, PromptBuilder
from gliclass_rerank.training.reading_apart import ReadingApart
from gliclass_rerank.training.sides import separate_sides
from gliclass_rerank.training.start import start_from_encoder
from tests.training_runs import read_log, run, write_bare_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_bare_encoder(tmp_path_factory.mktemp("encoder") / "bare")


def start(encoder: Path) -> tuple[GLiClassNetwork, PromptBuilder]:
    network, tokenizer = start_from_encoder(encoder, "bare")
    return network, PromptBuilder(tokenizer, prompt_first=True)


@torch.no_grad()
def states_of(network: GLiClassNetwork, ids: list[int]) -> torch.Tensor:
    return network.encoder_model(torch.tensor([ids])).last_hidden_state[0]


def distance(network: GLiClassNetwork, sequence: Prompt, starts: list[int]) -> float:
    """Of a sequence's states from those of its parts; the text, the last part, weighs half, the labels the rest."""
    joint, total = states_of(network, sequence.ids), 0.0
    for start, end in zip(starts, [*starts[1:], len(sequence.ids)], strict=True):
        error = (joint[start:end] - states_of(network, sequence.ids[start:end])).square().mean().item()
        total += error * (0.5 if start == starts[-1] else 0.5 / (len(starts) - 1))
    return total


def test_the_loss_is_the_distance_from_the_states_of_each_label_and_the_text_alone(encoder: Path) -> None:
    network, prompts = start(encoder)
    sequences = [
        *prompts.build(["which wall is red?", "the door"], ["the red wall", "a wall and a much longer text"], 64),
        *prompts.build(["the door"], ["the red wall"], 64),
    ]
    controls = (prompts.label_id, prompts.text_id)
    expected = [distance(network, s, [i for i, token in enumerate(s.ids) if token in controls]) for s in sequences]
    assert min(expected) > 1e-4
    loss = ReadingApart(network, prompts).loss(sequences)
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def test_the_goal_is_the_encoder_of_the_start_whatever_the_network_becomes(encoder: Path) -> None:
    network, prompts = start(encoder)
    apart = ReadingApart(network, prompts)
    sequences = prompts.build(["which wall is red?"], ["the red wall", "the blue door"], 64)
    optimizer = torch.optim.Adam(network.encoder_model.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = apart.loss(sequences)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4  # were the goal to move along, it would stay as far away


def leave_a_direction_unused(model: BertModel) -> None:
    """Give embeddings a direction that they hardly use, as those of trained encoders have."""
    embeddings = model.embeddings
    for part in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        weight = part.weight.data
        direction = torch.nn.functional.normalize(torch.tensor([1.0, -1.0]).repeat(weight.shape[1] // 2), dim=0)
        weight -= 0.95 * torch.outer(weight @ direction, direction)


def test_separated_sides_hardly_look_at_each_other(tmp_path: Path) -> None:
    deep = write_bare_encoder(tmp_path / "deep", size=64, layers=3, change=leave_a_direction_unused)
    network, tokenizer = start_from_encoder(deep, "deep", marks_sides=True)
    prompts = PromptBuilder(tokenizer, prompt_first=True)
    words = [token for token in tokenizer.get_vocab() if token.isalpha()]
    rng = random.Random(0)
    texts = [" ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(150)]
    [prompt] = prompts.build([" ".join(rng.choices(words, k=8))], [" ".join(rng.choices(words, k=20))], 64)
    ids = torch.tensor([prompt.ids])
    text = (ids[0] == prompts.text_id).cumsum(0).bool()
    network.encoder_model.set_attn_implementation("eager")

    @torch.no_grad()
    def looks_across() -> list[float]:
        """For each layer, the largest share of a token's attention that goes to the other side."""
        output = network.encoder_model(inputs_embeds=network._with_segments(ids), output_attentions=True)
        shares = [attention[0].mean(0) for attention in output.attentions]
        return [max(s[text][:, ~text].sum(1).max().item(), s[~text][:, text].sum(1).max().item()) for s in shares]

    assert min(looks_across()) > 0.2
    separate_sides(network, tokenizer(texts)["input_ids"])
    assert max(looks_across()) < 0.1


def test_training_can_read_apart(encoder: Path, colors: Path, tmp_path: Path) -> None:
    arguments = ["--start", encoder, "--loss", "reading-apart", "--learning-rate", 1e-3, "--held-out", 0]
    run("train", tmp_path / "model", colors, *arguments, "--steps", 60)
    losses = [row["loss"] for row in read_log(tmp_path / "model") if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]


def test_a_checkpoint_that_puts_the_text_first_is_refused(colors: Path, tmp_path: Path, checkpoint_folder) -> None:
    text_first = checkpoint_folder("bert", prompt_first=False)
    error = run("train", tmp_path / "m", colors, "--start", text_first, "--loss", "reading-apart", fails=True)
    assert "puts the text before the labels" in error
