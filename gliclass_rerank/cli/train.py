"""``gliclass-rerank train``: make a reranker from questions and their passages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gliclass_rerank.cli.terminal import errors, errors_in_one_line, printable
from gliclass_rerank.optional import require
from gliclass_rerank.training.lora import LORA_PRESETS
from gliclass_rerank.training.settings import LOSSES, TrainingSettings

if TYPE_CHECKING:
    import torch


class StoredDtype(StrEnum):
    """What weights are stored as."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


Sources = Annotated[list[str], typer.Argument(help="Folders in BEIR layout, files of rows.", metavar="DATA...")]
Exclude = Annotated[list[Path] | None, typer.Option(help="File with ids of passages to leave out, one a line.")]
Stored = Annotated[
    StoredDtype | None, typer.Option("--dtype", help="What the weights are stored as; as they were without it.")
]


def require_training() -> None:
    """Say which extra to install where something that training needs is missing.

    Raises:
        ImportError: It is not installed.
    """
    for module in ("accelerate", "peft", "ir_measures", "sklearn"):
        require(module, extra="train")


def torch_dtype(stored: StoredDtype | None) -> torch.dtype | None:
    """What weights are stored as, in torch's terms.

    Args:
        stored: The option's value.

    Example:
        >>> torch_dtype(StoredDtype.FLOAT16)
        torch.float16
    """
    import torch

    return None if stored is None else {"float32": torch.float32, "float16": torch.float16}[stored]


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Print what training logs on standard error."""
    logger = logging.getLogger("gliclass_rerank.training")
    handler = logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def train(
    output: Annotated[Path, typer.Argument(help="Folder for the model; a stopped run in it goes on.")],
    sources: Sources,
    start: Annotated[str | None, typer.Option(help="Checkpoint or bare encoder; the bundled model without it.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 2000,
    groups: Annotated[int, typer.Option(min=1, help="Questions, with their passages, in each step.")] = 4,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the encoder, at its peak; 6e-5, or 5e-4 with LoRA.")
    ] = None,
    head_learning_rate: Annotated[float, typer.Option(help="Of projectors and scorer.")] = 3e-4,
    max_length: Annotated[int, typer.Option(min=32, help="Tokens of question and passage.")] = 320,
    lora: Annotated[str | None, typer.Option(help=f"Train with LoRA, one of {', '.join(LORA_PRESETS)}.")] = None,
    loss: Annotated[
        str, typer.Option(help=f"Of the passages' order: {', '.join(LOSSES)}; some need a teacher.")
    ] = LOSSES[0],
    focal_alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="Weight of positives; the LoRA preset's, or 0.5.")
    ] = None,
    focal_gamma: Annotated[float, typer.Option(min=0, help="How far easy pairs count less.")] = 0.0,
    answer_weight: Annotated[
        float, typer.Option(min=0, help="Of learning where answers stand, where their words are known.")
    ] = 1.0,
    freeze_embeddings: Annotated[bool, typer.Option(help="Train all but the tokens' embeddings: faster.")] = False,
    teacher: Annotated[str | None, typer.Option(help="Sentence encoder or checkpoint to learn from too.")] = None,
    teacher_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the order to learn, where the answer is known.")
    ] = 0.1,
    label_bonus: Annotated[
        float, typer.Option(min=0, help="Added to the teacher's logit of a passage that answers, by the loss 'scores'.")
    ] = 3.0,
    multi_query_share: Annotated[
        float,
        typer.Option(
            "--multi-query-share",
            "--company",  # the option's first name
            min=0,
            max=1,
            help="Share of training groups with several questions, so that the model can score them together.",
        ),
    ] = 0.15,
    mine_every: Annotated[int, typer.Option(min=0, help="Steps between minings of hard negatives; 0: none.")] = 0,
    held_out: Annotated[
        int | None,
        typer.Option(min=0, help="Questions to keep out, to measure and calibrate on; 10 %, at most 300."),
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 250,
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after so many saved states that rank no better than the best; 0: never.")
    ] = 0,
    exclude: Exclude = None,
    negatives: Annotated[
        Path | None, typer.Option(help="File for each question's hard negatives, as lines of JSON.")
    ] = None,
    report_to: Annotated[str, typer.Option(help="tensorboard, wandb, or any other that transformers knows.")] = "none",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; as many as PyTorch likes.")] = None,
    stored: Stored = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 0,
) -> None:
    """Train a reranker on DATA, from any GLiClass checkpoint or bare encoder.

    A folder holds corpus.jsonl, queries.jsonl and qrels/train.tsv. A file (JSON lines, a JSON array, CSV) has rows of
    our own, of GLiClass, FlagEmbedding or sentence-transformers: docs/training.md shows each format.
    """
    with errors_in_one_line(), _log_on_stderr():
        require_training()
        import torch

        from gliclass_rerank.training.reading import read_ids
        from gliclass_rerank.training.train import train as run

        if threads:
            torch.set_num_threads(threads)
        settings = TrainingSettings(
            steps=steps,
            groups=groups,
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            max_length=max_length,
            loss=loss,
            focal_alpha=focal_alpha,
            focal_gamma=focal_gamma,
            answer_weight=answer_weight,
            teacher_share=teacher_share,
            label_bonus=label_bonus,
            multi_query_share=multi_query_share,
            freeze_embeddings=freeze_embeddings,
            mine_every=mine_every,
            save_every=save_every,
            patience=patience,
            report_to=report_to,
            seed=seed,
        )
        run(
            start,
            sources,
            output,
            settings,
            lora=lora,
            teacher=teacher,
            exclude=read_ids(exclude or []),
            held_out=held_out,
            dtype=torch_dtype(stored),
            negatives_file=negatives,
        )
    errors.print(Text(f"the model is in {printable(str(output), errors.encoding)}"), soft_wrap=True)
