"""The training loop: the Trainer of transformers, with groups of passages and questions as its data."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.checkpoint import Checkpoint
from gliclass_rerank.engine.scorer import choose_device, choose_dtype, pad
from gliclass_rerank.modeling.attention import PACKED_ATTENTION
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import Prompt, PromptBuilder
from gliclass_rerank.training.answers import NetworkWithAnswerFinder, answers_loss
from gliclass_rerank.training.attention import TRAINING_ATTENTION
from gliclass_rerank.training.dev import DEV_MEASURE, BestState, DevScores, Ranking, mean_ndcg
from gliclass_rerank.training.labels import fit_group, fit_labels
from gliclass_rerank.training.log import TrainingLog
from gliclass_rerank.training.losses import group_loss, sum_teachers
from gliclass_rerank.training.mining import STATES, Mining
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.reading_apart import ReadingApart
from gliclass_rerank.training.sampling import Group, GroupSampler
from gliclass_rerank.training.settings import TrainingSettings

_TOKEN_BUDGET = 2048  # tokens in one forward pass; a step adds up the gradients of several
_WARMUP = 0.05
_FINDER_LEARNING_RATE = 1e-3  # of the answer finder, which starts with random weights
_logger = logging.getLogger(__name__)


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
        dev: Questions whose candidates are ranked before the first step and whenever the state is saved.
        teacher: A reranker; the network also learns its ranking of each question's passages.
        apart: A loss in place of all others; it was made for the same network.
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
        apart: ReadingApart | None = None,
    ) -> None:
        # peft's wrapper forwards attributes that it does not have itself.
        self._trained = NetworkWithAnswerFinder(cast("GLiClassNetwork", network))
        self._prompts, self._sampler, self._settings = prompts, sampler, settings
        self._dev, self._teacher, self._apart = dev, teacher, apart
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
        self._best = BestState(self._trained, output / STATES, settings.patience)
        self.remove_callback(PrinterCallback)
        for callback in (self._log, Mining(self.score, sampler, negatives, settings), self._best):
            self.add_callback(callback)

    def train_on(self, state: Path | None) -> DevScores:
        """Train to the end, starting from a saved state if one is given, and load the weights with the best dev score.

        Args:
            state: From ``last_state``.

        Returns:
            The dev scores; none without dev questions.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        self.args.eval_on_start = bool(self._dev) and state is None
        try:
            self.train(resume_from_checkpoint=None if state is None else str(state))
        finally:
            self._log.stop()
        scores = DevScores.from_history(self.state.log_history)
        if scores.by_step:
            self._go_back(scores)
        return scores

    def _go_back(self, scores: DevScores) -> None:
        step = scores.best_step
        self._best.load(step)
        result = f"the saved weights are those of step {step}, with nDCG@10 {scores.by_step[step]:.3f}"
        if scores.has_improved:
            _logger.info(result)
        else:
            result = f"no state ranks the held-out questions better than the start; {result}"
            _logger.warning(result)
        self._log.write({"step": self.state.global_step, "saved_step": step, "result": result})

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
        # Without dropout: few questions are seen twice, and on a CPU dropout takes 40 % of the time.
        model.eval()
        if self._apart:
            with self._autocast():  # Trainer's own covers the model's forward alone
                return self._checked(self._apart.loss(sequences), return_outputs=return_outputs)
        # The answer finder starts with random weights that would harm the encoder, so at first only the finder learns.
        alone = self.state.global_step < self.args.warmup_steps
        logits, answer_logits = _forward(model, sequences, self.args.device, finder_alone=alone)
        losses = [
            group_loss(
                rows,
                rows.new_tensor(group.targets),
                teacher_scores,
                loss=self._settings.loss,
                teacher_share=self._settings.teacher_share,
                label_bonus=self._settings.label_bonus,
                alpha=0.5 if self._settings.focal_alpha is None else self._settings.focal_alpha,
                gamma=self._settings.focal_gamma,
            )
            for group, rows, teacher_scores in zip(
                groups, _by_group(logits, groups), self._teacher_scores(groups), strict=True
            )
        ]
        loss = torch.stack(losses).mean()
        if self._settings.answer_weight:
            loss = loss + self._settings.answer_weight * answers_loss(self._prompts, groups, sequences, answer_logits)
        return self._checked(loss, return_outputs=return_outputs)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16)

    def _checked(self, loss: Tensor, *, return_outputs: bool) -> Tensor | tuple[Tensor, dict[str, Any]]:
        """Return a loss as Trainer wants it, if it is finite."""
        if not math.isfinite(loss.item()):
            step = self.state.global_step
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate.")
        return (loss, {}) if return_outputs else loss

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return the logits of passages for one query, with the model's current weights."""
        group = Group(list(passages), [query], [[0]] * len(passages))
        with torch.inference_mode(), self._autocast():
            sequences = self._sequences(self._prompts, [group])
            logits, _ = _forward(self._trained.eval(), sequences, self.args.device)
        scores = [row[0].item() for row in logits]
        return scores

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # noqa: ANN401 - whatever Trainer passes
        """Rank the candidates of the dev questions, and return the mean nDCG@10."""
        metrics = {DEV_MEASURE: mean_ndcg(self._log.ranking(self._dev), self.score)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create AdamW with separate learning rates for the encoder, the head and the answer finder."""
        trained = self._trained
        named = [(name, p) for name, p in trained.network.named_parameters() if p.requires_grad]
        encoder = [p for name, p in named if "encoder_model." in name]
        head = [p for name, p in named if "encoder_model." not in name]
        groups: list[dict[str, Any]] = [
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

    def _teacher_scores(self, groups: Sequence[Group]) -> list[Tensor | None]:
        """Return for each group the sum of the teachers' scores (passages, questions); None without a teacher."""
        logits: list[Tensor | None] = [None] * len(groups)
        if self._teacher:
            lists = [i for i, group in enumerate(groups) if len(group.passages) > 1]  # one passage has no order
            with torch.no_grad(), self._autocast():
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
        weight = self._settings.reranker_weight
        return [sum_teachers(*scores, weight) for scores in zip(cosines, logits, strict=True)]


def _arguments(output: Path, settings: TrainingSettings, *, measured: bool) -> TrainingArguments:
    device = choose_device(None)
    arguments = TrainingArguments(
        output_dir=str(output / STATES),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.groups,
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
        disable_tqdm=True,  # a bar of our own
        report_to=settings.report_to,
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
