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
        targets: The same shape, from 0 to 1; -1 where it is unknown, which does not count.
        alpha: Weight of positives in [0, 1]; negatives have 1 - alpha.
        gamma: How far easy pairs count less; 0 for not at all.

    Returns:
        The mean, a scalar.

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(4), torch.tensor([1.0, 0, 0, 0])).item() == 0.5 * torch.log(torch.tensor(2.0)).item()
        True
    """
    is_known = targets >= 0
    targets = targets.clamp(min=0)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    scores = logits.sigmoid()
    missed = targets * (1 - scores) + (1 - targets) * scores
    weights = targets * alpha + (1 - targets) * (1 - alpha)
    # Clamped, since the slope of a root is infinite at zero.
    return (weights * missed.clamp(min=1e-8) ** gamma * losses * is_known).sum() / is_known.sum().clamp(min=1)


def list_loss(
    logits: Tensor, targets: Tensor, taught: Tensor | None = None, teacher_share: float = _TEACHER_SHARE
) -> Tensor:
    """Cross-entropy over each question's passages: do those that answer stand in front?

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question.
        taught: The same shape: a teacher's distribution over each question's passages. The goal is then
            a mixture of the targets and the teacher's, and the teacher's alone if no passage answers.
        teacher_share: The teacher's share of the mixture, in [0, 1]; the teacher is right less often.

    Returns:
        The mean over questions, a scalar; without a teacher, over those that a passage answers.

    Example:
        >>> import torch
        >>> list_loss(torch.tensor([[9.0], [-9.0]]), torch.tensor([[1.0], [0.0]])).item() < 0.01
        True
    """
    targets = targets.clamp(min=0)
    answered = targets.sum(0) > 0
    goal = targets / targets.sum(0).clamp(min=1)
    if taught is not None:
        goal = goal.lerp(taught, teacher_share).where(answered, taught)
        answered = torch.ones_like(answered)
    if len(logits) == 1 or not answered.any():
        return logits.sum() * 0  # nothing to order
    return nn.functional.cross_entropy(logits.T[answered], goal.T[answered])


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


def taught(cosines: Tensor | None, logits: Tensor | None) -> Tensor | None:
    """Teachers' distribution over each question's passages: the softmax of the sum of their scores.

    Args:
        cosines: (passages, questions) cosines of a sentence encoder, if there is one.
        logits: The same shape: a reranker's logits, if there is one.

    Returns:
        The same shape; None without a teacher.

    Example:
        >>> import torch
        >>> taught(None, torch.zeros(4, 1)).squeeze(1).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    scores = [score for score in (None if cosines is None else cosines * _SHARPNESS, logits) if score is not None]
    return torch.stack(scores).sum(0).softmax(0) if scores else None
