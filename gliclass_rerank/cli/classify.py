"""``gliclass-rerank classify``: print which labels fit the texts of files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.cli.options import AsJson, Device, FileLayout, Model, TextColumn
from gliclass_rerank.cli.terminal import (
    block_size,
    errors,
    errors_in_one_line,
    print_note,
    printable,
    read_in_blocks,
    write_json_array,
)
from gliclass_rerank.data.beir import read_json
from gliclass_rerank.data.passage_files import Layout, PassageFiles
from gliclass_rerank.validation import check_texts


def classify(
    files: Annotated[
        list[str], typer.Argument(help="Files or folders of texts; - for standard input.", metavar="FILE")
    ],
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="A label; repeat it for more.")] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels", help="JSON file with the labels: a list, or an object of lists.")
    ] = None,
    single_label: Annotated[
        bool, typer.Option("--single-label", help="Print the best label of each text, whatever its score.")
    ] = False,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Print labels with at least this score.")] = 0.5,
    prompt: Annotated[str | None, typer.Option(help="A description of the task.")] = None,
    model: Model = None,
    device: Device = None,
    layout: FileLayout = Layout.AUTO,
    text_column: TextColumn = "text",
    as_json: AsJson = False,
) -> None:
    """Print the labels that fit each of the texts in FILES.

    Reads JSON lines (.jsonl), JSON arrays (.json) and CSV (.csv, .tsv) with a "text" in each row, paragraphs of
    text and Markdown (.txt, .md, .rst), and one text per line from anything else. A folder stands for all of its
    files with these endings.
    """
    with errors_in_one_line():
        labels = _read_labels(label, labels_file)
        texts = PassageFiles(files, layout, text_column)
        with errors.status("loading the model", spinner="dots"):
            classifier = ZeroShotClassifier.from_pretrained(
                model, device=device, classification_type="single-label" if single_label else "multi-label"
            )
        predictions = _Predictions(classifier, texts, labels, prompt, 0.0 if single_label else threshold)
        console = Console()
        if as_json or not console.is_terminal:
            write_json_array(predictions)
        else:
            console.print(_make_table(predictions, console.encoding))
    if not len(texts):
        print_note("the files hold no texts")
    if predictions.has_cut:
        print_note(f"some texts were cut, since text and labels have to fit into {classifier.max_length} tokens")
    if predictions.unlabelled:
        print_note(_describe_unlabelled(predictions, len(texts), threshold, is_bundled=model is None))


def _read_labels(labels: list[str] | None, labels_file: Path | None) -> Any:  # noqa: ANN401 - a list, or a dict of lists
    if (labels is None) == (labels_file is None):
        raise ValueError("there are no labels, or two sources of them. Give either --label for each, or --labels FILE.")
    if labels_file is None:
        return labels
    content = read_json(labels_file)
    return content if isinstance(content, dict) else check_texts(f"--labels {labels_file}", content)


class _Predictions:
    """Classify texts while they are iterated over.

    Attributes:
        unlabelled: How many texts have no label so far.
        best_unlabelled: The best score of any label of these texts.
        has_cut: Whether a text was cut.
    """

    def __init__(
        self,
        classifier: ZeroShotClassifier,
        texts: PassageFiles,
        labels: Any,  # noqa: ANN401 - a list, or a dict of lists
        prompt: str | None,
        threshold: float,
    ) -> None:
        self._classifier, self._texts, self._labels = classifier, texts, labels
        self._prompt, self._threshold = prompt, threshold
        self.unlabelled = 0
        self.best_unlabelled = 0.0
        self.has_cut = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        size = block_size(str(self._classifier.engine.model.scorer.device))
        for block in read_in_blocks(self._texts, "classifying", size):
            texts = [text.text for text in block]
            with warnings.catch_warnings(record=True, action="always") as caught:
                # Without a threshold, so that the scores below it are known too.
                scored: list[Any] = self._classifier(texts, self._labels, threshold=None, prompt=self._prompt)
            # The warning counts the cut texts of this block, which means nothing to a user.
            self.has_cut |= any("were cut" in str(warning.message) for warning in caught)
            for text, predictions in zip(block, scored, strict=True):
                labels = [prediction for prediction in predictions if prediction["score"] >= self._threshold]
                if not labels:
                    self.unlabelled += 1
                    best = max(prediction["score"] for prediction in predictions)
                    self.best_unlabelled = max(self.best_unlabelled, best)
                rounded = [{"label": label["label"], "score": round(label["score"], 6)} for label in labels]
                yield {"source": text.source, "labels": rounded, "text": text.text}


def _make_table(rows: Iterable[dict[str, Any]], encoding: str) -> Table:
    table = Table("labels", "text", box=None, pad_edge=False)
    for row in rows:
        labels = ", ".join(f"{label['label']} {label['score']:.3f}" for label in row["labels"])
        # Text, not str: Rich would read brackets in it as markup.
        table.add_row(Text(printable(labels, encoding)), Text(printable(row["text"], encoding)))
    return table


def _describe_unlabelled(predictions: _Predictions, count: int, threshold: float, *, is_bundled: bool) -> str:
    note = (
        f"{predictions.unlabelled} of {count} texts got no label: all of their scores are below the threshold "
        f"{threshold:g}, and the best is {predictions.best_unlabelled:.3g}. Use --single-label for the best label of "
        "each text, or a lower --threshold"
    )
    if is_bundled:
        note += "; the bundled model was trained to rank, so consider --model with a GLiClass model for classification"
    return note
