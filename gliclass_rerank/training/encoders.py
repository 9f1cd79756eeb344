"""Load a bare encoder from a folder, without running its code and without transformers' reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging


def load_encoder(folder: str | os.PathLike[str], dtype: torch.dtype) -> PreTrainedModel:
    """Load an encoder; a pooler that the folder lacks starts at random, since nothing reads it.

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
