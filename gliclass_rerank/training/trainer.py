"""The training loop: transformers' Trainer, fed with groups."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.checkpoint import Checkpoint
from gliclass_rerank.engine.scorer import choose_device, choose_dtype, pad
from gliclass_rerank.evaluation.measures import measure
from gliclass_rerank.modeling.attention import PACKED_ATTENTION
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import Prompt, PromptBuilder
from gliclass_rerank.training.answers import NetworkWithFinder, answers_loss
from gliclass_rerank.training.attention import TRAINING_ATTENTION
from gliclass_rerank.training.labels import fit_group, fit_labels
from gliclass_rerank.training.log import TrainingLog
from gliclass_rerank.training.losses import group_loss, taught
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.sampling import Group, GroupSampler

_TOKEN_BUDGET = 2048  # of one forward pass; the gradients of a step's passes add up
_WARMUP = 0.05
_FINDER_LEARNING_RATE = 1e-3  # it starts at random
_MINED_SHARE = 4  # one in so many of the coming groups gets negatives mined by the model
_MINED = "mined.json"
STATES = "states"  # folder in the output, of what a stopped run goes on from
DEV_MEASURE = "dev_ndcg@10"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: Optimiser steps.
        groups: Groups of passages and questions in each.
        learning_rate: At its peak; it rises over the first 5 % of the steps and falls to zero.
        head_learning_rate: The same for projectors and scorer.
        max_length: Tokens per sequence.
        focal_alpha: Weight of positives in the focal loss; None for the LoRA preset's, or 0.5.
        focal_gamma: How far easy pairs count less in it.
        answer_weight: Of the loss by which the model learns where the answers stand, if their words
            are known, beside the loss of the scores; 0 for none.
        teacher_share: Of what the list loss wants where the answer is known, in [0, 1].
        multi_query_share: Share of the groups around a question that hold others too, in [0, 1]: the model then
            learns to score several queries at a time.
        text_share: See ``GroupSampler``.
        statement_share: See ``GroupSampler``.
        empty_share: See ``GroupSampler``.
        min_crop_words: See ``GroupSampler``.
        max_crop_words: See ``GroupSampler``.
        question_words: See ``GroupSampler``.
        freeze_embeddings: Whether the tokens' embeddings stay as they are, which saves a tenth of the time.
        mine_every: Steps after which the model mines hard negatives for coming groups; 0 for never.
        save_every: Steps after which the state is saved and the dev questions are measured.
        seed: Decides all that is drawn.
    """

    steps: int = 2000
    groups: int = 4
    learning_rate: float = 6e-5
    head_learning_rate: float = 3e-4
    max_length: int = 320
    focal_alpha: float | None = None
    focal_gamma: float = 0.0
    answer_weight: float = 1.0
    teacher_share: float = 0.1
    multi_query_share: float = 0.15
    text_share: float | None = None
    statement_share: float = 0.0
    empty_share: float = 0.0
    min_crop_words: int = 30
    max_crop_words: int = 150
    question_words: int = 80
    freeze_embeddings: bool = False
    mine_every: int = 0
    save_every: int = 250
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """A question with candidates to rerank, and which of them answer it."""

    question: str
    passages: list[str]
    relevant: list[int]


