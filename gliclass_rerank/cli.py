"""The command line: ``gliclass-rerank rank "question" FILE``, ``gliclass-rerank eval COLLECTION``."""

from __future__ import annotations

import typer

from gliclass_rerank.commands.bulk import bulk
from gliclass_rerank.commands.calibrate import calibrate
from gliclass_rerank.commands.classify import classify
from gliclass_rerank.commands.evaluate import evaluate
from gliclass_rerank.commands.rank import rank
from gliclass_rerank.commands.serve import serve
from gliclass_rerank.commands.train import train

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


if __name__ == "__main__":
    main()
