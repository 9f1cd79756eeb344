"""The core scorer: token ids in, fp32 logits out, whatever the device and the memory."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.torch_settings import own_torch_settings
from gliclass_rerank.modeling.linear import prepack_linears
from gliclass_rerank.prompt.builder import Prompt
from gliclass_rerank.validation import Dtype, check_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gliclass_rerank.modeling.gliclass import GLiClassNetwork

log = logging.getLogger(__name__)

# What out-of-memory errors say where torch has no type of its own for them.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")

# Tokens computed together, padding included. A CPU is fastest with little at a time.
TOKEN_BUDGETS = {"cpu": 1536, "mps": 8192, "cuda": 32768}
# After an out-of-memory, this many batches pass before twice as much is tried again.
_BATCHES_UNTIL_RETRY = 100


class GLiClassScorer:
    """Runs a network on sequences, in batches of similar length.

    Threads may share a scorer: batches of different calls take turns, so memory stays bounded.
    The network is the scorer's from then on: not to be changed, saved, copied, or given to another one.

    Args:
        network: The network; it is moved to the device, and its encoder to the dtype.
        device: "cpu", "cuda", "cuda:1", "mps"; None for the first of CUDA, MPS and CPU.
        dtype: Precision of the encoder; "auto" for bf16 where the hardware runs it fast, else fp32.

    Raises:
        ValueError: The device is unknown or absent, or the dtype unknown.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> checkpoint = load_checkpoint()
        >>> scorer = GLiClassScorer(checkpoint.network, device="cpu", dtype="float32")
        >>> scorer.logits(checkpoint.prompts.build(["a question"], ["one", "two"], 512)).shape
        (2, 1)
    """

    def __init__(
        self,
        network: GLiClassNetwork,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self._network = network.eval().to(self.device)
        for weight in self._network.encoder_model.parameters():  # not the buffers: angles of positions want fp32
            weight.data = weight.data.to(self.dtype)
        if self.device.type == "cpu":
            prepack_linears(self._network)
        # Elsewhere sequences are padded: no packed attention has been measured there.
        self._packs = self.device.type == "cpu" and network.can_pack
        self._reduced_budget: int | None = None  # after an out-of-memory
        self._batches_until_retry = 0
        self._lock = threading.Lock()
        self._budget_lock = threading.Lock()
        self._process = os.getpid()

    def logits(self, prompts: Sequence[Prompt], *, token_budget: int | None = None) -> NDArray[np.float32]:
        """Score sequences; the result does not depend on which of them run together.

        Args:
            prompts: Sequences, all with the same number of labels.
            token_budget: Tokens computed together; None for what suits the device. It is halved when
                memory runs out, and doubled again after a while.

        Returns:
            (sequences, labels) logits, in the order of ``prompts``.

        Raises:
            FloatingPointError: A logit is not finite.
            MemoryError: Not even one sequence fits into memory.
            RuntimeError: The process was forked after the scorer was made.
        """
        self.check_process()
        if not prompts:
            return np.zeros((0, 0), dtype=np.float32)
        limit = TOKEN_BUDGETS[self.device.type] if token_budget is None else token_budget
        lengths = [len(prompt.ids) for prompt in prompts]
        batches = plan_batches(lengths, self._budget(limit))[::-1]  # the longest run first, and fail first
        order: list[int] = []
        rows: list[Tensor] = []  # they stay on the device, so that no batch waits for the one before it
        while batches:
            batch = batches.pop()
            computed = self._run([prompts[i] for i in batch])
            if computed is None:
                self._reduce_budget(limit, lengths[batch[0]], len(batch))
                pending = [i for b in (*batches, batch) for i in b]
                planned = plan_batches([lengths[i] for i in pending], self._budget(limit))[::-1]
                batches = [[pending[i] for i in b] for b in planned]
            else:
                order += batch
                rows.append(computed)
                self._count_batch(limit)
        logits = np.empty((len(prompts), prompts[0].num_labels), dtype=np.float32)
        logits[order] = torch.cat(rows).cpu().numpy()
        if not np.isfinite(logits).all():
            way_out = "Use another checkpoint." if self.dtype == torch.float32 else "Use dtype='float32'."
            raise FloatingPointError(f"the model gave a logit that is not finite with dtype {self.dtype}. {way_out}")
        return logits

    @property
    def is_own_process(self) -> bool:
        """Whether this is the process that the scorer was made in."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Check that this is the process that the scorer was made in; in a forked one, locks and threads hang.

        Raises:
            RuntimeError: It is not.
        """
        if not self.is_own_process:
            raise RuntimeError(
                "this process was forked from the one that loaded the model, and a forward pass would hang in it. "
                "Load the model in each process, or start processes with multiprocessing's 'spawn' method."
            )

    def _run(self, prompts: Sequence[Prompt]) -> Tensor | None:
        """Compute the logits of one batch, on the device; return None if memory ran out."""
        lengths = [len(prompt.ids) for prompt in prompts]
        ids = _join(prompts) if self._packs else _stack(prompts, lengths)
        try:
            with self._lock, own_torch_settings(self.device):
                return self._forward(_move(ids, self.device), lengths, prompts[0].num_labels).float()
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not _is_out_of_memory(error):
                raise
        # Only here, outside of the except block, are the failed pass's tensors free.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
        return None

    def _forward(self, ids: Tensor, lengths: Sequence[int], num_labels: int) -> Tensor:
        """Run the network on sequences in one row, or one row each."""
        if self._packs:
            return self._network.score_packed(ids, lengths, num_labels)
        logits: Tensor = self._network(ids, _mask(lengths, ids), num_labels)
        return logits

    def _budget(self, limit: int) -> int:
        reduced = self._reduced_budget  # read once: another thread may end it
        return limit if reduced is None else min(limit, reduced)

    def _reduce_budget(self, limit: int, length: int, size: int) -> None:
        """Halve the token budget after a batch of ``size`` sequences of at most ``length`` tokens failed."""
        if size == 1:
            raise MemoryError(
                f"one sequence of {length} tokens does not fit into the memory of {self.device}. "
                "Lower max_length, or use a smaller model, another device or dtype='bfloat16'."
            )
        with self._budget_lock:
            self._reduced_budget = reduced = max(1, min(self._budget(limit), length * size) // 2)
            self._batches_until_retry = _BATCHES_UNTIL_RETRY
        log.warning("%s ran out of memory; computing %d tokens at a time for now.", self.device, reduced)

    def _count_batch(self, limit: int) -> None:
        """Try a larger token budget again once enough batches have passed since memory ran out."""
        with self._budget_lock:
            if self._reduced_budget is None or limit <= self._reduced_budget:
                return
            self._batches_until_retry -= 1
            if self._batches_until_retry <= 0:
                self._batches_until_retry = _BATCHES_UNTIL_RETRY
                self._reduced_budget *= 2
                if self._reduced_budget >= limit:
                    self._reduced_budget = None
                    log.info("Computing %d tokens at a time on %s again.", limit, self.device)


def pad(prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of some sequences, both (sequences, longest), padded on the right."""
    lengths = [len(prompt.ids) for prompt in prompts]
    ids = _move(_stack(prompts, lengths), device)
    return ids, _mask(lengths, ids)


