"""``gliclass-rerank calibrate``: make a checkpoint's scores mean probabilities."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from gliclass_rerank.cli.terminal import errors_in_one_line
from gliclass_rerank.cli.train import Exclude, Sources, Stored, require_training, torch_dtype

if TYPE_CHECKING:
    from gliclass_rerank.training.calibrate import CalibrationReport


def calibrate(
    output: Annotated[Path, typer.Argument(help="Folder for the calibrated model.")],
    sources: Sources,
    model: Annotated[str | None, typer.Option(help="Hub name or folder; the bundled model without it.")] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="How many; those that training kept out, if it was on this data.")
    ] = None,
    exclude: Exclude = None,
    stored: Stored = None,
) -> None:
    """Fit scale and offset of a model's logits on DATA that it was not trained on, and save it with them.

    No ranking changes. The threshold that parts answers from other passages best goes into the
    config as recommended_threshold.
    """
    with errors_in_one_line():
        require_training()
        from gliclass_rerank.training.calibrate import calibrate as run
        from gliclass_rerank.training.reading import read_ids

        report = run(
            model, sources, output, questions=questions, exclude=read_ids(exclude or []), dtype=torch_dtype(stored)
        )
    console = Console()
    if console.is_terminal:
        console.print(_as_table(report))
    else:
        json.dump(report.as_dict(), sys.stdout, indent=1)
        sys.stdout.write("\n")


def _as_table(report: CalibrationReport) -> Table:
    table = Table("", "log-loss", "calibration error", "F1", "at threshold", title=f"{report.pairs} pairs")
    for name, quality in (("before", report.before), ("after", report.after)):
        figures = (quality.log_loss, quality.calibration_error, quality.f1, quality.threshold)
        table.add_row(name, *(f"{figure:.3f}" for figure in figures))
    fitted = report.calibration
    table.caption = (
        f"scale {fitted.scale:.3f}, offset {fitted.offset:.3f}, recommended threshold {fitted.threshold:.2f}"
    )
    return table
