"""Find, check and load a checkpoint; save one.

A checkpoint is untrusted data. Settings and tokenizer are read as text, weights as safetensors, and no code of the
checkpoint runs whatever its config says. Sizes are checked before memory is taken, and the error for an incomplete
checkpoint names what is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerBase

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.engine.tokenizer_files import check_vocabulary, load_tokenizer
from gliclass_rerank.engine.untrusted import panics_as_errors, read_json
from gliclass_rerank.engine.weights import (
    MAX_PARAMETERS,
    SHARDS,
    WEIGHTS,
    StoredTensor,
    check_tensors,
    read_headers,
    read_tensors,
)
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import PromptBuilder

BUNDLED = Path(__file__).parent.parent / "bundled"
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_LENGTH_LIMIT = 1024  # the largest default of max_length, as in the official pipeline

_MIN_LENGTH = 16  # a short query and a few words

__all__ = [
    "BUNDLED",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointError",
    "check_unused",
    "find_checkpoint",
    "is_gliclass",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        name: The folder or hub name, for messages.
        config: The settings.
        tokenizer: The tokenizer as transformers loads it.
        prompts: Builds the sequences.
        network: The weights, in fp32 on the CPU, in evaluation mode.
        max_length: The default number of tokens per sequence.
    """

    name: str
    config: GLiClassConfig
    tokenizer: PreTrainedTokenizerBase
    prompts: PromptBuilder
    network: GLiClassNetwork
    max_length: int


def load_checkpoint(
    model: str | os.PathLike[str] | None = None, *, revision: str | None = None, token: str | None = None
) -> Checkpoint:
    """Load a GLiClass checkpoint.

    Args:
        model: A local folder or a hub name; None for the model inside this package.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub; None for the one stored by ``hf auth login``.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, damaged, too large or of an unsupported kind; the
            message names the cause and the way out.

    Example:
        >>> load_checkpoint().config.prompt_first
        True
    """
    return read_checkpoint(find_checkpoint(model, revision=revision, token=token), model)


def read_checkpoint(folder: Path, model: str | os.PathLike[str] | None) -> Checkpoint:
    """``load_checkpoint`` after the download.

    Args:
        folder: The folder that ``find_checkpoint`` returned for the model.
        model: See ``load_checkpoint``.

    Raises:
        CheckpointError: See ``load_checkpoint``.

    Example:
        >>> read_checkpoint(BUNDLED, None).max_length
        512
    """
    name = "the bundled model" if model is None else os.fspath(model)
    try:
        config = GLiClassConfig.from_dict(read_json(folder / "config.json"))
        tokenizer = load_tokenizer(folder, config.encoder_config["model_type"])
        check_vocabulary(tokenizer, config.vocab_size)
        with panics_as_errors():
            prompts = PromptBuilder(tokenizer, prompt_first=config.prompt_first)
        _check_indices(config, prompts)
        max_length = _default_length(config, tokenizer)
        network = _load_network(folder, config)
        if model is not None:
            with panics_as_errors():
                _check_forward(network, prompts)
    except Exception as error:  # a hostile or broken file can make any of the libraries fail in any way
        raise CheckpointError(f"cannot load {name}: {error or type(error).__name__}") from error
    return Checkpoint(name, config, tokenizer, prompts, network, max_length)


