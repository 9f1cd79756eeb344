"""The adapters as packages: pickling, shared weights, imports and what they install."""

from __future__ import annotations

import gc
import importlib
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.optional import install_command
from tests.adapter_harnesses import FP32, HARNESSES, ITEMS, QUERY

INTEGRATIONS = Path(__file__).parent.parent / "integrations"


def test_pickled_it_is_the_same_adapter_without_the_weights(harness: Any) -> None:
    adapter = harness.make(**FP32, score_threshold=0.01)
    expected = [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
    packed = pickle.dumps(adapter)
    assert len(packed) < 20_000
    again = pickle.loads(packed)
    assert [harness.unwrap(result) for result in harness.run(again, QUERY, harness.wrap(ITEMS))] == expected


def test_adapters_of_one_checkpoint_share_its_weights(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint_folder(), tmp_path / "loaded by nobody yet")
    lazies = [LazyReranker(folder, **FP32, max_length=length) for length in (None, 64, 128)]
    barrier, loaded = threading.Barrier(3), []

    def load(lazy: LazyReranker) -> None:
        barrier.wait()
        loaded.append(lazy.load())

    threads = [threading.Thread(target=load, args=(lazy,)) for lazy in lazies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(reranker.engine.model) for reranker in loaded}) == 1
    assert len({reranker.max_length for reranker in loaded}) == 3
    assert LazyReranker(folder, device="cpu", dtype="bfloat16").load().engine.model is not loaded[0].engine.model


def test_all_three_frameworks_share_one_set_of_weights(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(shutil.copytree(checkpoint_folder(), tmp_path / "new"))
    adapters = [harness.make(**FP32, model=folder) for harness in HARNESSES]
    for harness, adapter in zip(HARNESSES, adapters, strict=True):
        harness.run(adapter, QUERY, harness.wrap(ITEMS))
    gc.collect()
    loaded = [item for item in gc.get_objects() if type(item) is LoadedModel]
    assert [model.checkpoint.name for model in loaded].count(folder) == 1


def test_making_an_adapter_loads_nothing(harness: Any) -> None:
    code = (
        "import sys; from tests.adapter_harnesses import HARNESSES;"
        f"[h] = [h for h in HARNESSES if h.name == {harness.name!r}]; h.make(); "
        "assert 'gliclass_rerank.engine.scorer' not in sys.modules and 'gliclass_rerank.engine.checkpoint' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_without_its_framework_the_import_names_the_package_to_install(harness: Any) -> None:
    root = harness.framework.split(".")[0]
    # An empty finder for the framework's own modules stands for its absence.
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {harness.framework!r} or name == {root!r} != 'llama_index':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import gliclass_rerank\n"
        f"try:\n    import {harness.module}\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"{harness.framework} is not installed. Run: pip install {harness.package}" in done.stdout


def test_commands_that_install_an_extra_name_the_packages_of_pyproject() -> None:
    project = tomllib.loads((INTEGRATIONS.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def packages(extra: str) -> set[str]:
        names: set[str] = set()
        for requirement in extras[extra]:
            inner = re.fullmatch(r"gliclass-rerank\[(.*)\]", requirement)
            names |= packages(inner[1]) if inner else {re.sub(r">=[0-9.]+,?", "", requirement)}
        return names

    for extra in extras.keys() - {"all"}:
        command = shlex.split(install_command(extra))
        assert command[:2] == ["pip", "install"] and set(command[2:]) == packages(extra)


def test_the_import_path_is_a_package_of_ours_in_a_namespace_of_theirs(harness: Any) -> None:
    module = importlib.import_module(harness.module)
    assert module.__file__ and INTEGRATIONS in Path(module.__file__).parents
    assert (Path(module.__file__).parent / "py.typed").is_file()


def test_namespace_folders_hold_no_init() -> None:
    inits = {path.parent.relative_to(INTEGRATIONS).as_posix() for path in INTEGRATIONS.rglob("__init__.py")}
    assert inits == {
        "langchain_gliclass_rerank",
        "llama_index/postprocessor/gliclass_rerank",
        "haystack_integrations/components/rankers/gliclass_rerank",
    }
