"""The training loop: plain, resumable, the same for the same seed."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from gliclass_rerank.batching import plan_batches
from gliclass_rerank.checkpoint import save_checkpoint
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt import Prompt, PromptBuilder
from gliclass_rerank.scorer import pad
from gliclass_rerank.training.data import Group, GroupSampler, Passage, Question, read_collection
from gliclass_rerank.training.start import start_from_encoder
from gliclass_rerank.training.teacher import ask_teacher

_GROUPS = 4  # per step
_MAX_LENGTH = 256
_TOKEN_BUDGET = 2048
_LEARNING_RATE = 6e-5
_HEAD_LEARNING_RATE = 3e-4
_SHARPNESS = 50.0  # of the teacher: its cosines lie close together
_WARMUP = 0.05
_SAVE_EVERY = 100


def ranking_loss(logits: Tensor, targets: Tensor, similarities: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over every pair, plus a softmax over each question's passages.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question.
        similarities: The same shape: what a teacher finds. The softmax is then drawn towards the
            mean of targets and teacher, and towards the teacher alone where no passage answers.

    Returns:
        A scalar; without a teacher the second term leaves out questions that no passage answers.

    Example:
        >>> ranking_loss(torch.tensor([[9.0], [-9.0]]), torch.tensor([[1.0], [0.0]])).item() < 0.01
        True
    """
    pairs = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    answered = targets.sum(0) > 0
    wanted = targets / targets.sum(0).clamp(min=1)
    if similarities is not None:
        taught = (similarities * _SHARPNESS).softmax(0)
        wanted = torch.where(answered, (wanted + taught) / 2, taught)
        answered = torch.ones_like(answered)
    if not answered.any():
        return pairs
    return pairs + nn.functional.cross_entropy(logits.T[answered], wanted.T[answered])


def train(
    network: GLiClassNetwork,
    tokenizer: PreTrainedTokenizerBase,
    sampler: GroupSampler,
    output: Path,
    *,
    steps: int,
    seed: int = 0,
) -> None:
    """Train a network on groups of passages and questions, and save it.

    A run that was stopped goes on from its last saved state when it is started again with the
    same output folder.

    Args:
        network: What to train, changed in place.
        tokenizer: Its tokenizer.
        sampler: Where the groups come from.
        output: Folder of the checkpoint; ``state.pt`` in it holds what a resumed run needs.
        steps: Optimiser steps.
        seed: Decides which groups are drawn.
    """
    prompts = PromptBuilder(tokenizer, prompt_first=network.config.prompt_first)
    device = next(network.parameters()).device
    optimizer = _optimizer(network)
    warmup = int(steps * _WARMUP)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)  # type: ignore[no-untyped-call]
    output.mkdir(parents=True, exist_ok=True)
    done = _resume(output / "state.pt", network, optimizer, schedule)
    attention = network.encoder_model.config._attn_implementation
    network.encoder_model.set_attn_implementation("eager")  # on a CPU the fused one's backward pass is slower
    network.eval()  # no dropout: few questions are seen twice, and on a CPU it takes 40 % of the time
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, (output / "loss.txt").open("a", encoding="utf-8") as log:
        task = progress.add_task("training", total=steps, completed=done)
        for step in range(done, steps):
            groups = draw_groups(sampler, _GROUPS, seed, step)
            with torch.autocast(device.type, torch.bfloat16):
                loss = group_loss(network, prompts, groups)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            log.write(f"{step}\t{loss.item():.4f}\n")
            log.flush()
            progress.update(task, advance=1, description=f"loss {loss.item():.3f}")
            if (step + 1) % _SAVE_EVERY == 0:
                state = {"step": step + 1, "network": network, "optimizer": optimizer, "schedule": schedule}
                torch.save({k: v.state_dict() if k != "step" else v for k, v in state.items()}, output / "state.tmp")
                (output / "state.tmp").replace(output / "state.pt")  # a run killed here still finds a whole file
    network.encoder_model.set_attn_implementation(attention)
    save_checkpoint(network, tokenizer, output, dtype=torch.float16)