def last_state(output: Path) -> Path | None:
    """The newest whole state of a stopped run, if there is one.

    Args:
        output: The run's folder.
    """
    # What was mined is written last, so a state with it is whole.
    states = [mined.parent for mined in (output / STATES).glob(f"checkpoint-*/{_MINED}")]
    return max(states, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def set_training_attention(network: GLiClassNetwork) -> None:
    """Let a network attend in the way that trains fastest; scores are then not steady to the last digit.

    Args:
        network: Changed in place.
    """
    if network.encoder_model.config._attn_implementation == PACKED_ATTENTION:  # others have one of their own
        network.encoder_model.set_attn_implementation("sdpa" if torch.cuda.is_available() else TRAINING_ATTENTION)


class GroupTrainer(Trainer):
    """Trains a network on groups.

    Args:
        network: What to train, in place: a network, or one with LoRA's adapters.
        prompts: Builds its sequences.
        sampler: Where the groups come from.
        output: Folder of the states that a stopped run goes on from, and of the log.
        settings: How to train.
        negatives: What is mined, if the settings ask for it.
        dev: What is ranked whenever the state is saved, to see how training goes.
        teacher: A reranker whose order of each question's passages is learned too.
    """

    def __init__(
        self,
        network: nn.Module,
        prompts: PromptBuilder,
        sampler: GroupSampler,
        output: Path,
        settings: TrainingSettings,
        *,
        negatives: HardNegatives,
        dev: Sequence[Ranking] = (),
        teacher: Checkpoint | None = None,
    ) -> None:
        # peft's wrapper passes on what it does not have itself.
        self._trained = NetworkWithFinder(cast("GLiClassNetwork", network))
        self._prompts, self._sampler, self._settings = prompts, sampler, settings
        self._dev, self._teacher = dev, teacher
        super().__init__(
            self._trained,
            _arguments(output, settings, measured=bool(dev)),
            data_collator=lambda numbers: {"numbers": numbers},
            train_dataset=cast("Any", range(settings.steps * settings.groups)),  # the groups' numbers
            eval_dataset=dev,  # not read: see ``evaluate``
        )
        if teacher:
            teacher.network.to(self.args.device)
            set_training_attention(teacher.network)
        self._log = TrainingLog(output / "log.jsonl")
        self.remove_callback(PrinterCallback)
        for callback in (self._log, _Mining(self, sampler, negatives, settings)):
            self.add_callback(callback)

    def train_on(self, state: Path | None) -> None:
        """Train to the end, from a saved state if there is one.

        Args:
            state: From ``last_state``.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        try:
            self.train(resume_from_checkpoint=None if state is None else str(state))
        finally:
            self._log.stop()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Any]]:
        """Mean loss of some groups, run as a few batches of similar length."""
        # Drawn here and not by the data loader, which is a batch ahead of what is mined.
        drawn = (self._sampler.sample(number) for number in inputs["numbers"])
        groups = [fit_group(self._prompts, group, self._settings.max_length) for group in drawn]
        sequences = self._sequences(self._prompts, groups)
        # A finder that starts at random would spoil the encoder, so at first it learns alone.
        alone = self.state.global_step < self.args.warmup_steps
        # No dropout: few questions are seen twice, and on a CPU it takes 40 % of the time.
        logits, answer_logits = _forward(model.eval(), sequences, self.args.device, finder_alone=alone)
        options = {
            "teacher_share": self._settings.teacher_share,
            "alpha": 0.5 if self._settings.focal_alpha is None else self._settings.focal_alpha,
            "gamma": self._settings.focal_gamma,
        }
        losses = [
            group_loss(rows, rows.new_tensor(group.targets), goal, **options)
            for group, rows, goal in zip(groups, _by_group(logits, groups), self._taught(groups), strict=True)
        ]
        loss = torch.stack(losses).mean()
        if self._settings.answer_weight:
            loss = loss + self._settings.answer_weight * answers_loss(self._prompts, groups, sequences, answer_logits)
        if not math.isfinite(loss.item()):
            step = self.state.global_step
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate.")
        return (loss, {}) if return_outputs else loss

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """Logits of passages under one query, as the model is now."""
        group = Group(list(passages), [query], [[0]] * len(passages))
        with torch.inference_mode(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            sequences = self._sequences(self._prompts, [group])
            logits, _ = _forward(self._trained.eval(), sequences, self.args.device)
        scores = [row[0].item() for row in logits]
        return scores

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401 - whatever Trainer passes
        """Rank the dev questions' candidates; returns nDCG@10."""
        qrels, ranked = {}, {}
        for name, ranking in zip(map(str, range(len(self._dev))), self._dev, strict=True):
            scores = self.score(ranking.question, ranking.passages)
            qrels[name] = {str(i): 1 for i in ranking.relevant}
            ranked[name] = [str(i) for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
        values = measure(qrels, ranked)["nDCG@10"]
        metrics = {DEV_MEASURE: sum(values) / len(values)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with learning rates of their own for the head and for what finds the answers."""
        trained = self._trained
        named = [(name, p) for name, p in trained.network.named_parameters() if p.requires_grad]
        encoder = [p for name, p in named if "encoder_model." in name]
        head = [p for name, p in named if "encoder_model." not in name]
        groups = [
            {"params": encoder, "lr": self._settings.learning_rate},
            {"params": head, "lr": self._settings.head_learning_rate},
            {"params": list(trained.finder.parameters()), "lr": _FINDER_LEARNING_RATE},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:  # noqa: ANN401 - as Trainer's
        return SequentialSampler(cast("Any", self.train_dataset))  # the groups are drawn at random already

    def _sequences(self, prompts: PromptBuilder, groups: Sequence[Group]) -> list[Prompt]:
        """One for each passage of each group."""
        length = self._settings.max_length
        return [p for g in groups for p in prompts.build(fit_labels(prompts, g.questions, length), g.passages, length)]

    def _taught(self, groups: Sequence[Group]) -> list[Tensor | None]:
        """Of each group, the teachers' distribution over each question's passages, if there is one."""
        logits: list[Tensor | None] = [None] * len(groups)
        if self._teacher:
            lists = [i for i, group in enumerate(groups) if len(group.passages) > 1]  # one passage has no order
            with torch.no_grad(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
                sequences = self._sequences(self._teacher.prompts, [groups[i] for i in lists])
                [rows] = _forward(self._teacher.network, sequences, self.args.device) if sequences else [[]]
            for i, group_rows in zip(lists, _by_group(rows, [groups[i] for i in lists]), strict=True):
                logits[i] = group_rows
        cosines = [
            None if group.similarities is None else torch.tensor(group.similarities, device=self.args.device)
            for group in groups
        ]
        return [taught(*scores) for scores in zip(cosines, logits, strict=True)]


class _Mining(TrainerCallback):
    """Before every so many steps, lets the model mine hard negatives for some of the groups to come."""

    def __init__(
        self, trainer: GroupTrainer, sampler: GroupSampler, negatives: HardNegatives, settings: TrainingSettings
    ) -> None:
        self._trainer, self._sampler, self._negatives, self._settings = trainer, sampler, negatives, settings

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """A run that goes on does so with what it had mined."""
        if state.global_step:
            mined = json.loads(_file_of_mined(args, state).read_text(encoding="utf-8"))
            self._negatives.mined = {int(question): passages for question, passages in mined.items()}

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Mine."""
        every, groups = self._settings.mine_every, self._settings.groups
        if every and state.global_step and state.global_step % every == 0:
            end = min(state.global_step + every, self._settings.steps)
            coming = range(state.global_step * groups, end * groups, _MINED_SHARE)
            questions = {self._sampler.question_of(number) for number in coming}
            self._negatives.mine(sorted(q for q in questions if q is not None), self._trainer.score)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Keep what was mined beside the state."""
        with atomic_write(_file_of_mined(args, state)) as unfinished:
            unfinished.write_text(json.dumps(self._negatives.mined), encoding="utf-8")


def _file_of_mined(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _MINED


def _arguments(output: Path, settings: TrainingSettings, *, measured: bool) -> TrainingArguments:
    device = choose_device(None)
    arguments = TrainingArguments(
        output_dir=str(output / STATES),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.groups,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(settings.steps * _WARMUP),
        max_grad_norm=1.0,
        bf16=choose_dtype("auto", device) == torch.bfloat16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,  # the loader gives numbers
        logging_steps=10,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        eval_strategy="steps" if measured else "no",
        eval_steps=settings.save_every,
        remove_unused_columns=False,
        disable_tqdm=True,  # a bar of our own
        report_to="none",
        seed=settings.seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several in one process would share out groups, and see each twice
    return arguments


def _forward(
    network: nn.Module, sequences: Sequence[Prompt], device: torch.device, **options: bool
) -> list[list[Tensor]]:
    """Of each tensor that a network gives, one row in fp32 per sequence, in order."""
    width = max(s.num_labels for s in sequences)
    rows: dict[int, tuple[Tensor, ...]] = {}
    for batch in plan_batches([len(s.ids) for s in sequences], _TOKEN_BUDGET):
        given = network(*pad([sequences[i] for i in batch], device), width, **options)
        given = (given,) if isinstance(given, Tensor) else given
        rows.update(zip(batch, zip(*(x.float() for x in given), strict=True), strict=True))
    return [list(column) for column in zip(*(rows[i] for i in range(len(sequences))), strict=True)]


def _by_group(rows: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
    """Of each group, logits (passages, questions), from one row per sequence."""
    rest = iter(rows)
    return [torch.stack([next(rest)[: len(g.questions)] for _ in g.passages]) for g in groups]
