"""Checkpoints load whole or not at all, and run no code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from gliclass_rerank.engine.untrusted import panics_as_errors
from gliclass_rerank.modeling.config import ENCODERS as ALL_ENCODERS
from gliclass_rerank.modeling.config import GLiClassConfig
from tests.conftest import PASSAGES
from tests.random_checkpoints import ENCODERS, OfficialPipeline

QUERY = "does bread rise?"


@pytest.fixture
def folder(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be spoiled."""
    source = checkpoint_folder(scorer_type="mlp", pooling_strategy="avg", prompt_first=True)
    return Path(shutil.copytree(source, tmp_path / "copy"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def scores(folder: Path) -> list[float]:
    return GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32").score(QUERY, PASSAGES)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_saved_here_loads_in_the_official_library(
    encoder: str, checkpoint_folder: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"normalize_features": True, "class_token_pooling": "average", "use_segment_embeddings": True}
    source = checkpoint_folder(encoder, scorer_type="weighted-dot", prompt_first=True, **options)
    checkpoint = load_checkpoint(source)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path)
    expected = OfficialPipeline(source).score(QUERY, PASSAGES)
    assert OfficialPipeline(tmp_path).score(QUERY, PASSAGES) == pytest.approx(expected, abs=1e-6)
    assert scores(tmp_path) == pytest.approx(expected, abs=1e-5)


def test_half_precision_weights_load(folder: Path) -> None:
    before = scores(folder)
    checkpoint = load_checkpoint(folder)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, folder, dtype=torch.float16)
    assert load_file(folder / "model.safetensors")["model.scorer.mlp.0.weight"].dtype == torch.float16
    assert scores(folder) == pytest.approx(before, abs=2e-2)


def test_weights_in_several_files_load(folder: Path) -> None:
    before = scores(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in files.items():
        save_file({key: state[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in files.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert scores(folder) == before


def test_names_without_their_prefix_and_old_position_tensors_load(folder: Path) -> None:
    """Checkpoints of June 2024 look like this."""
    before = scores(folder)

    def make_old(state: dict[str, torch.Tensor]) -> None:
        for name in list(state):
            state[name.removeprefix("model.")] = state.pop(name)
        state["position_embeddings"] = torch.zeros(3)

    edit_weights(folder, make_old)
    assert scores(folder) == before


def test_a_missing_scale_that_nothing_reads_is_no_fault(folder: Path) -> None:
    before = scores(folder)
    edit_weights(folder, lambda state: state.pop("model.logit_scale"))
    assert scores(folder) == before


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


def test_settings_that_the_encoder_does_not_read_cost_nothing(folder: Path) -> None:
    before = scores(folder)
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    edit_config(folder, encoder_config={**encoder, "num_labels": 50_000_000, "chunk_size_feed_forward": 10**9})
    assert scores(folder) == before


def edit_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


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


@pytest.mark.parametrize("encoder", ENCODERS)
def test_loading_draws_no_random_numbers_and_leaves_nothing_unfilled(
    encoder: str, checkpoint_folder: Callable[..., Path]
) -> None:
    folder = checkpoint_folder(encoder, scorer_type="mlp", use_lstm=True, use_segment_embeddings=True)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network = load_checkpoint(folder).network
    assert torch.equal(torch.rand(2), expected)
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def test_a_tokenizer_that_takes_no_text_is_refused(folder: Path) -> None:
    words = folder / "tokenizer_config.json"
    words.write_text(json.dumps({**json.loads(words.read_text()), "model_max_length": 0}))
    with pytest.raises(CheckpointError, match="model_max_length 0"):
        load_checkpoint(folder)


def test_control_tokens_behind_the_vocabulary_are_the_default() -> None:
    raw = {"model_type": "GLiClass", "encoder_config": {"model_type": "roberta", "vocab_size": 90, "pad_token_id": 1}}
    config = GLiClassConfig.from_dict(raw)
    assert (config.class_token_index, config.text_token_index, config.example_token_index) == (90, 91, 92)
    assert config.max_positions == 510  # of 512, two stand before the first token
    assert config.encoder_hidden_size == 768


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


_HUB_SCRIPT = """
import sys
from gliclass_rerank.engine.checkpoint import CheckpointError, load_checkpoint
print(load_checkpoint("someone/reranker").name)
try:
    load_checkpoint("someone/absent")
except CheckpointError as error:
    print(error)
"""


def test_the_hub_is_used_through_its_cache_and_a_name_not_in_it_is_one_error(folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--someone--reranker"
    commit = "0" * 40
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _HUB_SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "someone/reranker"
    assert "cannot get 'someone/absent' from the hub" in second and "local folder" in second


def test_max_length_defaults_to_what_the_encoder_can_take(checkpoint_folder: Callable[..., Path]) -> None:
    assert load_checkpoint(checkpoint_folder("bert")).max_length == 512
    assert load_checkpoint().max_length == 512


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
def test_a_passage_may_fill_all_positions(encoder: str, checkpoint_folder: Callable[..., Path]) -> None:
    reranker = GLiClassReranker.from_pretrained(checkpoint_folder(encoder, prompt_first=True), device="cpu")
    [hit] = reranker.rank(QUERY, ["bread rises " * 1000])
    assert hit.truncated


def test_only_encoders_with_absolute_positions_limit_max_length(checkpoint_folder: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"max_length is 513, but .* only 512"):
        GLiClassReranker.from_pretrained(checkpoint_folder("bert"), max_length=513)
    for encoder in ("modernbert", "deberta-v2"):
        reranker = GLiClassReranker.from_pretrained(checkpoint_folder(encoder, prompt_first=True), max_length=2000)
        assert not reranker.rank(QUERY, ["bread " * 600])[0].truncated


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_does_not_matter(dtype: torch.dtype, folder: Path) -> None:
    torch.set_default_dtype(dtype)
    try:
        checkpoint = load_checkpoint(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in checkpoint.network.parameters()} == {torch.float32}


def test_weights_too_large_for_half_precision_are_not_saved(checkpoint_folder, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_folder("bert"))
    next(checkpoint.network.parameters()).data.fill_(1e6)
    with pytest.raises(FloatingPointError, match="nothing was saved"):
        save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path / "m", dtype=torch.float16)
    assert not list((tmp_path / "m").iterdir())
