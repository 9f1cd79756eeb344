"""The command line: joins the commands and adds ``--version`` and shell completion."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_rerank import __version__
from gliclass_rerank.cli.bulk import bulk
from gliclass_rerank.cli.calibrate import calibrate
from gliclass_rerank.cli.classify import classify
from gliclass_rerank.cli.evaluate import evaluate
from gliclass_rerank.cli.rank import rank
from gliclass_rerank.cli.serve import serve
from gliclass_rerank.cli.train import train

# Plain help: Rich's boxes cut option names and break paragraphs on a terminal of 80 columns.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command("rank")(rank)
app.command("classify")(classify)
app.command("eval", short_help="Measure how well models rank or classify.")(evaluate)
app.command("train", short_help="Train a reranker on your own data.")(train)
app.command("calibrate", short_help="Make a model's scores mean probabilities.")(calibrate)
app.command("serve", short_help="Serve a model over HTTP.")(serve)
app.command("bulk")(bulk)


def _print_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"gliclass-rerank {__version__}")
        raise typer.Exit


@app.callback()
def _common_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Rerank passages with GLiClass."""


def main() -> None:
    """Run the command line; the entry point of the script ``gliclass-rerank``."""
    app(prog_name="gliclass-rerank")
