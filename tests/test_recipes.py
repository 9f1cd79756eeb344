from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.start import start_from_encoder
from recipes.bundled_model import FIRST, choose_passages, is_finished
from recipes.english_vocabulary import find_rare, is_needed, keep_english
from recipes.mix_weights import mix_with_start

ENGLISH = ["bread", "rise", "##s", "ä", "##π", "3", "µ", "–", "²", "ʻ", "ˈ", "ª", "ℝ"]
OTHER = ["д", "##ом", "水", "ひ", "가", "ש"]
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["[PAD]", "[unused0]", *SPECIAL, "д", "bread", "rise", "水", "##s", "3", "[unused1]", "because"]


@pytest.mark.parametrize("token", ENGLISH + SPECIAL)
def test_english_needs(token: str) -> None:
    assert is_needed(token)


@pytest.mark.parametrize("token", [*OTHER, "[unused7]"])
def test_english_does_not_need(token: str) -> None:
    assert not is_needed(token)


def test_passages_are_chosen_with_the_questions_that_they_answer(colors: Path, tmp_path: Path) -> None:
    chosen = choose_passages(colors, tmp_path / "chosen", lambda i, id_, text: id_ in ("red", "blue") and i < 9)
    whole, part = read_data([colors]), read_data([chosen])
    assert part.passages == whole.passages[:2]
    assert [(q.text, q.answers) for q in part.questions] == [(q.text, q.answers) for q in whole.questions[:2]]


def write_encoder(folder: Path) -> Path:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = BertWordPieceTokenizer(vocab=vocabulary)
    around = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), **shape)).save_pretrained(folder)
    return folder


def test_an_encoder_without_other_scripts_reads_english_as_before(tmp_path: Path) -> None:
    keep_english(write_encoder(tmp_path / "whole"), tmp_path / "small")
    states = []
    for folder in (tmp_path / "whole", tmp_path / "small"):
        model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        states.append(model.eval()(**tokenizer("Bread rises 3", return_tensors="pt")).last_hidden_state)
    torch.testing.assert_close(states[0], states[1])
    assert model.config.vocab_size == len(WORDS) - 4 and tokenizer.tokenize("д 水") == ["[UNK]"] * 2


def test_rare_words_become_shorter_tokens_and_no_token_that_others_need_is_lost(tmp_path: Path) -> None:
    whole = write_encoder(tmp_path / "whole")
    rare = find_rare(whole, ["Bread bread rises"], 1)
    assert {"rise", "because"} <= rare and not rare & {"bread", "3", "##s", *SPECIAL}
    keep_english(whole, tmp_path / "small", rare=rare)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert tokenizer.tokenize("Bread rises 3") == ["bread", "[UNK]", "3"]  # this vocabulary has no letters


def test_what_another_recipe_left_is_not_taken_for_finished(tmp_path: Path) -> None:
    assert not is_finished(tmp_path, FIRST)
    record = asdict(FIRST) | {"start": "encoder"}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert not is_finished(tmp_path, FIRST)  # without weights
    (tmp_path / "model.safetensors").touch()
    assert is_finished(tmp_path, FIRST)
    (tmp_path / "training.json").write_text(json.dumps(record | {"steps": 1}))
    assert not is_finished(tmp_path, FIRST)


@pytest.mark.parametrize("bare", [True, False], ids=["from an encoder", "from a checkpoint"])
def test_a_mixture_has_its_share_of_what_training_changed(bare: bool, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    network, tokenizer = start_from_encoder(encoder, "encoder")
    start = encoder if bare else tmp_path / "start"
    if not bare:
        save_checkpoint(network, tokenizer, start)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1)
    save_checkpoint(network, tokenizer, tmp_path / "trained")
    (tmp_path / "trained" / "training.json").write_text("{}")
    mixed = mix_with_start(tmp_path / "trained", start, 0.8, tmp_path / "mixed")
    for name, weight in load_checkpoint(mixed).network.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.8)
    assert (mixed / "training.json").read_text() == "{}"