def draw_groups(sampler: GroupSampler, count: int, seed: int, step: int) -> list[Group]:
    """The groups of one step: the same for the same seed and step."""
    rng = random.Random(f"{seed}-{step}")
    return [sampler.sample(sampler.draw(rng), rng) for _ in range(count)]


def group_loss(network: GLiClassNetwork, prompts: PromptBuilder, groups: Sequence[Group]) -> Tensor:
    """Mean ranking loss of some groups, run as a few batches of similar length."""
    sequences = [p for group in groups for p in prompts.build(group.questions, group.passages, _MAX_LENGTH)]
    rows = _forward(network, sequences)
    losses, start = [], 0
    for group in groups:
        size, width = len(group.passages), len(group.questions)
        logits = torch.stack(rows[start : start + size])[:, :width]
        similar = None if group.similarities is None else logits.new_tensor(group.similarities)
        losses.append(ranking_loss(logits, logits.new_tensor(group.targets), similar))
        start += size
    return torch.stack(losses).mean()


def _forward(network: GLiClassNetwork, sequences: Sequence[Prompt]) -> list[Tensor]:
    """One row of logits per sequence, in order."""
    device = next(network.parameters()).device
    width = max(s.num_labels for s in sequences)
    rows: dict[int, Tensor] = {}
    for batch in plan_batches([len(s.ids) for s in sequences], _TOKEN_BUDGET):
        logits = network(*pad([sequences[i] for i in batch], device), width)
        rows.update(zip(batch, logits.float(), strict=True))
    return [rows[i] for i in range(len(sequences))]


def _optimizer(network: GLiClassNetwork) -> torch.optim.AdamW:
    encoder = list(network.encoder_model.parameters())
    known = {id(p) for p in encoder}
    head = [p for p in network.parameters() if id(p) not in known]
    return torch.optim.AdamW(
        [{"params": encoder, "lr": _LEARNING_RATE}, {"params": head, "lr": _HEAD_LEARNING_RATE}],
        weight_decay=0.01,
        fused=True,
    )


def _resume(
    path: Path,
    network: GLiClassNetwork,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """Load a stopped run's state, if there is one; returns how many steps it had done."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for name, part in (("network", network), ("optimizer", optimizer), ("schedule", schedule)):
        part.load_state_dict(state[name])
    return int(state["step"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line: ``python -m gliclass_rerank.training.train --help``."""
    parser = argparse.ArgumentParser(description="Train a reranker from a sentence encoder.")
    parser.add_argument("output", type=Path, help="folder for the checkpoint; a stopped run in it is resumed")
    parser.add_argument("--encoder", required=True, help="folder of a BERT-family encoder")
    parser.add_argument("--data", required=True, nargs="+", help="folders in BEIR layout, with qrels/train.tsv")
    parser.add_argument("--teacher", help="folder of a sentence encoder to learn from too")
    parser.add_argument("--steps", type=int, required=True, help=f"optimiser steps of {_GROUPS} groups")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    passages: list[Passage] = []
    questions: list[Question] = []
    for folder in options.data:
        more, asked = read_collection(folder)
        questions += [replace(q, passages=tuple(i + len(passages) for i in q.passages)) for q in asked]
        passages += more
    torch.manual_seed(options.seed)
    network, tokenizer = start_from_encoder(options.encoder)
    teacher = None
    if options.teacher:
        texts = [f"{passage.title} {passage.text}".strip() for passage in passages]
        cache = options.output / "teacher.pt"
        teacher = ask_teacher(options.teacher, texts, [question.text for question in questions], cache)
    sampler = GroupSampler(passages, questions, teacher)
    train(network, tokenizer, sampler, options.output, steps=options.steps, seed=options.seed)


if __name__ == "__main__":
    main()
