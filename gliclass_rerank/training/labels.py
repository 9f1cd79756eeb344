"""Labels of training and calibration that would leave a passage no room."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.training.sampling import Group


def fit_labels(prompts: PromptBuilder, labels: Sequence[str], max_length: int) -> list[str]:
    """Shorten the longest labels until half of a sequence is left to the passage.

    Args:
        prompts: Counts the tokens.
        labels: Questions of one group.
        max_length: Tokens of a sequence.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> fit_labels(load_checkpoint().prompts, ["short", "long " * 99], 64)[0]
        'short'
    """
    fitting = list(labels)
    while any(fitting) and not _fit(prompts, fitting, max_length):
        longest = _longest(fitting)
        fitting[longest] = fitting[longest][: len(fitting[longest]) * 3 // 4]
    return fitting


def fit_group(prompts: PromptBuilder, group: Group, max_length: int) -> Group:
    """Take the longest questions out of a group until half of a sequence is left to the passage, or one question.

    Shortened, a question might ask for something else than what its targets were set for.

    Args:
        prompts: Counts the tokens.
        group: Not changed.
        max_length: Tokens of a sequence.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> group = Group(["a passage"], ["short", "long " * 99], [[1, 0]])
        >>> fit_group(load_checkpoint().prompts, group, 64).questions
        ['short']
    """
    left = list(range(len(group.questions)))
    while len(left) > 1 and not _fit(prompts, [group.questions[i] for i in left], max_length):
        del left[_longest([group.questions[i] for i in left])]
    return group.with_questions(left)


def _fit(prompts: PromptBuilder, labels: Sequence[str], max_length: int) -> bool:
    return prompts.count_tokens(labels) <= max_length // 2


def _longest(labels: Sequence[str]) -> int:
    return max(range(len(labels)), key=lambda i: len(labels[i]))
