"""The second thing that training teaches: where an answer stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from typer.testing import CliRunner

from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.training.answers import (
    AnswerFinder,
    NetworkWithAnswerFinder,
    answer_loss,
    answers_loss,
    mark_answers,
)
from gliclass_rerank.training.attention import training_attention
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.sampling import Group, GroupSampler
from gliclass_rerank.training.settings import TrainingSettings
from gliclass_rerank.training.train import train
from tests.random_checkpoints import TOKENIZERS, make_tokenizer


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("passage", ["bread", "naïve bread rises", "  bread, rises  bread"])
def test_an_answer_s_tokens_are_found_in_the_text_alone(kind: str, first: bool, passage: str) -> None:
    tokenizer = make_tokenizer(kind)
    prompts = PromptBuilder(tokenizer, prompt_first=first)
    [prompt] = prompts.build(["bread?"], [passage], 64)
    text = prompt.ids[prompts.place_of_text(prompt.ids)]
    assert text and not {prompts.label_id, prompts.text_id} & set(text)
    marked = mark_answers(text, prompts.words_inside("bread"))
    words = tokenizer.decode([i for i, m in zip(text, marked, strict=True) if m]).split()
    assert words == ["bread"] * passage.count("bread") or "".join(words) == "bread" * passage.count("bread")
    others = tokenizer.decode([i for i, m in zip(text, marked, strict=True) if not m])
    assert "bread" not in others


def test_a_group_knows_the_answers_of_those_who_answer(colors: Path) -> None:
    data = read_data([colors])
    sampler = GroupSampler(data, HardNegatives(data))
    for number in range(20):
        group = sampler.sample(number)
        assert group.answers is not None
        for passage, targets, answers in zip(group.passages, group.targets, group.answers, strict=True):
            assert [bool(words) for words in answers] == list(map(bool, targets))
            assert all(word in passage for words in answers for word in words)


def test_other_passages_share_the_softmax() -> None:
    own, marked = torch.tensor([4.0, 0.0]), torch.tensor([True, False])
    alone = answer_loss(own, marked)
    misled = answer_loss(torch.cat([own, torch.tensor([4.0])]), torch.tensor([True, False, False]))
    assert alone is not None and misled is not None and alone < 0.1 and misled > 0.6
    assert answer_loss(own, torch.tensor([False, False])) is None


def test_a_finder_learns_which_tokens_answer() -> None:
    torch.manual_seed(0)
    tokens, labels = torch.randn(3, 9, 32), torch.randn(3, 2, 32)
    finder = AnswerFinder(32)
    optimizer = torch.optim.AdamW(finder.parameters(), lr=1e-2)
    marked = torch.zeros(27, dtype=torch.bool)
    marked[[4, 5]] = True
    for _ in range(60):
        loss = answer_loss(finder(tokens, labels)[:, 1].flatten(), marked)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_each_question_is_held_to_its_own_answers() -> None:
    prompts = PromptBuilder(make_tokenizer("wordpiece"), prompt_first=True)
    passages, questions = ["bread rises", "leaves make sugar"], ["what rises?", "what do they make?"]
    words = {(0, 0): ("bread",), (1, 1): ("sugar",)}
    answers = [[words.get((p, q), ()) for q in range(2)] for p in range(2)]
    group = Group(passages, questions, [[1, 0], [0, 1]], answers=answers)
    unknown = Group(["north"], ["where?"], [[1]], answers=[[()]])
    sequences = [*prompts.build(["where?"], ["north"], 64), *prompts.build(questions, passages, 64)]
    finder_logits = [torch.zeros(2, len(sequence.ids)) for sequence in sequences]
    for (p, q), (word,) in words.items():
        ids = sequences[1 + p].ids
        text = prompts.place_of_text(ids)
        marks = mark_answers(ids[text], prompts.words_inside(word))
        finder_logits[1 + p][q, text] = torch.tensor(marks).float() * 20
    assert answers_loss(prompts, [unknown, group], sequences, finder_logits) < 0.01
    assert answers_loss(prompts, [unknown, group], sequences, [rows.flip(0) for rows in finder_logits]) > 10
    assert answers_loss(prompts, [unknown], sequences[:1], finder_logits[:1]) == 0


@pytest.mark.parametrize("alone", [True, False])
def test_at_first_the_finder_learns_alone(alone: bool, checkpoint_folder) -> None:
    trained = NetworkWithAnswerFinder(load_checkpoint(checkpoint_folder("bert", prompt_first=True)).network)
    label, text = trained.network.config.class_token_index, trained.network.config.text_token_index
    ids = torch.tensor([[2, label, 7, text, 8, 9, 3]])
    _, finder_logits = trained(ids, torch.ones_like(ids), 1, finder_alone=alone)
    finder_logits.sum().backward()
    taught = [p.grad is not None and bool(p.grad.any()) for p in trained.network.encoder_model.parameters()]
    assert any(taught) is not alone
    assert trained.finder.query.weight.grad is not None


def test_a_bare_encoder_s_new_tokens_are_not_left_unlearned(colors: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="freeze_embeddings is set, but a bare encoder's new tokens"):
        train(bare, [colors], tmp_path / "m", TrainingSettings(steps=1, freeze_embeddings=True))


@pytest.mark.parametrize("lora", [[], ["--lora", "bundled"]], ids=["full", "lora"])
def test_places_teach_the_encoder_and_leave_no_weights_behind(
    colors: Path, tmp_path: Path, checkpoint_folder, lora: list[str]
) -> None:
    weights = []
    start = checkpoint_folder("bert", prompt_first=True)
    for weight in ("0", "1"):
        arguments = ["--start", start, "--steps", 25, "--answer-weight", weight, "--freeze-embeddings", *lora]
        result = CliRunner().invoke(app, ["train", str(tmp_path / weight), str(colors), *map(str, arguments)])
        assert result.exit_code == 0, result.output
        weights.append(load_checkpoint(tmp_path / weight).network.state_dict())
    before = load_checkpoint(start).network.state_dict()
    assert weights[0].keys() == weights[1].keys() == before.keys()
    changed = {name for name in before if not torch.equal(weights[0][name], weights[1][name])}
    assert any("attention" in name for name in changed)
    [embeddings] = [name for name in before if name.endswith("word_embeddings.weight")]
    assert torch.equal(weights[1][embeddings], before[embeddings])


@pytest.mark.parametrize("masked", [True, False])
def test_attention_in_training_is_that_of_pytorch_with_its_gradient(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 4) for _ in range(3))
    mask = torch.zeros(2, 1, 7, 7)
    mask[1, :, :, 5:] = torch.finfo(torch.float32).min
    results = []
    for attention in (training_attention, sdpa_attention_forward):
        inputs = [x.clone().requires_grad_() for x in (query, key, value)]
        output, _ = attention(torch.nn.Module(), *inputs, mask if masked else None, is_causal=False)
        output.square().sum().backward()
        results.append([output, *(x.grad for x in inputs)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_token_that_sees_nothing_does_no_harm_in_training(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(1, 2, 5, 4, dtype=dtype) for _ in range(3))
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 4, :] = torch.finfo(torch.float32).min
    output, _ = training_attention(torch.nn.Module(), query, key, value, mask)
    assert output.isfinite().all()
