"""How to train: read by the command line, the recipes and the trainer, so it imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gliclass_rerank.training.lora import LORA_PRESETS

READING_APART = "reading-apart"
ORDER_LOSSES = ("listwise", "margin-mse", "kl", "ranknet", "scores")
LOSSES = (*ORDER_LOSSES, READING_APART)
LOSSES_OF_A_TEACHER = ("margin-mse", "kl", "scores")
_LEARNING_RATE = 6e-5
_LORA_LEARNING_RATE = 5e-4


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: Optimiser steps.
        groups: Groups of passages and questions in each step.
        learning_rate: The peak learning rate; it rises over the first 5 % of the steps and then falls to zero. None
            for 6e-5, or 5e-4 with LoRA.
        head_learning_rate: The same for projectors and scorer.
        max_length: Tokens per sequence.
        loss: The loss over the order of each question's passages, one of ``ORDER_LOSSES``; it is added to the focal
            loss over pairs. "margin-mse", "kl" and "scores" need a teacher. "reading-apart" stands alone and reads no
            target: see ``reading_apart.ReadingApart``.
        focal_alpha: Weight of positives in the focal loss; None for the LoRA preset's, or 0.5.
        focal_gamma: How much less the focal loss weighs easy pairs; 0 for no difference.
        answer_weight: Weight of the loss for finding the words of the answers, where they are known; 0 to leave
            it out.
        teacher_share: The teacher's share of the listwise loss's target where the answer is known, in [0, 1].
        reranker_weight: Of a reranker's logit where it teaches beside a sentence encoder, whose cosine counts 50 times.
        label_bonus: What a passage that answers gets above the teacher's logit in the "scores" loss.
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
        patience: Training stops after so many dev scores in a row that are no better than the best; 0 for never.
        report_to: Where transformers reports loss and dev score, such as "tensorboard" or "wandb"; "none" for nowhere.
        seed: Decides everything that is drawn at random.

    Example:
        >>> TrainingSettings(steps=500, patience=3).loss
        'listwise'
    """

    steps: int = 2000
    groups: int = 4
    learning_rate: float | None = None
    head_learning_rate: float = 3e-4
    max_length: int = 320
    loss: str = "listwise"
    focal_alpha: float | None = None
    focal_gamma: float = 0.0
    answer_weight: float = 1.0
    teacher_share: float = 0.1
    reranker_weight: float = 1.0
    label_bonus: float = 3.0
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
    patience: int = 0
    report_to: str = "none"
    seed: int = 0

    def fit_to_lora(self, lora: str | None) -> TrainingSettings:
        """Fill in what follows LoRA where it was left open; a value that was given stays.

        Args:
            lora: Name of one of ``LORA_PRESETS``; None without LoRA.

        Raises:
            ValueError: No preset has this name.

        Example:
            >>> TrainingSettings().fit_to_lora("bundled").learning_rate
            0.0005
            >>> TrainingSettings(learning_rate=1e-4).fit_to_lora("bundled").learning_rate
            0.0001
        """
        if lora is not None and lora not in LORA_PRESETS:
            raise ValueError(f"lora is {lora!r}, expected one of {', '.join(LORA_PRESETS)}.")
        rate, alpha = self.learning_rate, self.focal_alpha
        return replace(
            self,
            learning_rate=(_LORA_LEARNING_RATE if lora else _LEARNING_RATE) if rate is None else rate,
            focal_alpha=LORA_PRESETS[lora].focal_alpha if lora and alpha is None else alpha,
        )

    def check_loss(self, *, has_teacher: bool) -> None:
        """Check that the loss exists and has the teacher that it needs.

        Args:
            has_teacher: Whether there is a teacher.

        Raises:
            ValueError: It does not, or has not.

        Example:
            >>> TrainingSettings(loss="ranknet").check_loss(has_teacher=False)
        """
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}, expected one of {', '.join(LOSSES)}.")
        if self.loss in LOSSES_OF_A_TEACHER and not has_teacher:
            raise ValueError(f"loss is {self.loss!r}, which learns from a teacher. Give a teacher, or another loss.")
