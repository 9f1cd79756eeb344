"""Load a model for the thread that will run it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.reranker import GLiClassReranker


def load_reranker(options: RerankerOptions) -> GLiClassReranker:
    """Load a reranker in a thread that ends afterwards, so that the thread that scores has all cores.

    Each thread that computes gets its own pool of threads from OpenMP. With more of them in the process than there
    are cores, GCC's OpenMP lets all of them sleep between two operations: on two cores that meant 77 passages per
    second instead of 101. The pool of the loading thread ends with it.

    Args:
        options: Which model to load, and how to run it.

    Raises:
        CheckpointError: The checkpoint cannot be found or used.
        ValueError: An option is out of range, or this machine lacks the device.

    Example:
        >>> load_reranker(RerankerOptions(device="cpu")).max_length
        512
    """
    with ThreadPoolExecutor(1) as loading:
        return loading.submit(GLiClassReranker.from_pretrained, **asdict(options)).result()
