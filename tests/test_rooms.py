"""The rooms of the source tree: which may import which, and what each may hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gliclass_rerank"
MAX_LINES = 400
MAX_ENTRIES = 12

# Room to the rooms that it may import. The ground first, then upwards.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "optional": set(),
    "probabilities": set(),
    "fusion": {"probabilities"},
    "validation": {"errors", "fusion"},
    "options": {"validation"},
    "data": {"errors", "validation"},
    "modeling": {"errors", "validation"},
    "prompt": {"errors", "validation", "modeling"},
    "engine": {"errors", "validation", "options", "data", "modeling", "prompt"},
    "reranker": {"errors", "validation", "options", "probabilities", "fusion", "engine"},
    "classifier": {"errors", "validation", "options", "probabilities", "engine", "prompt"},
    "context": {"validation", "reranker"},
    "compression": {"validation", "fusion", "reranker", "context"},
    "adapter": {"validation", "options", "optional", "fusion", "reranker", "compression"},
    "__init__": {"errors", "reranker", "classifier", "context", "compression"},
    # Each of these stands on all of the above but the adapters' helpers, and on few of its neighbours.
    "evaluation": set(),
    "training": {"evaluation"},
    "bulk": set(),
    "serving": {"bulk"},
    "cli": {"evaluation", "training", "bulk", "serving"},
}
TOP = ("evaluation", "training", "bulk", "serving", "cli")
for top_room in TOP:
    MAY_IMPORT[top_room] |= MAY_IMPORT.keys() - {*TOP, "adapter"}

IMPORT_TORCH = {"engine", "modeling", "training"}

# Names that do not say what they hold.
VAGUE_NAMES = {"ahead", "asked", "company", "deserved", "found", "kept", "lowest", "taken", "told", "wanted"}
VAGUE_PREFIXES = ("of_", "most_")

# What is still to be mended; each of these must shrink to nothing.
TESTS_THAT_IMPORT_BENCHMARKS = {"test_shapes.py"}

PACKAGE_FILES = sorted(PACKAGE.rglob("*.py"))
OTHER_FOLDERS = ("integrations", "benchmarks", "examples", "recipes", "tests")
ALL_FILES = [*PACKAGE_FILES, *(path for folder in OTHER_FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]


def room_of(path: Path) -> str:
    """The first folder or file below the package; for other source roots the root's name."""
    if path.is_relative_to(PACKAGE):
        return path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return path.relative_to(ROOT).parts[0]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, *, types_too: bool, functions_too: bool = True) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if is_for_types_only(child) and not types_too:
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not functions_too:
            continue
        yield child
        yield from walk(child, types_too=types_too, functions_too=functions_too)


def imported_modules(path: Path, *, types_too: bool, functions_too: bool = True) -> set[str]:
    modules: set[str] = set()
    for node in walk(parse(path), types_too=types_too, functions_too=functions_too):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def imported_rooms(path: Path) -> set[str]:
    modules = [module.split(".") for module in imported_modules(path, types_too=True)]
    rooms = {parts[1] for parts in modules if parts[0] == "gliclass_rerank" and len(parts) > 1}
    return {room if room in MAY_IMPORT else "__init__" for room in rooms}  # a public name comes from the root


def test_every_room_has_its_rule() -> None:
    assert {room_of(path) for path in PACKAGE_FILES} - {"bundled"} == MAY_IMPORT.keys()


def test_the_rules_let_no_rooms_import_each_other() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    """Imports for types count: who reads a file reads those too."""
    for path in PACKAGE_FILES:
        if room_of(path) == room:
            above = imported_rooms(path) - MAY_IMPORT[room] - {room}
            assert not above, f"{path.relative_to(ROOT)} imports {above}"


def test_no_module_imports_itself_through_others() -> None:
    """Imports for types do not count: they do not run."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE_FILES}
    imports = {name: imported_modules(path, types_too=False) & names.keys() for name, path in names.items()}
    TopologicalSorter(imports).prepare()  # raises CycleError


@pytest.mark.parametrize("room", sorted(MAY_IMPORT.keys() - IMPORT_TORCH))
def test_torch_is_imported_by_few_rooms_only(room: str) -> None:
    for path in PACKAGE_FILES:
        if room_of(path) == room:
            modules = imported_modules(path, types_too=False, functions_too=False)
            assert not {module for module in modules if module.split(".")[0] == "torch"}, path


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, gliclass_rerank; print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_the_package_s_folder_fits_on_a_screen() -> None:
    files = [path.name for path in PACKAGE.iterdir() if path.is_file() and not path.name.startswith(".")]
    assert len(files) <= MAX_ENTRIES, sorted(files)


def test_a_file_can_be_read_in_one_go() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL_FILES}
    assert not {path for path, lines in lengths.items() if lines > MAX_LINES}


def given_names(path: Path) -> Iterator[tuple[int, str]]:
    """Names that a file gives to something, with their lines."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def is_vague(name: str) -> bool:
    plain = name.lower().strip("_")
    return plain in VAGUE_NAMES or plain.startswith(VAGUE_PREFIXES)


@pytest.mark.parametrize("room", sorted({room_of(path) for path in ALL_FILES}))
def test_names_say_what_they_hold(room: str) -> None:
    vague = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in ALL_FILES
        if room_of(path) == room
        for line, name in given_names(path)
        if is_vague(name)
    ]
    assert not vague


def test_a_vague_name_is_recognised() -> None:
    assert all(map(is_vague, ["found", "_Found", "of_query", "MOST_WORDS", "lowest"]))
    assert not any(map(is_vague, ["office", "foundation", "scores", "mostly", "spans"]))


def test_tests_do_not_lean_on_benchmarks() -> None:
    importers = {
        path.name
        for path in (ROOT / "tests").glob("*.py")
        if any(module.split(".")[0] == "benchmarks" for module in imported_modules(path, types_too=True))
    }
    assert importers <= TESTS_THAT_IMPORT_BENCHMARKS
