"""Bare encoders: load one from a folder, and turn texts into vectors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.scorer import choose_device, choose_dtype
from gliclass_rerank.prompt.tokenizer import without_surrogates

_MAX_LENGTH = 256
_TOKEN_BUDGET = 2048


def load_encoder(folder: str | os.PathLike[str], dtype: torch.dtype) -> PreTrainedModel:
    """Load an encoder, without running its code; a pooler that it lacks starts at random, since nothing reads it.

    Args:
        folder: A local folder with config.json and safetensors weights.
        dtype: Of its weights.

    Raises:
        OSError: A file is missing.

    Example:
        >>> load_encoder("all-MiniLM-L6-v2", torch.float32)  # doctest: +SKIP
    """
    with _quiet():
        encoder: PreTrainedModel = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation="eager",  # on a CPU as fast as the fused one, or faster
        )
    encoder.train(False)
    return encoder


@torch.inference_mode()
def encode(folder: str | os.PathLike[str], texts: Sequence[str]) -> Tensor:
    """Vectors of texts: the mean over their tokens, of length 1.

    Args:
        folder: A local folder with an encoder and its tokenizer; it runs in bf16 where that is fast.
        texts: The texts; what is beyond 256 tokens is not seen.

    Returns:
        (texts, hidden) on the CPU, in fp32.

    Raises:
        OSError: A file is missing.
        ValueError: The encoder says that it does not average over its tokens.

    Example:
        >>> encode("gte-small", ["Cats purr."]).shape  # doctest: +SKIP
        torch.Size([1, 384])
    """
    _check_pooling(Path(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    device = choose_device(None)
    encoder = load_encoder(folder, choose_dtype("auto", device))
    torch.nn.Module.to(encoder, device)
    valid = [without_surrogates(text) for text in texts]
    ids = tokenizer(valid, truncation=True, max_length=min(_MAX_LENGTH, tokenizer.model_max_length))["input_ids"]
    vectors = torch.empty(len(texts), encoder.config.hidden_size)
    for batch in progress(plan_batches([len(i) for i in ids], _TOKEN_BUDGET), "encoding"):
        inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(encoder.device)
        states = encoder(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        vectors[batch] = torch.nn.functional.normalize(means, dim=-1).cpu()
    return vectors


def _check_pooling(folder: Path) -> None:
    """Refuse an encoder whose sentence-transformers settings name another pooling than the mean."""
    settings = folder / "1_Pooling" / "config.json"
    if not settings.is_file():
        return
    pooling = json.loads(settings.read_text(encoding="utf-8"))
    # Older files have a boolean for each mode, newer ones its name, or several names.
    modes = [key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    if pooling.get("pooling_mode", modes) not in ("mean", ["mean"], ["mean_tokens"]):
        raise ValueError(f"{settings} says that this encoder does not average over its tokens, as a teacher must.")


@contextmanager
def _quiet() -> Iterator[None]:
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
