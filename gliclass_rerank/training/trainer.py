"""The training loop: the Trainer of transformers, with groups of passages and questions as its data."""

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

_TOKEN_BUDGET = 2048  # tokens in one forward pass; a step adds up the gradients of several
_WARMUP = 0.05
_FINDER_LEARNING_RATE = 1e-3  # of the answer finder, which starts with random weights
_MINED_SHARE = 4  # for one in four of the coming groups, the model mines negatives
_MINED = "mined.json"
STATES = "states"  # folder in the output with the states from which a stopped run can resume
DEV_MEASURE = "dev_ndcg@10"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: Optimiser steps.
        groups: Groups of passages and questions in each step.
        learning_rate: The peak learning rate; it rises over the first 5 % of the steps and then falls to zero.
        head_learning_rate: The same for projectors and scorer.
        max_length: Tokens per sequence.
        focal_alpha: Weight of positives in the focal loss; None for the LoRA preset's, or 0.5.
        focal_gamma: How much less the focal loss weighs easy pairs; 0 for no difference.
        answer_weight: Weight of the loss for finding the words of the answers, where they are known; 0 to leave
            it out.
        teacher_share: The teacher's share of the list loss's target where the answer is known, in [0, 1].
        multi_query_share: Share of the question groups that have several questions, in [0, 1], so that the model
            learns to score several queries at a time.
        text_share: See ``GroupSampler``.
        statement_share: See ``GroupSampler``.
        empty_share: See ``GroupSampler``.
        min_crop_words: See ``GroupSampler``.
        max_crop_words: See ``GroupSampler``.
        question_words: See ``GroupSampler``.
        freeze_embeddings: Whether the token embeddings stay unchanged, which saves a tenth of the time.
        mine_every: The model mines hard negatives for coming groups every so many steps; 0 for never.
        save_every: The state is saved and the dev questions are ranked every so many steps.
        seed: Decides everything that is drawn at random.
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
    """A question, its candidate passages, and the positions of those that answer it."""

    question: str
    passages: list[str]
    relevant: list[int]


def last_state(output: Path) -> Path | None:
    """Return the newest complete state of a stopped run; None if there is none.

    Args:
        output: The run's folder.
    """
    # The file of mined negatives is written last, so a state that has it is complete.
    states = [mined.parent for mined in (output / STATES).glob(f"checkpoint-*/{_MINED}")]
    return max(states, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def set_training_attention(network: GLiClassNetwork) -> None:
    """Use the attention that trains fastest; the last digits of scores then vary.

    Args:
        network: Changed in place.
    """
    if network.encoder_model.config._attn_implementation == PACKED_ATTENTION:  # other encoders keep their own attention
        network.encoder_model.set_attn_implementation("sdpa" if torch.cuda.is_available() else TRAINING_ATTENTION)


class GroupTrainer(Trainer):
    """Trains a network on groups.

    Args:
        network: The network to train in place, with or without LoRA adapters.
        prompts: Builds the network's sequences.
        sampler: Draws the groups.
        output: Folder for the log and for the states from which a stopped run can resume.
        settings: How to train.
        negatives: Stores the hard negatives that the model mines, if the settings ask for it.
        dev: Questions whose candidates are ranked whenever the state is saved, to measure progress.
        teacher: A reranker; the network also learns its ranking of each question's passages.
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
        # peft's wrapper forwards attributes that it does not have itself.
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
        """Train to the end, starting from a saved state if one is given.

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
        """Return the mean loss of some groups, which run in a few batches of similar length."""
        # The groups are drawn here, because the data loader is one batch ahead and would miss what was just mined.
        drawn = (self._sampler.sample(number) for number in inputs["numbers"])
        groups = [fit_group(self._prompts, group, self._settings.max_length) for group in drawn]
        sequences = self._sequences(self._prompts, groups)
        # The answer finder starts with random weights that would harm the encoder, so at first only the finder learns.
        alone = self.state.global_step < self.args.warmup_steps
        # Without dropout: few questions are seen twice, and on a CPU dropout takes 40 % of the time.
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
        """Return the logits of passages for one query, with the model's current weights."""
        group = Group(list(passages), [query], [[0]] * len(passages))
        with torch.inference_mode(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            sequences = self._sequences(self._prompts, [group])
            logits, _ = _forward(self._trained.eval(), sequences, self.args.device)
        scores = [row[0].item() for row in logits]
        return scores

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401 - whatever Trainer passes
        """Rank the candidates of the dev questions, and return the mean nDCG@10."""
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
        """Create AdamW with separate learning rates for the encoder, the head and the answer finder."""
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
        """Build one sequence for each passage of each group."""
        length = self._settings.max_length
        return [p for g in groups for p in prompts.build(fit_labels(prompts, g.questions, length), g.passages, length)]

    def _taught(self, groups: Sequence[Group]) -> list[Tensor | None]:
        """Return for each group the teachers' distribution over each question's passages; None without a teacher."""
        logits: list[Tensor | None] = [None] * len(groups)
        if self._teacher:
            lists = [i for i, group in enumerate(groups) if len(group.passages) > 1]  # one passage has no order
            with torch.no_grad(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
                sequences = self._sequences(self._teacher.prompts, [groups[i] for i in lists])
                [rows] = _forward(self._teacher.network, sequences, self.args.device) if sequences else [[]]
            for i, group_rows in zip(lists, _by_group(rows, [groups[i] for i in lists]), strict=True):
                logits[i] = group_rows
        for i, group in enumerate(groups):
            if group.teacher_scores is not None:  # brought by the data
                brought, own = torch.tensor(group.teacher_scores, device=self.args.device), logits[i]
                logits[i] = brought if own is None else own + brought
        cosines = [
            None if group.similarities is None else torch.tensor(group.similarities, device=self.args.device)
            for group in groups
        ]
        return [taught(*scores) for scores in zip(cosines, logits, strict=True)]


class _Mining(TrainerCallback):
    """Lets the model mine hard negatives for some of the coming groups, every ``mine_every`` steps."""

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
        """Load the negatives that a resumed run had mined."""
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
        """Mine hard negatives if it is time to."""
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
        """Write the mined negatives into the state's folder."""
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
        dataloader_pin_memory=False,  # the loader yields numbers, not tensors
        logging_steps=10,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        eval_strategy="steps" if measured else "no",
        eval_steps=settings.save_every,
        remove_unused_columns=False,
        disable_tqdm=True,  # TrainingLog shows its own bar
        report_to="none",
        seed=settings.seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs would divide the groups, and see each twice
    return arguments


def _forward(
    network: nn.Module, sequences: Sequence[Prompt], device: torch.device, **options: bool
) -> list[list[Tensor]]:
    """Run a network; for each tensor that it returns, return one fp32 row per sequence, in order."""
    width = max(s.num_labels for s in sequences)
    rows: dict[int, tuple[Tensor, ...]] = {}
    for batch in plan_batches([len(s.ids) for s in sequences], _TOKEN_BUDGET):
        given = network(*pad([sequences[i] for i in batch], device), width, **options)
        given = (given,) if isinstance(given, Tensor) else given
        rows.update(zip(batch, zip(*(x.float() for x in given), strict=True), strict=True))
    return [list(column) for column in zip(*(rows[i] for i in range(len(sequences))), strict=True)]


def _by_group(rows: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
    """Return for each group its logits (passages, questions), from one row per sequence."""
    rest = iter(rows)
    return [torch.stack([next(rest)[: len(g.questions)] for _ in g.passages]) for g in groups]
