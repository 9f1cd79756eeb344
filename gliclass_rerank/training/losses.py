"""What training makes small: the errors over pairs, and over the order of each question's passages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHARPNESS = 50.0  # of a sentence encoder's cosines, which lie close together
_TEACHER_SHARE = 0.1
_SCORES_TEMPERATURE = 1.5  # softens the goal, so that more than the first passage counts
_ERROR_WEIGHT = 0.05
_MAX_ERROR = 10.0  # where one teacher is far off, no single passage may outweigh the others
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
    return _mean_where(is_known, weights * missed.clamp(min=1e-8) ** gamma * losses)


def list_loss(
    logits: Tensor, targets: Tensor, teacher: Tensor | None = None, teacher_share: float = _TEACHER_SHARE
) -> Tensor:
    """Cross-entropy over each question's passages: do those that answer stand in front?

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question.
        teacher: The same shape: a teacher's scores. The goal is then a mixture of the targets and the softmax of
            the scores, and the softmax alone if no passage answers.
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
    if teacher is not None:
        distribution = teacher.softmax(0)
        goal = goal.lerp(distribution, teacher_share).where(answered, distribution)
        answered = torch.ones_like(answered)
    if len(logits) == 1 or not answered.any():
        return logits.sum() * 0  # nothing to order
    return nn.functional.cross_entropy(logits.T[answered], goal.T[answered])


