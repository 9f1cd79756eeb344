from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gliclass_rerank import GLiClassReranker
from tests.adapter_harnesses import FP32, HARNESSES, QUERY, Item

# Before anything imports torch, which reads them once. Tests run side by side: a pool of threads in each process would
# make them many times slower. A run with `OMP_NUM_THREADS=$(nproc)` tests with as many threads as users have.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PASSAGES = (
    "Bread rises because yeast makes gas.",
    "Leaves turn light, water and air into sugar.",
    "  two    spaces and\n  a naïve café",
    "The chain of a bicycle wants oil, not grease: grease holds dust. " * 5,
    "Point the hour hand at the sun to find north without a compass.",
    "東京は日本の首都です。",
)


@pytest.fixture(autouse=True, scope="session")
def quiet_transformers() -> Iterator[None]:
    import transformers  # here, since every pytest process imports this file, also those that run no test

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield


@pytest.fixture(scope="session")
def bundled() -> GLiClassReranker:
    """The bundled model in fp32 on the CPU."""
    return GLiClassReranker.from_pretrained(device="cpu", dtype="float32")


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A folder for Ray, whose sockets' paths must not be longer than 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a random checkpoint, once for the same encoder and options."""
    from tests.random_checkpoints import write_checkpoint

    written: dict[str, Path] = {}

    def write(encoder: str = "bert", **options: object) -> Path:
        key = repr((encoder, sorted(options.items())))
        if key not in written:
            written[key] = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), encoder, **options)
        return written[key]

    return write


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare BERT with random weights, and without the pooler that nothing reads."""
    from tests.random_checkpoints import write_encoder

    return write_encoder(tmp_path_factory.mktemp("encoder"), add_pooling_layer=False)


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that a tiny model can learn."""
    from tests.colors import write_colors

    return write_colors(tmp_path_factory.mktemp("collections") / "colors")


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def rank(harness: Any) -> Any:
    """Ranks items by an adapter with some options, and gives items back."""

    def run(items: list[Item], query: str = QUERY, **options: Any) -> list[Item]:
        results = harness.run(harness.make(**FP32, **options), query, harness.wrap(items))
        return [harness.unwrap(result) for result in results]

    return run
