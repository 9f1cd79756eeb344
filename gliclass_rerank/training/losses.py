"""What training makes small: the errors over pairs, and over the order of each question's passages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHARPNESS = 50.0  # of a sentence encoder's cosines, which lie close together
_TEACHER_SHARE = 0.1
_PAIRS_WEIGHT = 2.0  # makes the focal loss with alpha 0.5 and gamma 0 plain cross-entropy


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.5, gamma: float = 0.0) -> Tensor:
    """Binary cross-entropy that can weigh positives against negatives, and hard pairs against easy ones.

    After Lin et al., Focal Loss for Dense Object Detection (2017), equation 5; the official
    GLiClass library has it as its loss.

    Args:
        logits: Any shape.
        targets: The same shape, 0 or 1.
        alpha: Weight of positives in [0, 1]; negatives have 1 - alpha.
        gamma: How far easy pairs count less; 0 for not at all.

    Returns:
        The mean, a scalar.

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(4), torch.tensor([1.0, 0, 0, 0])).item() == 0.5 * torch.log(torch.tensor(2.0)).item()
        True
    """
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    found = logits.sigmoid()
    missed = targets * (1 - found) + (1 - targets) * found
    weights = targets * alpha + (1 - targets) * (1 - alpha)
    # Clamped, since the slope of a root is infinite at zero.
    return (weights * missed.clamp(min=1e-8) ** gamma * losses).mean()


def list_loss(
    logits: Tensor, targets: Tensor, taught: Tensor | None = None, teacher_share: float = _TEACHER_SHARE
) -> Tensor:
    """Cross-entropy over each question's passages: do those that answer stand in front?

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question.
        taught: The same shape: a teacher's distribution over each question's passages. What is
            wanted is then mostly the targets, and the teacher alone where no passage answers.
        teacher_share: Of what is wanted where a passage answers, in [0, 1]; the teacher is right less often.

    Returns:
        The mean over questions, a scalar; without a teacher, over those that a passage answers.

    Example:
        >>> import torch
        >>> list_loss(torch.tensor([[9.0], [-9.0]]), torch.tensor([[1.0], [0.0]])).item() < 0.01
        True
    """
    answered = targets.sum(0) > 0
    wanted = targets / targets.sum(0).clamp(min=1)
    if taught is not None:
        wanted = wanted.lerp(taught, teacher_share).where(answered, taught)
        answered = torch.ones_like(answered)
    if len(logits) == 1 or not answered.any():
        return logits.sum() * 0  # nothing to order
    return nn.functional.cross_entropy(logits.T[answered], wanted.T[answered])


def group_loss(
    logits: Tensor,
    targets: Tensor,
    taught: Tensor | None = None,
    *,
    teacher_share: float = _TEACHER_SHARE,
    alpha: float = 0.5,
    gamma: float = 0.0,
) -> Tensor:
    """The focal loss over all pairs of a group plus the list loss.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape.
        taught: See ``list_loss``.
        teacher_share: See ``list_loss``.
        alpha: See ``focal_loss``.
        gamma: See ``focal_loss``.

    Returns:
        A scalar.
    """
    pairs, order = focal_loss(logits, targets, alpha, gamma), list_loss(logits, targets, taught, teacher_share)
    return _PAIRS_WEIGHT * pairs + order


def taught_by_cosines(cosines: Tensor) -> Tensor:
    """A sentence encoder's cosines (passages, questions) as distributions over each question's passages."""
    return (cosines * _SHARPNESS).softmax(0)


def taught_by_logits(logits: Tensor) -> Tensor:
    """A reranker's logits (passages, questions) as distributions over each question's passages."""
    return logits.softmax(0)
