"""Other wordings for training: questions as people type them, stretches of passages, and texts that say nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

# Texts that say nothing; the model must not rank them above a passage that answers.
EMPTY_TEXTS = (
    "n/a",
    "N/A",
    "-",
    ".",
    "...",
    "TODO",
    "TBD",
    "null",
    "None",
    "See above.",
    "Page not found",
    "404 Not Found",
    "Loading...",
    "Read more",
    "Click here to continue.",
    "Home | About | Products | Contact | Login",
    "Skip to main content. Menu. Search. Close.",
    "We use cookies to improve your experience. Accept all. Manage preferences. Privacy policy.",
    "Copyright. All rights reserved. Terms of use. Privacy.",
    "Subscribe to our newsletter. Enter your email address. Submit.",
    "Table of contents 1 Introduction 2 Background 3 Methods 4 Results 5 Discussion References",
    "Previous page Next page Back to top",
    "This section is intentionally left blank.",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Share this article: Facebook Twitter LinkedIn Email Print",
)
_MENU = (4, 9)  # the fewest and the most entries of a menu
# Words that nobody would search for; they are left out when a question is shortened to keywords.
_FUNCTION_WORD = re.compile(
    "a|an|and|are|at|be|by|can|did|do|does|for|from|had|has|have|how|in|is|it|its|of|on|or|should|that|the|their"
    "|there|these|they|this|to|was|were|what|when|where|which|who|whom|whose|why|will|with|would"
)


def empty_text(titles: Sequence[str], rng: random.Random) -> str:
    """Draw a text that says nothing: one of ``EMPTY_TEXTS``, or a menu or a table of contents made of titles.

    Args:
        titles: Distinct titles of passages; with fewer than nine, nothing is made of them.
        rng: Decides.

    Example:
        >>> titles = ["Bread", "Tea", "Rain", "Bikes", "Maps", "Moons", "Fish", "Coffee", "Knots"]
        >>> any(" | " in empty_text(titles, random.Random(i)) for i in range(9))
        True
    """
    if len(titles) < _MENU[1] or rng.random() < 0.5:
        return rng.choice(EMPTY_TEXTS)
    entries = rng.sample(titles, rng.randint(*_MENU))
    if rng.random() < 0.5:
        return " | ".join(entries)
    return " ".join(["Contents", *(f"{number} {title}" for number, title in enumerate(entries, 1))])


def vary(question: str, rng: random.Random, max_words: int = 80) -> str:
    """Change some questions to how people type them: in lower case, as keywords, or with a typing error.

    Args:
        question: The question.
        rng: Decides whether and how the question changes.
        max_words: Longer questions are cut to this many words.

    Example:
        >>> {vary("Who wrote The Art of Fugue?", random.Random(i)) for i in range(60)} >= {
        ...     "Who wrote The Art of Fugue?", "who wrote the art of fugue", "wrote art fugue"}
        True
    """
    question = " ".join(question.split()[:max_words])
    kind = rng.random()
    if kind < 0.65:
        return question
    typed = question.lower().rstrip(" ?")
    if kind < 0.85:
        return typed or question
    if kind < 0.95:
        keywords = [word for word in typed.split() if not _FUNCTION_WORD.fullmatch(word)]
        return " ".join(keywords) or question
    return _with_a_slip(typed, rng) or question


def _with_a_slip(text: str, rng: random.Random) -> str:
    """Swap two letters in the middle of a word."""
    places = [m.start() for m in re.finditer(r"(?<=\w\w)[^\W\d_]{2}", text)]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def crop(text: str, words: int, rng: random.Random) -> list[str]:
    """Cut a text into overlapping stretches that cover it.

    Args:
        text: The text.
        words: Words of a stretch.
        rng: Decides their order.

    Returns:
        The stretches in random order; the text alone if it is no longer than one.

    Example:
        >>> sorted(crop("one two three four", 3, random.Random(0)))
        ['one two three', 'two three four']
    """
    split = text.split()
    last = len(split) - words
    if last <= 0:
        return [text]
    starts = [*range(0, last, max(1, words // 8)), last]
    rng.shuffle(starts)
    return [" ".join(split[start : start + words]) for start in starts]
