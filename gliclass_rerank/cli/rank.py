"""``gliclass-rerank rank``: rank the passages of files by how well they answer a question."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from gliclass_rerank.cli.options import AsJson, Device, FileLayout, Model, TextColumn, Windows
from gliclass_rerank.cli.terminal import (
    block_size,
    errors,
    errors_in_one_line,
    print_note,
    printable,
    read_in_blocks,
    write_json_array,
)
from gliclass_rerank.data.passage_files import Layout, PassageFiles, SourcedPassage
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage


def rank(
    question: Annotated[str, typer.Argument(help="The question or search words.")],
    files: Annotated[
        list[str], typer.Argument(help="Files or folders of passages; - for standard input.", metavar="FILE")
    ],
    top_k: Annotated[int | None, typer.Option(min=1, help="Print only this many passages. Default: all.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Print only passages with at least this score.")
    ] = None,
    facet: Annotated[
        list[str] | None, typer.Option(help="Another question to score each passage for; repeat it for more.")
    ] = None,
    windows: Windows = False,
    model: Model = None,
    device: Device = None,
    layout: FileLayout = Layout.AUTO,
    text_column: TextColumn = "text",
    as_json: AsJson = False,
) -> None:
    """Rank the passages in FILES against QUESTION.

    Reads JSON lines (.jsonl), JSON arrays (.json) and CSV (.csv, .tsv) with a "text" in each row, paragraphs of
    text and Markdown (.txt, .md, .rst), and one passage per line from anything else. A folder stands for all of
    its files with these endings. With --windows, the table shows the best window of a long passage.
    """
    with errors_in_one_line():
        passages = PassageFiles(files, layout, text_column)
        with errors.status("loading the model", spinner="dots"):
            reranker = GLiClassReranker.from_pretrained(
                model, device=device, long_passages="windows" if windows else "truncate"
            )
        reranker.rank(question, [], top_k=top_k, threshold=threshold, facets=facet or ())  # checks the arguments
        ranking = Ranking(top_k)
        for block in read_in_blocks(passages, "ranking", block_size(reranker.device)):
            texts = [passage.text for passage in block]
            hits = reranker.rank(question, texts, top_k=top_k, threshold=threshold, facets=facet or ())
            ranking.add(hits, block)
    console = Console()
    if as_json or not console.is_terminal:
        write_json_array(ranking)
    else:
        console.print(make_table(ranking, console.encoding))
    if not len(passages):
        print_note("the files hold no passages")
    if ranking.truncated:
        length = reranker.max_length
        print_note(f"{ranking.truncated} of these passages were cut to {length} tokens; --windows reads them whole")


class Ranking:
    """Ranked rows of many blocks, best first, in a temporary database, since they may not fit in memory.

    Args:
        top_k: The number of rows to yield; None for all.

    Attributes:
        truncated: How many of the rows hold a passage that was cut.
    """

    def __init__(self, top_k: int | None = None) -> None:
        self._top_k = top_k
        self._added = 0
        self._database = sqlite3.connect("")  # SQLite keeps it in a file once it grows, and deletes that itself
        self._database.execute("CREATE TABLE hits (logit REAL, position INTEGER, truncated INTEGER, row TEXT)")

    def add(self, hits: Iterable[RankedPassage], block: list[SourcedPassage]) -> None:
        """Add the hits of one block.

        Args:
            hits: What ``rank`` returned for the block.
            block: The passages; the next ones in the order of the files.
        """
        rows = (
            (hit.logit, self._added + hit.index, hit.truncated, json.dumps(_as_dict(hit, block, self._added)))
            for hit in hits
        )
        self._database.executemany("INSERT INTO hits VALUES (?, ?, ?, ?)", rows)
        self._added += len(block)

    @property
    def truncated(self) -> int:  # noqa: D102 - the class says it
        return sum(is_truncated for is_truncated, _ in self._select())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for place, (_, row) in enumerate(self._select(), 1):
            yield {"rank": place, **json.loads(row)}

    def _select(self) -> Iterator[tuple[int, str]]:
        limit = -1 if self._top_k is None else self._top_k
        return self._database.execute("SELECT truncated, row FROM hits ORDER BY logit DESC, position LIMIT ?", [limit])


def _as_dict(hit: RankedPassage, block: list[SourcedPassage], offset: int) -> dict[str, Any]:
    return {
        "score": round(hit.score, 6),
        "index": offset + hit.index,
        "source": block[hit.index].source,
        "truncated": hit.truncated,
        **({"span": hit.span} if hit.span else {}),
        **({"facets": {facet: round(score, 6) for facet, score in hit.facets.items()}} if hit.facets else {}),
        "text": hit.text,
    }


def make_table(rows: Iterable[dict[str, Any]], encoding: str) -> Table:
    """Show ranked rows to a person.

    Args:
        rows: The rows of a ``Ranking``.
        encoding: The terminal's encoding.

    Returns:
        A table with a line per row.

    Example:
        >>> make_table([{"rank": 1, "score": 0.5, "text": "Water first."}], "utf-8").row_count
        1
    """
    rows = list(rows)
    # Text, not str: Rich would read brackets in a facet or a passage as markup.
    facets = [Column(Text(printable(facet, encoding))) for facet in (rows[0].get("facets", ()) if rows else ())]
    table = Table("rank", "score", "", *facets, "passage", box=None, pad_edge=False)
    for row in rows:
        bar = ProgressBar(total=1, completed=row["score"], width=10)
        facet_scores = (f"{score:.3f}" for score in row.get("facets", {}).values())
        text = row["text"][slice(*row["span"])] if "span" in row else row["text"]
        table.add_row(str(row["rank"]), f"{row['score']:.3f}", bar, *facet_scores, Text(printable(text, encoding)))
    return table