def kl_loss(logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
    """How far the distribution over each question's passages is from the teacher's: the Kullback-Leibler divergence.

    After Hinton et al., Distilling the Knowledge in a Neural Network (2015), at temperature 1.

    Args:
        logits: (passages, questions) of one group.
        targets: Not read: the teacher's distribution alone is the goal.
        teacher: The same shape: a teacher's scores. Without them the loss is 0.

    Returns:
        The mean over questions, a scalar.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0], [-1.0]])
        >>> kl_loss(logits, torch.zeros(2, 1), teacher=logits + 5).item() < 1e-6
        True
    """
    if teacher is None:
        return logits.sum() * 0
    divergences = nn.functional.kl_div(
        logits.log_softmax(0), teacher.log_softmax(0), reduction="none", log_target=True
    ).sum(0)
    return divergences.mean()


def margin_mse_loss(logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
    """Squared error of the margins by which passages that answer lead over the others, against the teacher's margins.

    After Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation
    (2020), equation 3. For a question that no passage answers, the teacher says which passage leads.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question, -1 where it is unknown.
        teacher: The same shape: a teacher's scores. Without them the loss is 0.

    Returns:
        The mean over pairs of passages, a scalar.

    Example:
        >>> import torch
        >>> targets, teacher = torch.tensor([[1.0], [0.0]]), torch.tensor([[5.0], [2.0]])
        >>> margin_mse_loss(torch.tensor([[1.0], [0.0]]), targets, teacher).item()  # margins 1 and 3
        4.0
    """
    if teacher is None:
        return logits.sum() * 0
    return _mean_where(_leads(targets, teacher), _margins(logits - teacher) ** 2)


def scores_loss(logits: Tensor, targets: Tensor, teacher: Tensor | None = None, label_bonus: float = 3.0) -> Tensor:
    """How far the scores of each question's passages are from a teacher's, raised for passages that answer.

    The teacher brings what it knows of text without labels, the bonus what the labels know better. The loss is the
    cross-entropy over the passages, which cares for the order at the front, plus a share of the squared error of all
    differences, which keeps what the teacher says of the others.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question, -1 where it is unknown.
        teacher: The same shape: a teacher's scores. Without them the loss is 0.
        label_bonus: What is added to the teacher's logit of a passage that answers.

    Returns:
        The mean over questions, a scalar. Its two parts agree on the order; the softened cross-entropy asks for
            smaller differences than the squared error does.

    Example:
        >>> import torch
        >>> goal = torch.tensor([[30.0], [0.0]])
        >>> scores_loss(goal + 5, torch.zeros(2, 1), teacher=goal).item() < 1e-6
        True
    """
    if teacher is None or len(logits) == 1:
        return logits.sum() * 0
    goal = teacher + label_bonus * targets.clamp(min=0)
    order = nn.functional.cross_entropy(logits.T, (goal / _SCORES_TEMPERATURE).softmax(0).T)
    error = logits - goal
    error = (error - error.mean(0)).clamp(-_MAX_ERROR, _MAX_ERROR)
    return order + _ERROR_WEIGHT * error.square().mean()


def ranknet_loss(logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
    """Cross-entropy of each pair of passages being in the right order.

    After Burges et al., Learning to Rank using Gradient Descent (2005), equation 3, with certain targets. A passage
    that answers must lead over one that does not; for a question that no passage answers, the teacher says which leads.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape, 1 where the passage answers the question, -1 where it is unknown.
        teacher: The same shape: a teacher's scores, if there is a teacher.

    Returns:
        The mean over pairs of passages, a scalar.

    Example:
        >>> import torch
        >>> ranknet_loss(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])).item() == torch.log(torch.tensor(2.0)).item()
        True
    """
    return _mean_where(_leads(targets, teacher), nn.functional.softplus(-_margins(logits)))


def group_loss(
    logits: Tensor,
    targets: Tensor,
    teacher: Tensor | None = None,
    *,
    loss: str = "listwise",
    teacher_share: float = _TEACHER_SHARE,
    label_bonus: float = 3.0,
    alpha: float = 0.5,
    gamma: float = 0.0,
) -> Tensor:
    """The focal loss over all pairs of a group plus a loss over the order of each question's passages.

    Args:
        logits: (passages, questions) of one group.
        targets: The same shape.
        teacher: The same shape: a teacher's scores, if there is a teacher.
        loss: The loss over the order, one of ``settings.ORDER_LOSSES``.
        teacher_share: See ``list_loss``; the other losses do not read it.
        label_bonus: See ``scores_loss``; the other losses do not read it.
        alpha: See ``focal_loss``.
        gamma: See ``focal_loss``.

    Returns:
        A scalar.
    """
    if loss == "listwise":
        order = list_loss(logits, targets, teacher, teacher_share)
    elif loss == "scores":
        order = scores_loss(logits, targets, teacher, label_bonus)
    else:
        losses = {"margin-mse": margin_mse_loss, "kl": kl_loss, "ranknet": ranknet_loss}
        order = losses[loss](logits, targets, teacher)
    return _PAIRS_WEIGHT * focal_loss(logits, targets, alpha, gamma) + order


def sum_teachers(cosines: Tensor | None, logits: Tensor | None, reranker_weight: float = 1.0) -> Tensor | None:
    """The sum of teachers' scores, on the scale of logits.

    Args:
        cosines: (passages, questions) cosines of a sentence encoder, if there is one.
        logits: The same shape: a reranker's logits, if there is one.
        reranker_weight: What the logits are multiplied with, if there are cosines too.

    Returns:
        The same shape; None without a teacher.

    Example:
        >>> import torch
        >>> sum_teachers(torch.tensor([[0.5]]), torch.tensor([[3.0]])).item()
        28.0
    """
    if cosines is None:
        return logits
    return cosines * _SHARPNESS + (0 if logits is None else reranker_weight * logits)


def _margins(scores: Tensor) -> Tensor:
    """(passages, passages, questions): by how much the first passage of a pair leads over the second."""
    return scores.unsqueeze(1) - scores.unsqueeze(0)


def _leads(targets: Tensor, teacher: Tensor | None) -> Tensor:
    """(passages, passages, questions): whether the first passage of a pair should lead over the second."""
    first, second = targets.unsqueeze(1), targets.unsqueeze(0)
    leads = (second >= 0) & (first > second)  # -1 is unknown
    return leads if teacher is None else leads.where((targets > 0).any(0), _margins(teacher) > 0)


def _mean_where(mask: Tensor, losses: Tensor) -> Tensor:
    """The mean of some losses, 0 where there are none."""
    return (losses * mask).sum() / mask.sum().clamp(min=1)
