"""Several labels in one prompt, which the package has no public way to ask for yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gliclass_rerank.checkpoint import load_checkpoint
from gliclass_rerank.scorer import GLiClassScorer
from gliclass_rerank.validation import Dtype

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LabelScorer:
    """A loaded checkpoint that reads a text together with any number of labels.

    Args:
        model: Hub name or folder; None for the embedded model.
        dtype: Precision of the encoder.
    """

    def __init__(self, model: str | None, dtype: Dtype) -> None:
        checkpoint = load_checkpoint(model)
        self.max_length = checkpoint.max_length
        self._prompts = checkpoint.prompts
        self._scorer = GLiClassScorer(checkpoint.network, dtype=dtype)
        self.dtype = str(self._scorer.dtype).removeprefix("torch.")

    def logits(self, labels: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, labels) logits, all the labels in each text's prompt."""
        return self._scorer.logits(self._prompts.build(labels, texts, self.max_length))

    def count_tokens(self, labels: Sequence[str]) -> int:
        """How many tokens of a prompt the labels take."""
        return self._prompts.count_tokens(labels)