def save_checkpoint(
    network: GLiClassNetwork,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a checkpoint that this project and the official library load.

    Args:
        network: The weights and settings.
        tokenizer: The tokenizer that the network was trained with.
        folder: The folder to write to; made if absent, files of the same names are replaced.
        dtype: The type that weights are stored in.

    Raises:
        FloatingPointError: A weight is not finite, or too large for the dtype.
        OSError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> checkpoint = load_checkpoint()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(checkpoint.network, checkpoint.tokenizer, folder)
        ...     load_checkpoint(folder).config == checkpoint.config
        True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"model.{k}": v.detach().to("cpu", dtype if v.is_floating_point() else v.dtype).contiguous()
        for k, v in network.state_dict().items()
    }
    broken = [k for k, v in state.items() if not v.isfinite().all()]
    if broken:
        raise FloatingPointError(f"{broken[0]} holds values that are not finite as {dtype}: nothing was saved.")
    (folder / "config.json").write_text(json.dumps(network.config.to_dict(), indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    # Written last and atomically, so that a folder with weights is a complete checkpoint.
    with atomic_write(folder / WEIGHTS) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt"})
        unfinished.chmod(0o644)  # safetensors lets nobody else read its files


def check_unused(output: str | os.PathLike[str]) -> None:
    """Check that a folder holds no model, before work that would replace it.

    Args:
        output: The folder; it need not exist.

    Raises:
        ValueError: The folder holds a model.

    Example:
        >>> check_unused("a folder that does not exist")
    """
    if any((Path(output) / name).exists() for name in (WEIGHTS, SHARDS)):
        raise ValueError(f"output is {os.fspath(output)!r}, which already holds a model. Choose another folder.")


def find_checkpoint(
    model: str | os.PathLike[str] | None, *, revision: str | None = None, token: str | None = None
) -> Path:
    """Find the folder of any checkpoint, and download it from the hub if it is not in the cache.

    Args:
        model: A local folder or a hub name; None for the model inside this package.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub; None for the one stored by ``hf auth login``.

    Returns:
        The folder as an absolute path.

    Raises:
        CheckpointError: Neither a folder nor the hub has it.

    Example:
        >>> find_checkpoint(BUNDLED) == find_checkpoint(None) == BUNDLED
        True
    """
    if model is None:
        return BUNDLED
    name = os.fspath(model)
    way_out = "Check the name, give a local folder, or leave the model out to use the bundled one."
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return path.resolve()
        local = path.is_absolute() or path.is_file() or name.startswith(".")
    except (OSError, RuntimeError):  # the path is too long, or ~name is the home of no user
        local = True
    if local:
        raise CheckpointError(f"there is no folder {name!r}. {way_out}")
    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a hub name. {way_out}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"cannot get {name!r} from the hub, and it is not in the local cache: {_first_line(error)} {way_out}"
        ) from error


def is_gliclass(model: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is a GLiClass model rather than a bare encoder.

    Args:
        model: A local folder or a hub name.

    Raises:
        CheckpointError: The checkpoint or its config.json is missing, or config.json is broken.

    Example:
        >>> is_gliclass(BUNDLED)
        True
    """
    folder = find_checkpoint(model)
    try:
        return read_json(folder / "config.json").get("model_type") == "GLiClass"
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {os.fspath(model)}: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_indices(config: GLiClassConfig, prompts: PromptBuilder) -> None:
    control_ids = {"class_token_index": prompts.label_id, "text_token_index": prompts.text_id}
    for key, index in control_ids.items():
        if getattr(config, key) != index:
            raise CheckpointError(f"config.json has {key} {getattr(config, key)}, but the tokenizer's id is {index}.")


def _load_network(folder: Path, config: GLiClassConfig) -> GLiClassNetwork:
    stored = read_headers(folder)
    with torch.device("meta"):  # only names and shapes: weights there take no memory
        skeleton = GLiClassNetwork(config)
    expected = skeleton.state_dict()
    parameters = sum(tensor.numel() for tensor in expected.values())
    if parameters > MAX_PARAMETERS:
        raise CheckpointError(f"config.json describes {parameters:,} parameters, expected at most {MAX_PARAMETERS:,}.")
    stored = _without_leftovers(stored, expected)
    # Nothing reads the scale of a network that does not normalise its features.
    absent = {} if config.normalize_features or "logit_scale" in stored else {"logit_scale": expected["logit_scale"]}
    check_tensors(stored, {name: tensor for name, tensor in expected.items() if name not in absent})
    with _Unfilled():
        network = GLiClassNetwork(config)
    weights = dict(read_tensors(stored))
    weights.update({name: torch.tensor(config.logit_scale_init_value, dtype=torch.float32) for name in absent})
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _without_leftovers(stored: dict[str, StoredTensor], expected: dict[str, torch.Tensor]) -> dict[str, StoredTensor]:
    """Leave out tensors of old checkpoints that no network reads."""
    return {
        name: tensor
        for name, tensor in stored.items()
        if name in expected or not name.endswith(("position_embeddings", "position_ids"))
    }


def _check_forward(network: GLiClassNetwork, prompts: PromptBuilder) -> None:
    """Score one prompt, so that what cannot score is refused now."""
    [prompt] = prompts.build(["a question"], ["A short answer."], max_length=512)
    ids = torch.tensor(prompt.ids)
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            if network.can_pack:
                logits = network.score_packed(ids, [len(ids)], prompt.num_labels)
            else:
                logits = network(ids[None], torch.ones_like(ids)[None], prompt.num_labels)
    except (IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"config.json, tokenizer and weights do not fit: scoring fails with {error}.") from error
    if not torch.isfinite(logits).all():
        raise CheckpointError("the network gives a logit that is not finite.")


class _Unfilled(TorchFunctionMode):
    """Build modules without filling their weights: random numbers would take most of the time of loading.

    Unlike with ``torch.device("meta")``, buffers that a constructor computes (angles of positions) get their values.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        kwargs = dict(kwargs or {})
        if func is torch.empty:  # torch.nn makes weights with it
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _default_length(config: GLiClassConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    # A tokenizer without a limit reports a huge number.
    length = int(min(config.max_positions, tokenizer.model_max_length, _LENGTH_LIMIT))
    if length < _MIN_LENGTH:
        raise CheckpointError(
            f"the tokenizer's model_max_length {tokenizer.model_max_length} or the encoder's {config.max_positions} "
            f"positions leave no room for a query and a passage; expected at least {_MIN_LENGTH} tokens."
        )
    return length
