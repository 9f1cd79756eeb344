"""Poolings, projectors and scorers, which turn an encoder's token vectors into one logit per label.

Modules and parameters have the names of the official checkpoints. Unlike the official poolings, these know which
positions are padding, so padding never changes a score.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from gliclass_rerank.modeling.config import GLiClassConfig

_MLP_WIDTH = 256  # the official mlp and hopfield scorers ignore scorer_mlp_hidden_size


def _max(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(mask == 0, float("-inf")).amax(1)


def _avg(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum(1) / mask.sum(1)


def _last(x: Tensor, mask: Tensor) -> Tensor:
    last = mask[..., 0].sum(1).long() - 1
    return x[torch.arange(len(x), device=x.device), last]


# Each takes token vectors (batch, length, hidden), padded on the right, and their mask (batch, length, 1) of ones and
# zeros. Each returns (batch, hidden); "pass" returns the token vectors.
POOLERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "first": lambda x, mask: x[:, 0],
    "last": _last,
    "avg": _avg,
    "max": _max,
    "sum": lambda x, mask: (x * mask).sum(1),
    "rms": lambda x, mask: _avg(x.square(), mask).sqrt(),
    "abs_max": lambda x, mask: _max(x.abs(), mask),
    "abs_avg": lambda x, mask: _avg(x.abs(), mask),
    "pass": lambda x, mask: x,
}


class Projector(nn.Module):
    """Two linear layers with an activation between them, over text or label vectors."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(config.encoder_hidden_size, config.hidden_size)
        self.act = ACT2FN[config.projector_hidden_act]
        self.dropout = nn.Dropout(config.dropout)
        self.linear_2 = nn.Linear(config.hidden_size, config.encoder_hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., hidden) to (..., hidden)."""
        projected: Tensor = self.linear_2(self.dropout(self.act(self.linear_1(features))))
        return projected


class Lstm(nn.Module):
    """Bidirectional LSTM over the text's token vectors."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden_size, hidden_size // 2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, length, hidden) to the same shape; masked positions become zeros."""
        lengths = mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return out


def _relu_mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, _MLP_WIDTH),
        nn.ReLU(),
        nn.Linear(_MLP_WIDTH, _MLP_WIDTH // 2),
        nn.ReLU(),
        nn.Linear(_MLP_WIDTH // 2, 1),
    )


class Scorer(nn.Module):
    """The "simple" scorer, a dot product without weights; base class of the others."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        """Score labels against texts.

        Args:
            text: (batch, hidden), or (batch, length, hidden) for cross-attention.
            labels: (batch, labels, hidden).
            text_mask: (batch, length), true where a token belongs to the text.
            label_mask: (batch, labels), true where the sequence has that label.

        Returns:
            Logits (batch, labels); logits of absent labels mean nothing.
        """
        return torch.einsum("bd,bcd->bc", text, labels)


class WeightedDotScorer(Scorer):
    """Two projections of text and label, their product, and an MLP."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        hidden = config.encoder_hidden_size
        self.proj_text = nn.Linear(hidden, hidden * 2)
        self.proj_label = nn.Linear(hidden, hidden * 2)
        self.out_mlp = nn.Sequential(
            nn.Linear(hidden * 3, hidden * 4), nn.Dropout(0.1), nn.ReLU(), nn.Linear(hidden * 4, 1)
        )

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        """Score labels against texts, as ``Scorer.forward``."""
        text_a, text_b = self.proj_text(text).unsqueeze(1).expand(-1, labels.shape[1], -1).chunk(2, dim=-1)
        label_a, label_b = self.proj_label(labels).chunk(2, dim=-1)
        logits: Tensor = self.out_mlp(torch.cat([text_a, label_a, text_b * label_b], dim=-1)).squeeze(-1)
        return logits


class MlpScorer(Scorer):
    """MLP over the concatenated text and label."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        self.mlp = _relu_mlp(config.encoder_hidden_size * 2)

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        """Score labels against texts, as ``Scorer.forward``."""
        logits: Tensor = self.mlp(torch.cat([text.unsqueeze(1).expand_as(labels), labels], dim=-1)).squeeze(-1)
        return logits


class HopfieldScorer(Scorer):
    """One step of Hopfield retrieval: labels compete for the text, then an MLP."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        hidden = config.encoder_hidden_size
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, hidden, bias=False)
        self.v_proj = nn.Linear(hidden, hidden, bias=False)
        self.mlp = _relu_mlp(hidden)

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        """Score labels against texts, as ``Scorer.forward``."""
        text = text.unsqueeze(1)
        energy = 4.0 * self.q_proj(labels) @ self.k_proj(text).transpose(1, 2)  # 4 is the official beta
        weights = energy.masked_fill(~label_mask.unsqueeze(-1), float("-inf")).softmax(dim=1)
        logits: Tensor = self.mlp(labels + weights * self.v_proj(text)).squeeze(-1)
        return logits


class CrossAttentionScorer(Scorer):
    """Each label attends to the text's tokens, then an MLP."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        hidden, width = config.encoder_hidden_size, config.scorer_mlp_hidden_size
        self.num_heads = config.scorer_num_heads
        self.q_norm, self.kv_norm, self.norm = (nn.LayerNorm(hidden) for _ in range(3))
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.score_mlp = nn.Sequential(
            nn.Linear(hidden * 2, width),
            nn.GELU(),
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, 1),
        )

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        """Score labels against texts, as ``Scorer.forward``."""
        query = self._heads(self.q(self.q_norm(labels)))
        key = self._heads(self.k(self.kv_norm(text)))
        value = self._heads(self.v(text))  # the official scorer leaves the values unnormalised
        context = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=text_mask[:, None, None, :].bool()
        )
        context = self.norm(self.out(context.transpose(1, 2).flatten(2)))
        logits: Tensor = self.score_mlp(torch.cat([context, labels], dim=-1)).squeeze(-1)
        return logits

    def _heads(self, x: Tensor) -> Tensor:
        """Split (batch, length, hidden) into (batch, heads, length, hidden / heads)."""
        batch, length, hidden = x.shape
        return x.view(batch, length, self.num_heads, hidden // self.num_heads).transpose(1, 2)


SCORER_CLASSES: dict[str, type[Scorer]] = {
    "simple": Scorer,
    "weighted-dot": WeightedDotScorer,
    "mlp": MlpScorer,
    "hopfield": HopfieldScorer,
    "cross-attn": CrossAttentionScorer,
}
