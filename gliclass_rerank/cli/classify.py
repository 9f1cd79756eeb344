"""``gliclass-rerank classify``: which labels the texts of some files deserve."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.cli.terminal import errors, errors_in_one_line, printable, warnings_as_notes
from gliclass_rerank.data.beir import read_json
from gliclass_rerank.data.passage_files import Layout, SourcedPassage, read_passages


def classify(
    files: Annotated[list[str], typer.Argument(help="Files of texts; - for standard input.", metavar="FILE...|-")],
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="A label; again for more.")] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels", help="JSON file of labels: a list, or a dict of lists.")
    ] = None,
    single_label: Annotated[
        bool, typer.Option("--single-label", help="Give each text its best label; else all from the threshold on.")
    ] = False,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score to keep.")] = 0.5,
    prompt: Annotated[str | None, typer.Option(help="A description of the task.")] = None,
    model: Annotated[str | None, typer.Option(help="Hub name or folder; the bundled model without it.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    layout: Annotated[Layout, typer.Option(help="How the files hold texts; auto goes by the name.")] = Layout.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as when the output is no terminal.")] = False,
) -> None:
    """Give the texts in FILES the labels that they deserve.

    JSON lines (.jsonl) with a "text" each, text and Markdown files (.txt, .md) split into
    paragraphs, and anything else one text a line.
    """
    with errors_in_one_line():
        if (label is None) == (labels_file is None):
            raise ValueError("expected labels, either as --label, once for each, or as --labels FILE.")
        labels: Any = label if labels_file is None else read_json(labels_file)
        texts = [text for file in files for text in read_passages(file, layout)]
        with warnings_as_notes(), errors.status("classifying", spinner="dots"):
            classifier = ZeroShotClassifier.from_pretrained(
                model, device=device, classification_type="single-label" if single_label else "multi-label"
            )
            found: list[Any] = classifier([text.text for text in texts], labels, threshold, prompt=prompt)
    console = Console()
    if as_json or not console.is_terminal:
        json.dump([_as_dict(text, of_text) for text, of_text in zip(texts, found, strict=True)], sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    table = Table("labels", "text", box=None, pad_edge=False)
    for text, of_text in zip(texts, found, strict=True):
        labelled = ", ".join(f"{label['label']} {label['score']:.3f}" for label in of_text)
        # Text, not str: neither is read as markup.
        table.add_row(Text(printable(labelled, console.encoding)), Text(printable(text.text, console.encoding)))
    console.print(table)


def _as_dict(text: SourcedPassage, found: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [{"label": label["label"], "score": round(label["score"], 6)} for label in found]
    return {"source": text.source, "labels": labels, "text": text.text}
