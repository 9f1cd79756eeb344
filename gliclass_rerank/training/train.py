"""Train a reranker, from a bare encoder or from any GLiClass checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from gliclass_rerank.engine.checkpoint import (
    check_unused,
    find_checkpoint,
    is_gliclass,
    load_checkpoint,
    save_checkpoint,
)
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.training.data import Question, TrainingData, set_aside
from gliclass_rerank.training.lora import LORA_PRESETS, add_lora, merge_lora
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.platt import forget_threshold
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.sampling import GroupSampler
from gliclass_rerank.training.start import start_from_encoder
from gliclass_rerank.training.teacher import ask_teacher
from gliclass_rerank.training.trainer import (
    STATES,
    GroupTrainer,
    Ranking,
    TrainingSettings,
    last_state,
    set_training_attention,
)

RECORD = "training.json"  # what a run was started with
KEPT_OUT = "kept_out"  # in it, the keys of questions that it was not trained on
_TEACHER_CACHE = "teacher.safetensors"
_HELD_OUT = 300  # questions at most, where nothing is said
_DEV_QUESTIONS = 100  # at most
_DEV_CANDIDATES = 20


def train(
    start: str | os.PathLike[str] | None,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: TrainingSettings,
    *,
    lora: str | None = None,
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    exclude: Collection[str] = (),
    held_out: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Train a reranker and save its checkpoint.

    A run that was stopped goes on from its last saved state when it is started again with the
    same arguments.

    Args:
        start: A GLiClass checkpoint (hub name or folder; None for the bundled model), or a bare
            encoder, which gets GLiClass's head and control tokens.
        sources: See ``read_data``.
        output: Folder of the checkpoint; ``log.jsonl`` in it has the loss and the dev scores.
        settings: How to train.
        lora: Name of one of ``LORA_PRESETS``; None to train all weights.
        teacher: A sentence encoder or a GLiClass checkpoint to learn from too, or one of either: the
            sum of their scores is learned then. With the start as a teacher, less of it is forgotten.
        exclude: Ids of passages to leave out.
        held_out: How many questions to keep out of training, to calibrate on afterwards and to
            measure with meanwhile (at most a hundred of them); None for a tenth, at most 300.
        dtype: What the weights are saved as.

    Raises:
        CheckpointError: The start or the teacher cannot be loaded.
        OSError: A file is missing.
        ValueError: The data or the preset does not fit, or the output folder holds another run.

    Example:
        >>> train("all-MiniLM-L6-v2", ["squad_train"], "my-model", TrainingSettings())  # doctest: +SKIP
    """
    check_unused(output)
    output = Path(output)
    if lora is not None and lora not in LORA_PRESETS:
        raise ValueError(f"lora is {lora!r}, expected one of {', '.join(LORA_PRESETS)}.")
    if lora and settings.focal_alpha is None:
        settings = replace(settings, focal_alpha=LORA_PRESETS[lora].focal_alpha)
    if settings.freeze_embeddings and start is not None and not is_gliclass(start):
        raise ValueError("freeze_embeddings is set, but a bare encoder's new tokens have yet to be learned.")
    everything = read_data(sources, exclude=exclude)
    count = min(len(everything.questions) // 10, _HELD_OUT) if held_out is None else held_out
    data, aside = set_aside(everything, count)
    teachers = _teachers(teacher)
    given = {"start": _name(start), "teacher": [_name(path) for path in teachers], "lora": lora, "held_out": count}
    state = last_state(output)
    record = {"sources": list(map(_name, sources)), "data": everything.digest, **given, **asdict(settings)}
    _open_run(output, record, [question.key for question in aside], goes_on=state is not None)
    teacher_folders = [find_checkpoint(path) for path in teachers]
    torch.manual_seed(settings.seed)
    network, tokenizer = _load(start)
    _check_length(settings.max_length, network.config)
    set_training_attention(network)
    if settings.freeze_embeddings:
        network.encoder_model.get_input_embeddings().requires_grad_(False)
    vectors, reranker = None, None
    for folder in teacher_folders:
        if is_gliclass(folder):
            reranker = load_checkpoint(folder)
            _check_length(settings.max_length, reranker.config)
        else:
            vectors = ask_teacher(folder, data, output / _TEACHER_CACHE)
    negatives = HardNegatives(data, vectors)
    adapted = add_lora(network, LORA_PRESETS[lora]) if lora else None
    GroupTrainer(
        adapted or network,
        PromptBuilder(tokenizer, prompt_first=network.config.prompt_first),
        GroupSampler(
            data,
            negatives,
            vectors,
            multi_query_share=settings.multi_query_share,
            text_share=settings.text_share,
            statement_share=settings.statement_share,
            empty_share=settings.empty_share,
            crop_words=(settings.min_crop_words, settings.max_crop_words),
            question_words=settings.question_words,
            seed=settings.seed,
        ),
        output,
        settings,
        negatives=negatives,
        dev=_dev_rankings(data, aside, negatives),
        teacher=reranker,
    ).train_on(state)
    network = merge_lora(adapted) if adapted else network
    forget_threshold(network)
    save_checkpoint(network, tokenizer, output, dtype=dtype)
    shutil.rmtree(output / STATES, ignore_errors=True)
    (output / _TEACHER_CACHE).unlink(missing_ok=True)


def _open_run(output: Path, settings: dict[str, object], kept_out: list[str], *, goes_on: bool) -> None:
    """Keep a run's settings in its folder; a stopped run which goes on must have the same."""
    output.mkdir(parents=True, exist_ok=True)
    record = output / RECORD
    if goes_on and not record.exists():
        raise ValueError(f"{output} holds states of a run that nothing is known of; choose another output folder.")
    before = json.loads(record.read_text(encoding="utf-8")) if goes_on else settings
    changed = [
        f"{key} {before.get(key)!r}, now {value!r}" for key, value in settings.items() if before.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{output} holds a stopped run with other settings ({'; '.join(changed)}). "
            "Start it again with its own, or choose another output folder."
        )
    record.write_text(json.dumps({**settings, KEPT_OUT: kept_out}, indent=1) + "\n", encoding="utf-8")


def _check_length(max_length: int, config: GLiClassConfig) -> None:
    if config.has_absolute_positions and max_length > config.max_positions:
        raise ValueError(f"max_length is {max_length}, but the encoder has {config.max_positions} positions.")


def _name(path: str | os.PathLike[str] | None) -> str | None:
    """What a checkpoint or data set is called, wherever its folder lies."""
    return None if path is None else Path(path).name


def _teachers(
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> list[str | os.PathLike[str]]:
    """The teachers as a list: at most one sentence encoder and one reranker."""
    if teacher is None:
        return []
    return [teacher] if isinstance(teacher, (str, os.PathLike)) else list(teacher)


def _load(start: str | os.PathLike[str] | None) -> tuple[GLiClassNetwork, PreTrainedTokenizerBase]:
    """The network to train."""
    if start is None or is_gliclass(start):
        checkpoint = load_checkpoint(start)
        return checkpoint.network, checkpoint.tokenizer
    name = os.fspath(start) if not Path(start).exists() else Path(start).resolve().name
    return start_from_encoder(find_checkpoint(start), name)


def _dev_rankings(data: TrainingData, questions: Sequence[Question], negatives: HardNegatives) -> list[Ranking]:
    """Some questions with BM25's hits and, should it miss them, the passages that answer."""
    rankings = []
    for question in questions[:: -(-len(questions) // _DEV_QUESTIONS) or 1]:
        chosen = list(dict.fromkeys([*negatives.search(question.text, _DEV_CANDIDATES), *question.passages]))
        relevant = [i for i, position in enumerate(chosen) if position in question.passages]
        rankings.append(Ranking(question.text, [data.passages[i].whole for i in chosen], relevant))
    return rankings
