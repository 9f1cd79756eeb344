"""Find, check and load a checkpoint; save one.

A checkpoint is untrusted data. Settings and tokenizer are read as text, weights as safetensors;
no code of the checkpoint runs whatever its config says, and one that is not whole is refused by
name of what is missing.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto import CONFIG_MAPPING

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import PromptBuilder

BUNDLED = Path(__file__).parent.parent / "bundled"
WEIGHTS = "model.safetensors"
_SHARDS = f"{WEIGHTS}.index.json"  # of a checkpoint whose weights lie in several files
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]
_LENGTH_LIMIT = 1024  # default max_length at most, as in the official pipeline


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        name: What was asked for, to be shown to people.
        config: Its settings.
        tokenizer: Its tokenizer as transformers loads it.
        prompts: Builds its sequences.
        network: Its weights, in fp32 on the CPU, in evaluation mode.
        max_length: Tokens per sequence unless the user says otherwise.
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
        CheckpointError: Not found, incomplete, damaged or of an unsupported kind; the message
            names what is wrong and the way out.

    Example:
        >>> load_checkpoint().config.prompt_first
        True
    """
    name = "the bundled model" if model is None else os.fspath(model)
    folder = find_checkpoint(model, revision=revision, token=token)
    try:
        config = GLiClassConfig.from_dict(_read_json(folder / "config.json"))
        tokenizer = _load_tokenizer(folder, config)
        prompts = PromptBuilder(tokenizer, prompt_first=config.prompt_first)
        _check_indices(config, prompts)
        max_length = _default_length(config, tokenizer)
        network = _load_network(folder, config)
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
        folder: Where to; made if absent, files of the same names are replaced.
        dtype: What floating-point weights are stored as.

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
    # Last and at once, so that a folder with weights is a whole checkpoint.
    with atomic_write(folder / WEIGHTS) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt"})


def check_unused(output: str | os.PathLike[str]) -> None:
    """Check that a folder holds no model yet, before work that would replace it.

    Args:
        output: The folder, which need not be there.

    Raises:
        ValueError: It holds one.

    Example:
        >>> check_unused("a folder to be made")
    """
    if any((Path(output) / name).exists() for name in (WEIGHTS, _SHARDS)):
        raise ValueError(f"output is {os.fspath(output)!r}, which holds a model already; choose another folder.")


def find_checkpoint(
    model: str | os.PathLike[str] | None, *, revision: str | None = None, token: str | None = None
) -> Path:
    """The folder of a checkpoint, GLiClass's or another, fetched from the hub if need be.

    Args:
        model: A local folder or a hub name; None for the model inside this package.
        revision: See ``load_checkpoint``.
        token: See there.

    Raises:
        CheckpointError: Not found.

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
            return path
        local = path.is_absolute() or path.is_file() or name.startswith(".")
    except (OSError, RuntimeError):  # longer than a path can be, or the home of nobody
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
    """Whether a checkpoint is GLiClass's, and not a bare encoder.

    Args:
        model: A local folder or a hub name.

    Raises:
        CheckpointError: Not found, or its config.json is missing or broken.

    Example:
        >>> is_gliclass(BUNDLED)
        True
    """
    folder = find_checkpoint(model)
    try:
        return _read_json(folder / "config.json").get("model_type") == "GLiClass"
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"cannot load {os.fspath(model)}: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing.")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds no JSON object.")
    return content


def _load_tokenizer(folder: Path, config: GLiClassConfig) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise CheckpointError("the folder holds no tokenizer (tokenizer.json).")
    encoder = CONFIG_MAPPING[config.encoder_config["model_type"]]()
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, config=encoder, local_files_only=True, trust_remote_code=False
    )
    return tokenizer


def _check_indices(config: GLiClassConfig, prompts: PromptBuilder) -> None:
    found = {"class_token_index": prompts.label_id, "text_token_index": prompts.text_id}
    for key, index in found.items():
        if getattr(config, key) != index:
            raise CheckpointError(f"config.json has {key} {getattr(config, key)}, but the tokenizer's id is {index}.")
    if max(found.values()) >= config.vocab_size:
        raise CheckpointError(f"vocab_size {config.vocab_size} does not reach the control tokens {found}.")


def _load_network(folder: Path, config: GLiClassConfig) -> GLiClassNetwork:
    with torch.device("meta"):  # names and shapes alone, before any memory is taken
        skeleton = GLiClassNetwork(config)
    expected = skeleton.state_dict()
    found = {name.removeprefix("model."): tensor for name, tensor in _read_tensors(folder).items()}
    # Leftovers of old checkpoints, and a scale that nothing reads, do no harm.
    found = {k: v for k, v in found.items() if k in expected or not k.endswith(("position_embeddings", "position_ids"))}
    if not config.normalize_features:
        found.setdefault("logit_scale", torch.tensor(config.logit_scale_init_value))
    problems = {
        "missing tensors": expected.keys() - found.keys(),
        "unexpected tensors": found.keys() - expected.keys(),
        "wrong shapes": {
            f"{k} {tuple(found[k].shape)}, expected {tuple(v.shape)}"
            for k, v in expected.items()
            if k in found and found[k].shape != v.shape
        },
        "values that are not finite": {k for k, v in found.items() if not torch.isfinite(v).all()},
    }
    for problem, names in problems.items():
        if names:
            shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise CheckpointError(f"{problem}: {shown}.")
    layers = getattr(skeleton.encoder_model.config, "num_hidden_layers", 0)
    if not -1 <= config.encoder_layer_id <= layers:
        raise CheckpointError(f"config.json has encoder_layer_id {config.encoder_layer_id}, expected -1 to {layers}.")
    with _Unfilled():
        network = GLiClassNetwork(config)
    # Copied, since what was read is the file itself: a model in memory must not change with its folder.
    dtypes = {k: torch.float32 if v.is_floating_point() else v.dtype for k, v in expected.items()}
    network.load_state_dict({k: v.to(dtypes[k], copy=True) for k, v in found.items()}, assign=True)
    return network.eval()


class _Unfilled(TorchFunctionMode):
    """Weights made inside have no memory and draw no random numbers, which would take most of the time of loading.

    Unlike on ``torch.device("meta")``, what a constructor computes (angles of positions) is there.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        kwargs = dict(kwargs or {})
        if func is torch.empty:  # which torch.nn makes weights with
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    index = folder / _SHARDS
    names = sorted(set(_read_json(index)["weight_map"].values())) if index.is_file() else [WEIGHTS]
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing. Only safetensors weights are read, never pickled ones.")
        try:
            tensors.update(load_file(folder / name))
        except SafetensorError as error:
            raise CheckpointError(f"{name} is damaged: {error}.") from error
    return tensors


def _default_length(config: GLiClassConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    # A tokenizer without a limit of its own reports a number beyond any real one.
    length = int(min(config.max_positions, tokenizer.model_max_length, _LENGTH_LIMIT))
    if length < 1:
        raise CheckpointError(f"the tokenizer's model_max_length {tokenizer.model_max_length} leaves no room for text.")
    return length
