"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_rerank.data.passage_files import Layout

Model = Annotated[str | None, typer.Option(help="Hub name or local folder. Default: the bundled model.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. Default: the fastest that is present.")]
MaxLength = Annotated[
    int | None, typer.Option(min=1, help="Tokens of query and passage together. Default: what the model was made for.")
]
Windows = Annotated[
    bool, typer.Option("--windows", help="Read long passages in overlapping windows instead of cutting them.")
]
FileLayout = Annotated[Layout, typer.Option(help="How the files hold their texts; auto goes by the file name.")]
TextColumn = Annotated[str, typer.Option(help="The CSV column or JSON key that holds the text.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on a terminal too; pipes and files always get it.")]
