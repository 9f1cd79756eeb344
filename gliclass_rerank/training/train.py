"""Train a reranker, from a bare encoder or from any GLiClass checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from itertools import islice, zip_longest
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from gliclass_rerank.engine.checkpoint import (
    Checkpoint,
    check_unused,
    find_checkpoint,
    is_gliclass,
    load_checkpoint,
    save_checkpoint,
)
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.prompt.tokenizer import without_surrogates
from gliclass_rerank.training.card import write_card
from gliclass_rerank.training.data import TrainingData, set_aside, spread
from gliclass_rerank.training.dev import DevScores, dev_rankings
from gliclass_rerank.training.lora import LORA_PRESETS, add_lora, merge_lora
from gliclass_rerank.training.mining import STATES, last_state
from gliclass_rerank.training.negatives import HardNegatives, write_negatives
from gliclass_rerank.training.platt import forget_threshold
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.reading_apart import ReadingApart
from gliclass_rerank.training.sampling import GroupSampler
from gliclass_rerank.training.settings import READING_APART, TrainingSettings
from gliclass_rerank.training.sides import can_separate, separate_sides
from gliclass_rerank.training.start import start_from_encoder, stored_dtype
from gliclass_rerank.training.teacher import Teacher, ask_teacher
from gliclass_rerank.training.trainer import GroupTrainer, set_training_attention

RECORD = "training.json"  # what a run was started with
KEPT_OUT = "kept_out"  # in it, the keys of questions that it was not trained on
_TEACHER_CACHE = "teacher.safetensors"
_MEASURED_TEXTS = 300  # on which the encoder's states are measured before its sides are separated
_MEASURED_TOKENS = 200
_HELD_OUT = 300  # questions at most, where nothing is said
_REPORTS = "runs"  # where transformers puts TensorBoard's files, beside the states


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
    dtype: torch.dtype | None = None,
    negatives_file: str | os.PathLike[str] | None = None,
) -> DevScores:
    """Train a reranker, and save the checkpoint of its best state and a model card.

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
            measure with meanwhile (at most a hundred of them); None for a tenth, at most 300. See ``set_aside``.
        dtype: What the weights are saved as; None for what the start's are stored as.
        negatives_file: Where to write each question's hard negatives in the end; see ``write_negatives``.

    Returns:
        nDCG@10 on the held-out questions, before training and of each state; the best state was saved. Without
        held-out questions there are no scores, and the last state was saved.

    Raises:
        CheckpointError: The start or the teacher cannot be loaded.
        OSError: A file is missing.
        ValueError: The data, the preset or the loss does not fit, or the output folder holds another run.

    Example:
        >>> train("all-MiniLM-L6-v2", ["squad_train"], "my-model", TrainingSettings())  # doctest: +SKIP
    """
    check_unused(output)
    output = Path(output)
    teachers = _teachers(teacher)
    settings = settings.fit_to_lora(lora)
    settings.check_loss(has_teacher=bool(teachers))
    if settings.freeze_embeddings and start is not None and not is_gliclass(start):
        raise ValueError("freeze_embeddings is set, but a bare encoder's new tokens have yet to be learned.")
    everything = read_data(sources, exclude=exclude)
    count = min(len(everything.questions) // 10, _HELD_OUT) if held_out is None else held_out
    if settings.patience and not count:
        raise ValueError(f"patience is {settings.patience}, but no question is held out. Set held_out, or no patience.")
    data, aside = set_aside(everything, count)
    given = {"start": _name(start), "teacher": [_name(path) for path in teachers], "lora": lora, "held_out": count}
    state = last_state(output)
    record = {"sources": list(map(_name, sources)), "data": everything.digest, **given, **asdict(settings)}
    _open_run(output, record, [question.key for question in aside], resuming=state is not None)
    vectors, reranker = _load_teachers(teachers, data, settings, output / _TEACHER_CACHE)
    torch.manual_seed(settings.seed)
    network, tokenizer = _load(start, marks_sides=settings.loss == READING_APART)
    prompts = PromptBuilder(tokenizer, prompt_first=network.config.prompt_first)
    dtype = dtype or stored_dtype(find_checkpoint(start))
    _check_length(settings.max_length, network.config)
    set_training_attention(network)
    if settings.freeze_embeddings:
        network.encoder_model.get_input_embeddings().requires_grad_(False)
    apart = _start_apart(network, tokenizer, prompts, data) if settings.loss == READING_APART else None
    negatives = HardNegatives(data, vectors)
    adapted = add_lora(network, LORA_PRESETS[lora]) if lora else None
    scores = GroupTrainer(
        adapted or network,
        prompts,
        _make_sampler(data, negatives, vectors, settings),
        output,
        settings,
        negatives=negatives,
        dev=dev_rankings(data, aside, negatives),
        teacher=reranker,
        apart=apart,
    ).train_on(state)
    network = merge_lora(adapted) if adapted else network
    forget_threshold(network)
    write_card(output, record, everything, scores)
    save_checkpoint(network, tokenizer, output, dtype=dtype)
    _clean_up(output)
    if negatives_file is not None:
        write_negatives(Path(negatives_file), data, negatives)
    return scores


def _clean_up(output: Path) -> None:
    """Remove what only a stopped run needs."""
    for reports in (output / STATES).glob(f"{_REPORTS}/*"):
        (output / _REPORTS).mkdir(exist_ok=True)
        reports.rename(output / _REPORTS / reports.name)
    shutil.rmtree(output / STATES, ignore_errors=True)
    (output / _TEACHER_CACHE).unlink(missing_ok=True)


def _make_sampler(
    data: TrainingData, negatives: HardNegatives, teacher: Teacher | None, settings: TrainingSettings
) -> GroupSampler:
    return GroupSampler(
        data,
        negatives,
        teacher,
        multi_query_share=settings.multi_query_share,
        text_share=settings.text_share,
        statement_share=settings.statement_share,
        empty_share=settings.empty_share,
        crop_words=(settings.min_crop_words, settings.max_crop_words),
        question_words=settings.question_words,
        seed=settings.seed,
    )


def _load_teachers(
    teachers: Sequence[str | os.PathLike[str]], data: TrainingData, settings: TrainingSettings, cache: Path
) -> tuple[Teacher | None, Checkpoint | None]:
    """The vectors of a sentence encoder, and a reranker, as far as they are among the teachers."""
    vectors, reranker = None, None
    for folder in [find_checkpoint(path) for path in teachers]:
        if is_gliclass(folder):
            reranker = load_checkpoint(folder)
            _check_length(settings.max_length, reranker.config)
        else:
            vectors = ask_teacher(folder, data, cache)
    return vectors, reranker


def _open_run(output: Path, settings: dict[str, object], kept_out: list[str], *, resuming: bool) -> None:
    """Keep a run's settings in its folder; a stopped run which goes on must have the same."""
    output.mkdir(parents=True, exist_ok=True)
    record = output / RECORD
    if resuming and not record.exists():
        raise ValueError(f"{output} holds states of a run that nothing is known of; choose another output folder.")
    before = json.loads(record.read_text(encoding="utf-8")) if resuming else settings
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
    if path is None:
        return None
    return Path(path).resolve().name if Path(path).exists() else os.fspath(path)


