"""Tokenise untrusted text in such a way that it can never become a control token.

A tokenizer that reads the characters ``<<SEP>>`` in a passage makes them the control token of that
name, and the passage forges the prompt. So texts are tokenised by a private copy of the checkpoint's
tokenizer that knows no control tokens. The copy never changes, so threads can share it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding, Tokenizer

Span = tuple[int, int]  # the first character, and the one after the last

_SURROGATE = re.compile("[\ud800-\udfff]")

# A long text is tokenised from its front until there are enough tokens: first this many characters
# for each token, then eight times as many, and so on.
_CHARACTERS_PER_TOKEN = 8
_GROWTH = 8
# A word that a slice cuts in two may become other tokens than the whole word. WordPiece looks at
# words of up to 100 characters, so tokens this near to the end of a slice are not trusted.
_UNCERTAIN_TOKENS = 128
# No more characters are read, even if the sequence is not full: 500,000 blanks hold no tokens.
MAX_CHARACTERS = 1 << 19
# Spans of tokens take memory, so a text is tokenised for its windows in slices of this many characters.
_SLICE_CHARACTERS = 1 << 16


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The beginning of a text as token ids.

    Attributes:
        ids: Token ids, as many as were asked for at most.
        is_cut: Whether the text goes on after them.
    """

    ids: list[int]
    is_cut: bool


class TextTokenizer:
    """Tokenises labels and texts; nothing in them becomes a reserved id.

    Args:
        backend: The checkpoint's tokenizer; it is copied.
        reserved_ids: Ids that no text may produce, such as those of control tokens.
        unknown_id: The id that replaces a reserved one; None to drop it.
    """

    def __init__(self, backend: Tokenizer, reserved_ids: frozenset[int], unknown_id: int | None) -> None:
        self._reserved_ids, self._unknown_id = reserved_ids, unknown_id
        # No text can hold this string. It becomes one token, which stands in for a control token.
        self._nonce = f"<<{secrets.token_hex(16)}>>"
        self._clone, self._original_ids = _copy_without_control_tokens(backend, self._nonce, reserved_ids)

    def encode(self, texts: Sequence[str], *, after_control: bool) -> list[list[int]]:
        """Token ids of whole texts.

        Args:
            texts: The texts.
            after_control: Whether they follow a control token; some tokenizers treat the start of a
                sequence differently.

        Raises:
            RuntimeError: The tokenizer fails on one of the texts.
        """
        prefix = self._nonce if after_control else ""
        encodings = self._run([prefix + without_surrogates(text) for text in texts], fast=True)
        return [self._clean(encoding.ids[1:] if after_control else encoding.ids) for encoding in encodings]

    def encode_beginnings(self, texts: Sequence[str], max_tokens: int, *, after_control: bool) -> list[EncodedText]:
        """Token ids of the beginnings of texts, without reading all of a long one.

        Args:
            texts: The texts, of any length.
            max_tokens: Tokens of each at most.
            after_control: See ``encode``.

        Raises:
            RuntimeError: The tokenizer fails on one of the texts.
        """
        encoded = [EncodedText([], is_cut=False)] * len(texts)
        pending = list(range(len(texts)))
        size = (max_tokens + _UNCERTAIN_TOKENS) * _CHARACTERS_PER_TOKEN
        while pending:
            size = min(size, MAX_CHARACTERS)
            slices = self.encode([texts[i][:size] for i in pending], after_control=after_control)
            too_short = []
            for i, ids in zip(pending, slices, strict=True):
                is_whole = len(texts[i]) <= size
                if is_whole or len(ids) >= max_tokens + _UNCERTAIN_TOKENS or size == MAX_CHARACTERS:
                    encoded[i] = EncodedText(ids[:max_tokens], not is_whole or len(ids) > max_tokens)
                else:
                    too_short.append(i)
            pending = too_short
            size *= _GROWTH
        return encoded

    def token_spans(self, text: str) -> list[Span]:
        """The span of each token in a text of any length; slightly off where a very long text is sliced.

        Args:
            text: The text.

        Raises:
            RuntimeError: The tokenizer fails on the text.
        """
        text = _SURROGATE.sub("\ufffd", text)  # one character for one, so that spans stay those of the text
        spans: list[Span] = []
        start = 0
        while start < len(text):
            end = start + _SLICE_CHARACTERS
            blank = text.rfind(" ", start + 1, end) if end < len(text) else -1
            end = blank if blank > 0 else min(end, len(text))
            [encoding] = self._run([text[start:end]], fast=False)
            spans += [(start + first, start + last) for first, last in encoding.offsets]
            start = end
        return spans

    def _run(self, texts: list[str], *, fast: bool) -> list[Encoding]:
        encode = self._clone.encode_batch_fast if fast else self._clone.encode_batch  # fast: without offsets
        try:
            return encode(texts, add_special_tokens=False)
        except BaseException as error:
            # A bug in the tokenizer's Rust code is a BaseException, which would end a server's thread.
            if type(error).__name__ != "PanicException":
                raise
            raise RuntimeError(
                f"the checkpoint's tokenizer failed: {error}. Use another checkpoint or text."
            ) from error

    def _clean(self, ids: list[int]) -> list[int]:
        if self._original_ids:
            ids = [self._original_ids.get(i, i) for i in ids]
        if self._reserved_ids.isdisjoint(ids):
            return ids
        replaced = [self._unknown_id if i in self._reserved_ids else i for i in ids]
        return [i for i in replaced if i is not None]


def _copy_without_control_tokens(
    backend: Tokenizer, nonce: str, reserved_ids: frozenset[int]
) -> tuple[Tokenizer, dict[int, int]]:
    """Copy a tokenizer without its control tokens, truncation, padding and post-processor.

    Ordinary added tokens stay: ModernBERT's keeps runs of blanks as such. Returns the copy, and the
    original id of each added token that has another one in the copy.
    """
    state: dict[str, Any] = json.loads(backend.to_str())
    ordinary = [token for token in state["added_tokens"] if token["id"] not in reserved_ids and not token["special"]]
    flags = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    nonce_id = max([backend.get_vocab_size(), *(token["id"] + 1 for token in ordinary)])
    state.update(
        added_tokens=[*ordinary, {"id": nonce_id, "content": nonce, **flags}],
        truncation=None,
        padding=None,
        post_processor=None,
    )
    clone = Tokenizer.from_str(json.dumps(state))
    ids = ((clone.token_to_id(token["content"]), int(token["id"])) for token in ordinary)
    return clone, {copied: original for copied, original in ids if copied is not None and copied != original}


def without_surrogates(text: str) -> str:
    r"""Replace lone surrogates, which are not valid Unicode and which tokenizers refuse, by U+FFFD.

    Args:
        text: Any text.

    Example:
        >>> without_surrogates("cut \ud83d")
        'cut �'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