def _join(prompts: Sequence[Prompt]) -> Tensor:
    """(tokens) ids of all sequences, one behind the other."""
    return torch.from_numpy(np.fromiter(chain.from_iterable(prompt.ids for prompt in prompts), np.int64))


def _stack(prompts: Sequence[Prompt], lengths: Sequence[int]) -> Tensor:
    """(sequences, longest) ids, with zeros behind the shorter ones."""
    ids = np.zeros((len(prompts), max(lengths)), np.int64)
    for row, prompt, length in zip(ids, prompts, lengths, strict=True):
        row[:length] = prompt.ids
    return torch.from_numpy(ids)


def _mask(lengths: Sequence[int], ids: Tensor) -> Tensor:
    """(sequences, longest), 1 for tokens and 0 for padding."""
    ends = _move(torch.tensor(lengths, device="cpu"), ids.device)
    return (torch.arange(ids.shape[1], device=ids.device) < ends[:, None]).long()


def _move(values: Tensor, device: torch.device) -> Tensor:
    """Copy to the device; to a GPU without waiting for what it computes."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def choose_device(device: str | None) -> torch.device:
    """The device that was asked for, checked, or the best there is; on CUDA with its number.

    Raises:
        ValueError: It is unknown or absent.
    """
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if device is None:
        device = next(kind for kind, count in counts.items() if count)
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}, expected 'cpu', 'cuda', 'cuda:<n>', 'mps' or None.") from error
    if (chosen.index or 0) >= counts.get(chosen.type, 0):
        present = ", ".join(kind for kind, count in counts.items() if count)
        raise ValueError(f"device is {device!r}, which this machine (or this PyTorch) lacks; present: {present}.")
    if chosen.type == "cuda":
        return torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
    return torch.device(chosen.type)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype that was asked for, or for "auto" the one that suits the device.

    Raises:
        ValueError: It is unknown.
    """
    check_dtype(dtype)
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # PyTorch versions that cannot tell have no entry here, and get fp32.
        ask = getattr(torch.cpu, "get_capabilities", dict[str, bool])
        features = ask() if device.type == "cpu" else {}
        fast = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32
