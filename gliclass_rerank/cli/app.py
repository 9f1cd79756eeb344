"""The command line: ``gliclass-rerank rank "question" FILE``, ``gliclass-rerank eval COLLECTION``."""

from __future__ import annotations

import typer

from gliclass_rerank.cli.bulk import bulk
from gliclass_rerank.cli.calibrate import calibrate
from gliclass_rerank.cli.classify import classify
from gliclass_rerank.cli.evaluate import evaluate
from gliclass_rerank.cli.rank import rank
from gliclass_rerank.cli.serve import serve
from gliclass_rerank.cli.train import train

app = typer.Typer(help="Rerank passages with GLiClass.", no_args_is_help=True, add_completion=False)
app.command("rank")(rank)
app.command("classify")(classify)
app.command("eval")(evaluate)
app.command("train")(train)
app.command("calibrate")(calibrate)
app.command("serve")(serve)
app.command("bulk")(bulk)


def main() -> None:
    """Entry point of the console script."""
    app()
