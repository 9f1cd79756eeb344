"""A head that starts as a cosine.

A head that starts at random has to be learned before anything else can be, and spoils the encoder
meanwhile. The official "mlp" scorer cannot be a cosine exactly: it reads the two vectors side by
side and never multiplies them. But it comes near to one on the vectors that occur, since
|t + l| - |t - l| grows with t * l; so it is fitted to the cosine on vectors of real texts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FEWEST_STEPS, _MOST_STEPS = 300, 6000
_PAIRS = 1024  # in each
_NEAREST = 50  # passages of a question, which most pairs are drawn from: there the order matters
_NEAR_SHARE = 0.6
_GAIN = 3.0  # of the first layer at the start
_PAIRS_PER_STEP = 20  # few texts are soon learned


def fit_cosine(mlp: nn.Sequential, passages: Tensor, questions: Tensor, *, scale: float, offset: float) -> float:
    """Fit an MLP to ``scale * cosine + offset``.

    Args:
        mlp: Linear layers with ReLU between them, the first reading a passage's and a question's vector.
        passages: (passages, hidden), each of length 1.
        questions: (questions, hidden), each of length 1.
        scale: Of the cosine.
        offset: Behind it.

    Returns:
        The share of the target's variance that the MLP explains at the end.

    Example:
        >>> torch.manual_seed(0) and None
        >>> vectors = nn.functional.normalize(torch.randn(2, 50, 8), dim=-1)
        >>> mlp = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
        >>> fit_cosine(mlp, *vectors, scale=5.0, offset=1.0) > 0.5
        True
    """
    _start(mlp, torch.cat([passages, questions]))
    near = (questions @ passages.T).topk(min(_NEAREST, len(passages)), dim=1).indices
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, len(passages) * len(questions) // _PAIRS_PER_STEP))
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    explained = 0.0
    for _ in range(steps):
        chosen = torch.randint(len(questions), (_PAIRS,))
        beside = near[chosen, torch.randint(near.shape[1], (_PAIRS,))]
        anywhere = torch.randint(len(passages), (_PAIRS,))
        pairs = passages[beside.where(torch.rand(_PAIRS) < _NEAR_SHARE, anywhere)], questions[chosen]
        wanted = scale * (pairs[0] * pairs[1]).sum(1) + offset
        loss = nn.functional.mse_loss(mlp(torch.cat(pairs, 1)).squeeze(1), wanted)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        explained = 1 - loss.item() / max(wanted.var().item(), 1e-9)
    return explained


@torch.no_grad()
def _start(mlp: nn.Sequential, vectors: Tensor) -> None:
    """Let the first layer read sums and differences along the directions in which vectors differ most."""
    first = next(layer for layer in mlp if isinstance(layer, nn.Linear))
    count = first.out_features // 4
    directions = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False).Vh[:count] * _GAIN
    rows = [torch.cat([directions * s, directions * s * d], 1) for d in (1, -1) for s in (1, -1)]
    used = sum(map(len, rows))
    first.weight[:used] = torch.cat(rows)
    first.bias.zero_()
