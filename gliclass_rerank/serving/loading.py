"""Load a model for a worker thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.reranker import GLiClassReranker


def load_reranker(options: RerankerOptions) -> GLiClassReranker:
    """Load what one thread is to use, so that this thread has all cores.

    Each thread that computes gets a pool of threads of its own from OpenMP, and with more of them in the process than
    there are cores, GCC's lets all of them sleep between two operations: on two cores 77 passages a second in place
    of 101. So the model is loaded in a thread that ends with its pool.

    Args:
        options: Which model, and how it runs.

    Raises:
        CheckpointError: See ``GLiClassReranker.from_pretrained``.
        ValueError: See there.

    Example:
        >>> load_reranker(RerankerOptions(device="cpu")).max_length
        512
    """
    with ThreadPoolExecutor(1) as loading:
        return loading.submit(GLiClassReranker.from_pretrained, **asdict(options)).result()