def _teachers(
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> list[str | os.PathLike[str]]:
    """The teachers as a list: at most one sentence encoder and one reranker."""
    if teacher is None:
        return []
    return [teacher] if isinstance(teacher, (str, os.PathLike)) else list(teacher)


def _load(
    start: str | os.PathLike[str] | None, *, marks_sides: bool
) -> tuple[GLiClassNetwork, PreTrainedTokenizerBase]:
    """The network to train; one that starts from a bare encoder may mark the sides of its prompts."""
    if start is None or is_gliclass(start):
        checkpoint = load_checkpoint(start)
        return checkpoint.network, checkpoint.tokenizer
    return start_from_encoder(find_checkpoint(start), str(_name(start)), marks_sides=marks_sides)


def _start_apart(
    network: GLiClassNetwork, tokenizer: PreTrainedTokenizerBase, prompts: PromptBuilder, data: TrainingData
) -> ReadingApart:
    """The loss of reading apart, towards the encoder as it is now; then the sides become nearly blind to each other."""
    apart = ReadingApart(network, prompts)
    if network.config.use_segment_embeddings and not network.segment_embeddings.weight.any() and can_separate(network):
        texts = islice(_texts(data), _MEASURED_TEXTS)
        ids = tokenizer([without_surrogates(text) for text in texts])["input_ids"]
        separate_sides(network, [[*text[: min(len(text), _MEASURED_TOKENS) - 1], text[-1]] for text in ids])
    return apart


def _texts(data: TrainingData) -> Iterator[str]:
    """Passages and questions in turn, evenly over all of them."""
    passages = spread(data.passages, min(len(data.passages), _MEASURED_TEXTS))
    questions = spread(data.questions, min(len(data.questions), _MEASURED_TEXTS))
    for passage, question in zip_longest(passages, questions):
        yield from filter(None, (passage and passage.whole, question and question.text))
