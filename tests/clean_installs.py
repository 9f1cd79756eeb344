"""Installs the wheel into clean environments: without frameworks, with each one, and with neighbours of its namespaces.

    python tests/clean_installs.py

It is not a pytest test because it installs packages. Our dependencies are left out: importing needs none of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADAPTERS = {
    "langchain": "langchain_gliclass_rerank",
    "llama-index": "llama_index.postprocessor.gliclass_rerank",
    "haystack": "haystack_integrations.components.rankers.gliclass_rerank",
}
FRAMEWORKS = {"langchain": "langchain-core", "llama-index": "llama-index-core", "haystack": "haystack-ai"}
# Other packages in the same namespaces, and the modules that they bring.
NEIGHBOURS = {
    "llama-index-postprocessor-jinaai-rerank": "llama_index.postprocessor.jinaai_rerank",
    "jina-haystack": "haystack_integrations.components.rankers.jina",
}
TRY = """
import sys
try:
    __import__(sys.argv[1])
except ImportError as error:
    print(error)
else:
    print("imported")
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


class Environment:
    """A new virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"

    def pip(self, *arguments: str | Path) -> None:
        run(self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def install(self, *packages: str) -> None:
        if packages:
            self.pip("install", "--constraint", ROOT / "constraints.txt", *packages)

    def install_alone(self, *packages: str | Path) -> None:
        self.pip("install", "--no-deps", *packages)

    def imports(self, module: str) -> str:
        return run(self.python, "-c", TRY, module)


def expect(output: str, expected: str, case: str) -> None:
    if expected not in output:
        sys.exit(f"{case}: expected {expected!r}, got {output!r}")
    print(f"ok  {case}: {expected}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder, "wheels")
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT)
        [wheel] = wheels.glob("*.whl")
        for alone in (None, *FRAMEWORKS):
            environment = Environment(Path(folder, alone or "none"))
            environment.install(*([FRAMEWORKS[alone]] if alone else []))
            environment.install_alone(wheel)
            expect(environment.imports("gliclass_rerank"), "imported", f"with {alone}: gliclass_rerank")
            for name, module in ADAPTERS.items():
                expected = "imported" if name == alone else f"Run: pip install {FRAMEWORKS[name]}"
                expect(environment.imports(module), expected, f"with {alone}: {module}")
        together = Environment(Path(folder, "together"))
        together.install(*FRAMEWORKS.values())
        together.install_alone(wheel, *NEIGHBOURS)
        for module in (*ADAPTERS.values(), *NEIGHBOURS.values()):
            expect(together.imports(module), "imported", f"all together: {module}")
        together.pip("uninstall", "--yes", "gliclass-rerank")
        for module in NEIGHBOURS.values():
            expect(together.imports(module), "imported", f"after removing ours: {module}")
        expect(together.imports(ADAPTERS["haystack"]), "No module named", "after removing ours: the adapter")
    print("all passed")


if __name__ == "__main__":
    main()
