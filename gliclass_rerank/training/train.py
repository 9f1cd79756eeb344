"""Train a reranker, from a bare encoder or from any GLiClass checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import get_last_checkpoint

from gliclass_rerank.checkpoint import find_checkpoint, is_gliclass, load_checkpoint, save_checkpoint
from gliclass_rerank.keyword_index import KeywordIndex
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt import PromptBuilder
from gliclass_rerank.training.data import Question, TrainingData, read_data, set_aside
from gliclass_rerank.training.lora import LORA_PRESETS, add_lora, merge_lora
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.sampling import GroupSampler
from gliclass_rerank.training.start import start_from_encoder
from gliclass_rerank.training.teacher import ask_teacher
from gliclass_rerank.training.trainer import GroupTrainer, Ranking, TrainingSettings, set_training_attention

_DEV_QUESTIONS = 100  # at most
_DEV_CANDIDATES = 20


def train(
    start: str | os.PathLike[str] | None,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: TrainingSettings,
    *,
    lora: str | None = None,
    teacher: str | os.PathLike[str] | None = None,
    exclude: Collection[str] = (),
    held_out: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Train a reranker and save its checkpoint.

    A run that was stopped goes on from its last saved state when it is started again with the
    same arguments.

    Args:
        start: A GLiClass checkpoint (hub name or folder; None for the embedded model), or a bare
            encoder, which gets GLiClass's head and control tokens.
        sources: See ``read_data``.
        output: Folder of the checkpoint; ``log.jsonl`` in it has the loss and the dev scores.
        settings: How to train.
        lora: Name of one of ``LORA_PRESETS``; None to train all weights.
        teacher: A sentence encoder or a GLiClass checkpoint to learn from too.
        exclude: Ids of passages to leave out.
        held_out: How many questions to keep out of training, to calibrate on afterwards and to
            measure with meanwhile (a hundred of them); None for a twentieth, at most 100.
        dtype: What the weights are saved as.

    Raises:
        CheckpointError: The start or the teacher cannot be loaded.
        OSError: A file is missing.
        ValueError: The data or the preset does not fit, or the output folder holds another run.

    Example:
        >>> train("all-MiniLM-L6-v2", ["squad_train"], "my-model", TrainingSettings())  # doctest: +SKIP
    """
    output = Path(output)
    given = {"start": _name(start), "teacher": _name(teacher), "lora": lora, "held_out": held_out}
    _open_run(output, {"sources": [_name(s) for s in sources], "excluded": len(exclude), **given, **asdict(settings)})
    everything = read_data(sources, exclude=exclude)
    count = min(len(everything.questions) // 20, _DEV_QUESTIONS) if held_out is None else held_out
    data, aside = set_aside(everything, count)
    torch.manual_seed(settings.seed)
    network, tokenizer = _load(start, data)
    set_training_attention(network)
    vectors, reranker = None, None
    if teacher is not None and is_gliclass(teacher):
        reranker = load_checkpoint(teacher)
    elif teacher is not None:
        texts, questions = [p.whole for p in data.passages], [q.text for q in data.questions]
        vectors = ask_teacher(find_checkpoint(teacher), texts, questions, output / "teacher.pt")
    negatives = HardNegatives(data, vectors)
    adapted = add_lora(network, LORA_PRESETS[lora]) if lora else None
    trainer = GroupTrainer(
        adapted or network,
        PromptBuilder(tokenizer, prompt_first=network.config.prompt_first),
        GroupSampler(data, negatives, vectors, seed=settings.seed),
        output,
        settings,
        negatives=negatives,
        dev=_dev_rankings(data, aside),
        teacher=reranker,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output)))  # type: ignore[no-untyped-call]
    save_checkpoint(merge_lora(adapted) if adapted else network, tokenizer, output, dtype=dtype)
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)


def _open_run(output: Path, settings: dict[str, object]) -> None:
    """Check that a folder is new, or holds a stopped run with the same settings."""
    output.mkdir(parents=True, exist_ok=True)
    if (output / "model.safetensors").exists():
        raise ValueError(f"{output} holds a trained model already; choose another output folder.")
    record = output / "training.json"
    if record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
        changed = [f"{k} {before.get(k)!r}, now {v!r}" for k, v in settings.items() if before.get(k) != v]
        if changed:
            raise ValueError(
                f"{output} holds a stopped run with other settings ({'; '.join(changed)}). "
                "Start it again with its own, or choose another output folder."
            )
    record.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _name(path: str | os.PathLike[str] | None) -> str | None:
    """What a checkpoint or data set is called, wherever its folder lies."""
    return None if path is None else Path(path).name


def _load(start: str | os.PathLike[str] | None, data: TrainingData) -> tuple[GLiClassNetwork, PreTrainedTokenizerBase]:
    if start is None or is_gliclass(start):
        checkpoint = load_checkpoint(start)
        return checkpoint.network, checkpoint.tokenizer
    texts = [p.whole for p in data.passages] or [t.text for t in data.texts]
    questions = [q.text for q in data.questions] or [label for t in data.texts for label in t.labels]
    return start_from_encoder(find_checkpoint(start), texts, questions)


def _dev_rankings(data: TrainingData, questions: Sequence[Question]) -> list[Ranking]:
    """Questions with BM25's hits and, should it miss them, the passages that answer."""
    index = KeywordIndex(passage.whole for passage in data.passages) if questions else None
    rankings = []
    for question in questions[:: max(1, len(questions) // _DEV_QUESTIONS)]:
        hits = index.search(question.text, top_k=_DEV_CANDIDATES) if index else []
        chosen = list(dict.fromkeys([*hits, *question.passages]))
        relevant = [i for i, position in enumerate(chosen) if position in question.passages]
        rankings.append(Ranking(question.text, [data.passages[i].whole for i in chosen], relevant))
    return rankings
