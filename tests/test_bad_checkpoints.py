"""Damaged and crafted checkpoints are refused with a clear error, and run no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gliclass_rerank.engine.checkpoint import CheckpointError, load_checkpoint
from gliclass_rerank.engine.untrusted import panics_as_errors
from tests.conftest import PASSAGES
from tests.edited_checkpoints import edit_config, edit_tokenizer, edit_weights, scores


@pytest.fixture
def folder(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be spoiled."""
    source = checkpoint_folder(scorer_type="mlp", pooling_strategy="avg", prompt_first=True)
    return Path(shutil.copytree(source, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.scorer.mlp.0.bias"), "missing tensors: scorer.mlp.0.bias"),
        (lambda s: s.update({"model.extra": torch.zeros(2)}), "unexpected tensors: extra"),
        (
            lambda s: s.update({"model.scorer.mlp.0.bias": torch.zeros(7)}),
            r"scorer.mlp.0.bias \(7,\), expected \(256,\)",
        ),
        (lambda s: s["model.scorer.mlp.0.bias"].fill_(float("nan")), "not finite: scorer.mlp.0.bias"),
        (lambda s: s["model.scorer.mlp.0.bias"].fill_(float("inf")), "not finite: scorer.mlp.0.bias"),
        (
            lambda s: s["model.scorer.mlp.0.bias"].fill_(1e30),
            r"values beyond 1,000,000: scorer.mlp.0.bias \(1.0e\+30\)",
        ),
    ],
)
def test_damaged_weights_are_refused_by_name(folder: Path, change: Callable[..., None], message: str) -> None:
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.int32])
def test_weights_that_are_not_floating_point_are_refused_by_name(folder: Path, dtype: torch.dtype) -> None:
    name = "model.scorer.mlp.0.bias"
    edit_weights(folder, lambda state: state.update({name: state[name].to(dtype)}))
    with pytest.raises(CheckpointError, match=r"dtypes other than F16, BF16, F32, F64: scorer\.mlp\.0\.bias"):
        load_checkpoint(folder)


def test_a_tensor_that_is_there_twice_is_refused_by_name(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({"scorer.mlp.0.bias": state["model.scorer.mlp.0.bias"] + 1}))
    with pytest.raises(CheckpointError, match=r"tensor scorer\.mlp\.0\.bias is there twice"):
        load_checkpoint(folder)


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    edit_weights(folder, lambda s: [s.pop(k) for k in list(s) if "encoder_model" in k])
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert'"),
        ({"architecture_type": "bi-encoder"}, "architecture_type 'bi-encoder'"),
        ({"architecture_type": "encoder-decoder"}, "architecture_type 'encoder-decoder'"),
        ({"architecture_type": "decoder-kv"}, "architecture_type 'decoder-kv'"),
        ({"encoder_config": {"model_type": "llama"}}, "encoder_config.model_type 'llama'"),
        ({"encoder_config": None}, "no encoder_config"),
        ({"pooling_strategy": "median"}, "pooling_strategy 'median'"),
        ({"class_token_pooling": "last"}, "class_token_pooling 'last'"),
        ({"scorer_type": "decoder-kv"}, "scorer_type 'decoder-kv'"),
        ({"squeeze_layers": True}, "squeeze_layers"),
        ({"use_calibrator": True}, "use_calibrator"),
        ({"pooling_strategy": "pass"}, "need each other"),
        ({"scorer_type": "cross-attn"}, "need each other"),
        ({"scorer_type": "cross-attn", "pooling_strategy": "pass", "scorer_num_heads": 5}, "scorer_num_heads 5"),
        ({"scorer_type": "hopfield", "max_labels_alloc": "fixed"}, "max_labels_alloc"),
        ({"encoder_layer_id": 1}, "layer_wise"),
        ({"hidden_size": 48}, "hidden_size 48"),
        ({"vocab_size": "many"}, "vocab_size 'many'"),
        ({"class_token_index": 5}, "class_token_index 5"),
        ({"text_token_index": 5}, "text_token_index 5"),
        ({"vocab_size": 100}, "vocab_size is 100"),
        ({"projector_hidden_act": "exec"}, "exec"),
        ({"prompt_first": "false"}, "prompt_first 'false'"),
        ({"dropout": "none"}, "dropout 'none'"),
        ({"scorer_num_heads": 0}, "scorer_num_heads 0"),
        ({"encoder_layer_id": 9, "layer_wise": True}, "encoder_layer_id 9, expected -3 to 2"),
        ({"encoder_layer_id": True, "layer_wise": True}, "encoder_layer_id True"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(folder)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"max_position_embeddings": None}, "cannot load"),
        ({"hidden_act": []}, "cannot load"),
        ({"num_attention_heads": 0}, "cannot load"),
        ({"hidden_size": 3200}, "wrong shapes"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    edit_config(folder, hidden_size=None, encoder_config={**encoder, **changes})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dropout_prob": float("nan")}, r"encoder_config\.hidden_dropout_prob nan, expected a finite number"),
        ({"layer_norm_eps": float("inf")}, r"encoder_config\.layer_norm_eps inf, expected a finite number"),
        ({"initializer_range": -1.0}, "initializer_range -1.0, expected a number from 0 to 100"),
        ({"num_hidden_layers": 20_000}, "num_hidden_layers 20000, expected an integer from 1 to 256"),
        ({"max_position_embeddings": 500_000_000}, "max_position_embeddings 500000000, expected an integer"),
        ({"hidden_act": 3}, "hidden_act 3, expected a name"),
        ({"intermediate_size": 100_000}, "wrong shapes"),
    ],
)
def test_encoder_settings_out_of_range_are_refused_by_name(folder: Path, changes: dict[str, Any], message: str) -> None:
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    edit_config(folder, encoder_config={**encoder, **changes})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


_DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


_TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [_DOUBLE] * 24}), "steps: 24"),
        (
            lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [_DOUBLE] * 8}),
            "one character becomes: 128",
        ),
        (
            lambda t: t["post_processor"]["special_tokens"]["[CLS]"].update(ids=[1] * 1000, tokens=["[CLS]"] * 1000),
            "post_processor: ids",
        ),
        (
            lambda t: t["added_tokens"].extend({**_TOKEN, "id": 600 + i, "content": f"w{i}"} for i in range(20_000)),
            "added_tokens",
        ),
        (lambda t: t["model"].update(dropout=0.5), "dropout 0.5"),
        (lambda t: t["model"]["vocab"].update(bread=2**31), "largest id: 2,147,483,648, expected at most 4,194,304"),
        (lambda t: t["added_tokens"].append({**_TOKEN, "id": 50_000_000, "content": "word"}), "largest id: 50,000,000"),
        (lambda t: t.update(extra=[[0]] * 5_000_000), "more than 8,000,000 items"),
        (
            lambda t: t["added_tokens"].append({**_TOKEN, "id": 600, "content": "word"}),
            "the tokenizer gives 'word' the id",
        ),
        (lambda t: t.update(model=3), "tokenizer files are damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_crafted_tokenizer_is_refused(folder: Path, change: Callable[..., None], message: str) -> None:
    edit_tokenizer(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_tokenizer_class_of_another_kind_is_refused(folder: Path) -> None:
    words = folder / "tokenizer_config.json"
    words.write_text(json.dumps({**json.loads(words.read_text()), "tokenizer_class": "MistralCommonBackend"}))
    with pytest.raises(CheckpointError, match="tokenizer_class 'MistralCommonBackend'; supported"):
        load_checkpoint(folder)


def test_a_panic_of_the_tokenizers_library_is_a_checkpoint_error() -> None:
    # The library raises a class of this name, which is no Exception and which Python cannot import.
    panic = type("PanicException", (BaseException,), {})
    with (
        pytest.raises(CheckpointError, match=r"cannot run this tokenizer\.json: index out of bounds"),
        panics_as_errors(),
    ):
        raise panic("index out of bounds")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"])
def test_a_sparse_file_of_six_gigabytes_is_refused(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.truncate(6 << 30)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(folder)


def test_a_header_with_too_many_tensors_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({f"t{i}": torch.zeros(0) for i in range(10_001)}))
    with pytest.raises(CheckpointError, match="expected at most 10,000"):
        load_checkpoint(folder)


def test_a_tokenizer_that_takes_no_text_is_refused(folder: Path) -> None:
    words = folder / "tokenizer_config.json"
    words.write_text(json.dumps({**json.loads(words.read_text()), "model_max_length": 0}))
    with pytest.raises(CheckpointError, match="model_max_length 0"):
        load_checkpoint(folder)


def test_a_checkpoints_code_never_runs(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"  # by its full path, since transformers copies code elsewhere before it runs it
    trap = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    (folder / "trap.py").write_text(trap + "class Trap: pass\n")
    auto_map = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "trap.Trap")
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    attention = {"_attn_implementation": "someone/kernel", "attn_implementation": "someone/kernel"}
    edit_config(
        folder, auto_map=auto_map, trust_remote_code=True, encoder_config={**encoder, "auto_map": auto_map, **attention}
    )
    words = folder / "tokenizer_config.json"
    words.write_text(json.dumps({**json.loads(words.read_text()), "auto_map": {"AutoTokenizer": ["trap.Trap", None]}}))
    assert len(scores(folder)) == len(PASSAGES)
    assert not ran.exists()


def test_pickled_weights_are_not_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="Only safetensors"):
        load_checkpoint(folder)


def test_an_index_cannot_reach_out_of_the_folder(folder: Path) -> None:
    index = {"weight_map": {"x": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="elsewhere"):
        load_checkpoint(folder)


def test_a_damaged_file_is_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", ["[]", "{", None])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: str | None) -> None:
    path = folder / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(CheckpointError, match=r"config.json|JSON|Expecting"):
        load_checkpoint(folder)


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~no-such-user/x", "a" * 5000, __file__])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"there is no folder '{name}'"):
        load_checkpoint(name)


def test_a_name_that_no_hub_can_have_is_refused() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a hub name"):
        load_checkpoint("a/b/c")
