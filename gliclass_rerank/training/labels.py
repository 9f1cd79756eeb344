"""Labels of training and calibration that would leave a passage no room are shortened."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_rerank.prompt import PromptBuilder


def fit_labels(prompts: PromptBuilder, labels: Sequence[str], max_length: int) -> list[str]:
    """Shorten the longest labels until half of a sequence is left to the passage.

    Args:
        prompts: Counts the tokens.
        labels: Questions of one group.
        max_length: Tokens of a sequence.

    Example:
        >>> from gliclass_rerank.checkpoint import load_checkpoint
        >>> fit_labels(load_checkpoint().prompts, ["short", "long " * 99], 64)[0]
        'short'
    """
    fitting = list(labels)
    while any(fitting) and len(prompts.build(fitting, [""], 1 << 30)[0].ids) > max_length // 2:
        longest = max(range(len(fitting)), key=lambda i: len(fitting[i]))
        fitting[longest] = fitting[longest][: len(fitting[longest]) * 3 // 4]
    return fitting
