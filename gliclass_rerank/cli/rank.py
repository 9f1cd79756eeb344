"""``gliclass-rerank rank``: rank the passages of some files against a question."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from gliclass_rerank.cli.terminal import errors, errors_in_one_line, printable
from gliclass_rerank.data.passage_files import Layout, SourcedPassage, read_passages
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage


def rank(
    question: Annotated[str, typer.Argument(help="The question or search words.")],
    files: Annotated[list[str], typer.Argument(help="Files of passages; - for standard input.", metavar="FILE...|-")],
    top_k: Annotated[int | None, typer.Option(min=1, help="Passages to keep.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score to keep.")] = None,
    facet: Annotated[
        list[str] | None, typer.Option(help="Another thing to know of each passage; again for more.")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Read passages that do not fit in overlapping windows, not cut.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Hub name or folder; the bundled model without it.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    layout: Annotated[Layout, typer.Option(help="How the files hold passages; auto goes by the name.")] = Layout.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as when the output is no terminal.")] = False,
) -> None:
    """Rank the passages in FILES against QUESTION.

    JSON lines (.jsonl) with a "text" each, text and Markdown files (.txt, .md) split into
    paragraphs, and anything else one passage a line. Of a passage read in windows the best one is shown.
    """
    with errors_in_one_line():
        passages = [passage for file in files for passage in read_passages(file, layout)]
        with errors.status("ranking", spinner="dots"):
            reranker = GLiClassReranker.from_pretrained(
                model, device=device, long_passages="windows" if windows else "truncate"
            )
            hits = reranker.rank(
                question, [p.text for p in passages], top_k=top_k, threshold=threshold, facets=facet or ()
            )
    console = Console()
    if as_json or not console.is_terminal:
        json.dump([_as_dict(i, hit, passages) for i, hit in enumerate(hits, 1)], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        console.print(_as_table(hits, console.encoding))
    cut = sum(hit.truncated for hit in hits)
    if cut:
        errors.print(f"note: {cut} of these passages were cut to {reranker.max_length} tokens", style="yellow")


def _as_dict(place: int, hit: RankedPassage, passages: list[SourcedPassage]) -> dict[str, Any]:
    return {
        "rank": place,
        "score": round(hit.score, 6),
        "index": hit.index,
        "source": passages[hit.index].source,
        "truncated": hit.truncated,
        **({"span": hit.span} if hit.span else {}),
        **({"facets": {facet: round(score, 6) for facet, score in hit.facets.items()}} if hit.facets else {}),
        "text": hit.text,
    }


def _as_table(hits: list[RankedPassage], encoding: str) -> Table:
    # Text, not str: neither a facet nor a passage is ever read as markup.
    facets = [Column(Text(printable(facet, encoding))) for facet in (hits[0].facets if hits else ())]
    table = Table("rank", "score", "", *facets, "passage", box=None, pad_edge=False)
    for place, hit in enumerate(hits, 1):
        bar = ProgressBar(total=1, completed=hit.score, width=10)
        read = hit.text[slice(*hit.span)] if hit.span else hit.text
        of_facets = (f"{score:.3f}" for score in hit.facets.values())
        table.add_row(str(place), f"{hit.score:.3f}", bar, *of_facets, Text(printable(read, encoding)))
    return table
