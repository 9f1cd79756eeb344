"""Make a score mean a probability: of the passages that score 0.8, four in five should answer.

Platt scaling: a logistic regression on the logit, fitted on questions that were not trained on,
with the candidates that a first stage really brings. Scale and offset are folded into the last
layer, so the checkpoint itself is calibrated, in the official library too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, precision_recall_curve
from torch import nn

from gliclass_rerank.modeling.gliclass import GLiClassNetwork

_BINS = 10
_LEAST_PAIRS = 30  # of either kind; a fit on fewer says little


@dataclass(frozen=True, slots=True)
class Calibration:
    """A new logit is ``scale`` times the old one plus ``offset``.

    Attributes:
        scale: Positive, so that no order changes.
        offset: 0 where the model's head has no place for one.
        threshold: The score, after calibration, that parts answers from other passages best (by F1), to two digits.
    """

    scale: float
    offset: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How far scores are probabilities.

    Attributes:
        log_loss: Mean negative logarithm of the probability that the score gives the truth.
        calibration_error: Mean distance of score and share of answers, over ten equally wide bins of the score,
            weighted by their pairs (Naeini et al., 2015).
        f1: Of keeping the pairs that score at least ``threshold``.
        threshold: Which one.
    """

    log_loss: float
    calibration_error: float
    f1: float
    threshold: float


def fit_calibration(logits: ArrayLike, answers: ArrayLike, *, with_offset: bool = True) -> Calibration:
    """Fit scale and offset by maximum likelihood (Platt, 1999, without his smoothing of the targets).

    Args:
        logits: Of pairs of a question and a candidate passage.
        answers: Whether the passage answers the question.
        with_offset: Whether the head has a place for an offset.

    Raises:
        ValueError: There are too few pairs of either kind, or answers do not score higher than other passages.

    Example:
        >>> logits = [0.1 * i for i in range(-100, 101)] * 2
        >>> answers = [x > 1 for x in logits]
        >>> fitted = fit_calibration(logits, answers)
        >>> fitted.scale > 1 and fitted.offset < 0
        True
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(answers, dtype=bool)
    if min(y.sum(), (~y).sum()) < _LEAST_PAIRS:
        raise ValueError(
            f"{y.sum()} answers and {(~y).sum()} other passages, expected at least {_LEAST_PAIRS} of each: take more "
            "questions, or keep more out of training (held_out)."
        )
    model = LogisticRegression(C=np.inf, fit_intercept=with_offset).fit(x[:, None], y)
    scale, offset = float(model.coef_[0, 0]), float(model.intercept_[0]) if with_offset else 0.0
    if scale <= 0:
        raise ValueError(f"the fitted scale is {scale:.3g}: answers do not score higher than other passages.")
    scores = expit(scale * x + offset)
    precision, recall, thresholds = precision_recall_curve(y, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    # Neither everything nor nothing is kept, however the threshold is rounded.
    threshold = min(max(round(float(thresholds[f1[:-1].argmax()]), 2), 0.01), 0.99)
    return Calibration(scale, offset, threshold)


def measure_calibration(
    logits: ArrayLike, answers: ArrayLike, calibration: Calibration | None = None, threshold: float = 0.5
) -> Quality:
    """Say how far the scores of some pairs are probabilities.

    Args:
        logits: Of pairs of a question and a passage.
        answers: Whether the passage answers the question.
        calibration: What to apply first; its threshold replaces the other.
        threshold: For F1.

    Example:
        >>> measure_calibration([9.0, -9.0], [True, False]).f1
        1.0
    """
    fitted = calibration or Calibration(1.0, 0.0, threshold)
    scores = expit(fitted.scale * np.asarray(logits, dtype=np.float64) + fitted.offset)
    y = np.asarray(answers, dtype=bool)
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    distances = [abs(scores[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
    return Quality(
        float(log_loss(y, scores, labels=[False, True])),
        float(sum(distances)),
        float(f1_score(y, scores >= fitted.threshold)),
        fitted.threshold,
    )


def has_offset(network: GLiClassNetwork) -> bool:
    """Whether a network's head has a place for an offset: all but the "simple" one, a dot product, have.

    Args:
        network: The network.
    """
    return _last_layer(network) is not None


@torch.no_grad()
def fold_calibration(network: GLiClassNetwork, calibration: Calibration) -> None:
    """Write scale and offset into the last layer, and the threshold into the config.

    Args:
        network: Changed in place.
        calibration: What was fitted.

    Raises:
        ValueError: There is an offset, but no place for it.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> network = load_checkpoint().network
        >>> fold_calibration(network, Calibration(scale=1.0, offset=0.0, threshold=0.4))
        >>> network.config.recommended_threshold
        0.4
    """
    scale, offset = calibration.scale, calibration.offset
    last = _last_layer(network)
    projector = network.classes_projector.linear_2
    if last is None and offset:
        raise ValueError(f"offset is {offset}, but a head of scorer_type 'simple' has no place for one: fit without.")
    if last is not None:
        # A logit of normalised features is what the last layer gives times the logit scale.
        times = network.logit_scale.item() if network.config.normalize_features else 1.0
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(offset / times)
    elif network.config.normalize_features:
        network.logit_scale.mul_(scale)
    else:
        projector.weight.mul_(scale)
        projector.bias.mul_(scale)
    network.config = replace(network.config, recommended_threshold=calibration.threshold)


def _last_layer(network: GLiClassNetwork) -> nn.Linear | None:
    layers = [m for m in network.scorer.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
    return layers[-1] if layers else None


def forget_threshold(network: GLiClassNetwork) -> None:
    """Take the threshold out of the config of a network that was trained further: it is that of the scores before.

    Args:
        network: Its config is replaced.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> network = load_checkpoint().network
        >>> forget_threshold(network)
        >>> network.config.recommended_threshold is None
        True
    """
    network.config = replace(network.config, recommended_threshold=None)
