"""Labels and a text become token ids, in such a way that neither can pass for a control token.

The official pipeline joins one string and tokenises it, so a passage that holds the characters
``<<SEP>>`` forges the prompt. Here every part is tokenised on its own by a private copy of the
tokenizer that knows no control tokens, and the parts are joined as ids. The copy is never
changed after it is built, so threads can share it.
"""

from __future__ import annotations

import json
import re
import secrets
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import Tokenizer

from gliclass_rerank.prompt.token_cache import Encoded, TokenCache, key_of
from gliclass_rerank.prompt.windows import Span, halve, part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LABEL_TOKEN = "<<LABEL>>"
TEXT_TOKEN = "<<SEP>>"  # stands between labels and text; the official config calls it the text token
EXAMPLE_TOKEN = "<<EXAMPLE>>"

_SURROGATE = re.compile("[\ud800-\udfff]")

# Ordinary texts on which the joined ids must equal the plain tokenizer's when a model is loaded.
_PROBES = (
    ("what is a generator?", "A generator is a function that yields."),
    ("Übergrößen  im   Angebot", "  def f(x):\n    return x  # 2.5 % – naïve\n\n"),
    (" q ", " 東京は日本の首都です。 Привет, мир! "),
)
# A long passage is tokenised from its front until the sequence is full: first this many characters
# per free token, then eight times as many, and so on.
_CHARACTERS_PER_TOKEN = 8
_GROWTH = 8
# A word that the slice cuts in two may fall into other tokens than the whole word would. WordPiece
# looks at words of up to 100 characters; so tokens this near to the end of a slice are not trusted.
_UNCERTAIN_TOKENS = 128
# Beyond this many characters nothing is read even if the sequence is not full (endless blanks).
_MAX_CHARACTERS = 1 << 19
_CACHED_TOKENS = 1 << 21  # 9 MB
# Where windows are wanted all of a text is tokenised, in slices of so many characters: places of tokens take memory.
_SLICE = 1 << 16
_MOST_CACHED_CHARACTERS = 1 << 16  # to look up a longer text takes longer than to read its beginning


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sequence ready for the network.

    Attributes:
        ids: Token ids, without padding.
        num_labels: How many labels the sequence holds.
        truncated: Whether the text was cut to fit.
    """

    ids: list[int]
    num_labels: int
    truncated: bool


class _Parts(NamedTuple):
    """Token ids around the text of a sequence."""

    before: list[int]
    after: list[int]


class PromptBuilder:
    """Builds prompts for one checkpoint.

    Args:
        tokenizer: The checkpoint's tokenizer; it is read, never changed.
        prompt_first: Whether the labels stand before the text (config.json's ``prompt_first``).

    Raises:
        ValueError: The tokenizer has no ``<<LABEL>>`` or ``<<SEP>>`` token, is not a fast one, or
            ids joined from parts differ from its own on ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, prompt_first: bool) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no tokenizers backend. "
                "Save the checkpoint with a fast tokenizer (tokenizer.json)."
            )
        self._prompt_first = prompt_first
        self.label_id = _control_id(tokenizer, LABEL_TOKEN)
        self.text_id = _control_id(tokenizer, TEXT_TOKEN)
        around: list[int] = tokenizer(LABEL_TOKEN)["input_ids"]
        where = around.index(self.label_id)
        self._prefix, self._suffix = around[:where], around[where + 1 :]
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._example_id: int | None = backend.token_to_id(EXAMPLE_TOKEN)
        self._reserved = self._reserved_ids(tokenizer, backend)
        # No text can hold this string, so it always becomes one token and marks "behind a control token".
        self._nonce = f"<<{secrets.token_hex(16)}>>"
        self._clone, self._renumber = _private_clone(backend, self._nonce, self._reserved)
        self._cache = TokenCache(_CACHED_TOKENS)
        self._check_probes(tokenizer)

    def build(
        self,
        labels: Sequence[str],
        texts: Sequence[str],
        max_length: int,
        *,
        task: str = "",
        examples: Sequence[str] = (),
    ) -> list[Prompt]:
        """Build one sequence per text, each with all the labels.

        Args:
            labels: Labels (queries), at least one.
            texts: Texts (passages); the empty text is fine.
            max_length: Tokens of a sequence, control tokens included. The text is cut to fit, a
                label or an example never is.
            task: What stands behind the labels' end: a description of the task.
            examples: Texts with their labels, as the official library writes them; they come last.

        Raises:
            ValueError: What is around the text leaves it no room, or there are examples but the
                tokenizer has no token for them.

        Example:
            >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
            >>> prompts = load_checkpoint().prompts
            >>> [prompt] = prompts.build(["a question"], ["a passage"], max_length=512)
            >>> prompt.num_labels, prompt.truncated
            (1, False)
        """
        joined = bool(task) and self._prompt_first  # task and text are one text then, as in the official prompt
        parts = self._parts(labels, "" if joined else task, examples)
        taken = len(parts.before) + len(parts.after)
        if joined:
            taken += len(self._encode([task], after_control=True)[0])
        if taken >= max_length:
            beside = "query" if len(labels) == 1 and not task and not examples else "labels, task and examples"
            raise ValueError(
                f"{beside}: what stands around the text takes {taken} of max_length {max_length} tokens and leaves it "
                "no room. Shorten that or raise max_length."
            )
        room = max_length - len(parts.before) - len(parts.after)
        return [
            Prompt([*parts.before, *text.ids[:room], *parts.after], len(labels), text.cut or len(text.ids) > room)
            for text in self._encode_texts([f"{task}{text}" for text in texts] if joined else texts, max_length)
        ]

    def count_tokens(self, labels: Sequence[str], *, task: str = "", examples: Sequence[str] = ()) -> int:
        """Tokens of a sequence with these labels and an empty text.

        Args:
            labels: The labels.
            task: See ``build``.
            examples: See ``build``.
        """
        parts = self._parts(labels, task, examples)
        return len(parts.before) + len(parts.after)

    def windows(self, texts: Sequence[str], max_length: int, *, room: int, size: int) -> list[list[Span]]:
        """Part texts that do not fit into windows.

        Args:
            texts: The texts.
            max_length: Tokens of a sequence.
            room: Tokens of it that are left for a text.
            size: Tokens of a window, at most ``room``.

        Returns:
            For each text the places of its windows; all of it where it fits.

        Example:
            >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
            >>> load_checkpoint().prompts.windows(["one two three", "one"], max_length=512, room=2, size=2)
            [[(0, 7), (4, 13)], [(0, 3)]]
        """
        found = []
        for text, fits in zip(texts, self._fit(texts, max_length, room), strict=True):
            spans = [(0, len(text))] if fits else part(text, self._places(text), size)
            while not fits:
                # On its own, a part may fall into more tokens; and between two tokens may lie half a million blanks.
                fitting = self._fit([text[start:end] for start, end in spans], max_length, room)
                smaller = [s for span, ok in zip(spans, fitting, strict=True) for s in ([span] if ok else halve(span))]
                fits = smaller == spans
                spans = smaller
            found.append(spans)
        return found

    def _fit(self, texts: Sequence[str], max_length: int, room: int) -> list[bool]:
        return [not text.cut and len(text.ids) <= room for text in self._encode_texts(texts, max_length)]

    def _places(self, text: str) -> list[Span]:
        """Where the tokens of a text stand; nearly, at the seams of very long ones."""
        text = _SURROGATE.sub("\ufffd", text)  # one for one, so that places are those of the text
        places: list[Span] = []
        start = 0
        while start < len(text):
            end = start + _SLICE
            blank = text.rfind(" ", start + 1, end) if end < len(text) else -1
            end = blank if blank > 0 else min(end, len(text))
            [encoding] = self._clone.encode_batch([text[start:end]], add_special_tokens=False)
            places += [(start + first, start + last) for first, last in encoding.offsets]
            start = end
        return places

    def place_of_text(self, ids: Sequence[int]) -> slice:
        """Where the text stands in a sequence.

        Args:
            ids: Token ids from ``build``.
        """
        if self._prompt_first:
            return slice(ids.index(self.text_id) + 1, len(ids) - len(self._suffix))
        return slice(len(self._prefix), ids.index(self.label_id))

    def words_inside(self, words: str) -> list[list[int]]:
        """Token ids that words may have inside a text: as its beginning, or behind a blank; none that are unknown.

        A longer word may begin with the same tokens.

        Args:
            words: Some words.
        """
        found = self._encode([words, f" {words}"], after_control=self._prompt_first)
        return [ids for ids in found if self._unknown_id not in ids]

    def _parts(self, labels: Sequence[str], task: str, examples: Sequence[str]) -> _Parts:
        ids: list[int] = []
        for label_ids in self._encode(labels, after_control=True):
            ids += [self.label_id, *label_ids]
        ids.append(self.text_id)
        if task:
            ids += self._encode([task], after_control=True)[0]
        shown: list[int] = []
        if examples:
            if self._example_id is None:
                raise ValueError(f"examples are given, but this checkpoint's tokenizer has no {EXAMPLE_TOKEN} token.")
            for example_ids in self._encode(examples, after_control=True):
                shown += [self._example_id, *example_ids]
            shown.append(self.text_id)
        if self._prompt_first:
            return _Parts(self._prefix + ids, shown + self._suffix)
        return _Parts(self._prefix, ids + shown + self._suffix)

    def _encode_texts(self, texts: Sequence[str], limit: int) -> list[Encoded]:
        """Token ids of each text, at most ``limit``."""
        keys = [key_of(text, limit) if len(text) <= _MOST_CACHED_CHARACTERS else None for text in texts]
        known = [None if key is None else self._cache.get(key) for key in keys]
        fresh = [i for i, encoded in enumerate(known) if encoded is None]
        encodings = self._read_texts([texts[i] for i in fresh], limit)
        for i, encoded in zip(fresh, encodings, strict=True):
            key = keys[i]
            if key is not None:
                self._cache.put(key, encoded)
        read = iter(encodings)
        return [next(read) if encoded is None else encoded for encoded in known]

    def _read_texts(self, texts: Sequence[str], limit: int) -> list[Encoded]:
        """The same of texts that are not in the cache."""
        encoded = [Encoded(array("i"), cut=False)] * len(texts)
        pending = list(range(len(texts)))
        size = (limit + _UNCERTAIN_TOKENS) * _CHARACTERS_PER_TOKEN
        while pending:
            size = min(size, _MAX_CHARACTERS)
            slices = self._encode([texts[i][:size] for i in pending], after_control=self._prompt_first)
            unfilled = []
            for i, ids in zip(pending, slices, strict=True):
                whole = len(texts[i]) <= size
                if whole or len(ids) >= limit + _UNCERTAIN_TOKENS or size == _MAX_CHARACTERS:
                    encoded[i] = Encoded(array("i", ids[:limit]), not whole or len(ids) > limit)
                else:
                    unfilled.append(i)
            pending = unfilled
            size *= _GROWTH
        return encoded

    def _encode(self, texts: Sequence[str], *, after_control: bool) -> list[list[int]]:
        """Token ids of texts, as they come out at the start of a sequence or behind a control token."""
        front = self._nonce if after_control else ""
        batch = [front + without_surrogates(text) for text in texts]
        encodings = self._clone.encode_batch_fast(batch, add_special_tokens=False)
        return [self._clean(encoding.ids[1:] if after_control else encoding.ids) for encoding in encodings]

    def _clean(self, ids: list[int]) -> list[int]:
        if self._renumber:
            ids = [self._renumber.get(i, i) for i in ids]
        if self._reserved.isdisjoint(ids):
            return ids
        replaced = [self._unknown_id if i in self._reserved else i for i in ids]
        return [i for i in replaced if i is not None]

    def _reserved_ids(self, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> frozenset[int]:
        """Ids that no text may produce."""
        reserved = {self.label_id, self.text_id, *self._prefix, *self._suffix, *tokenizer.all_special_ids}
        reserved |= {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
        return frozenset(i for i in (*reserved, self._example_id) if i is not None and i != self._unknown_id)

    def _check_probes(self, tokenizer: PreTrainedTokenizerBase) -> None:
        for query, passage in _PROBES:
            control = f"{LABEL_TOKEN}{query}{TEXT_TOKEN}"
            plain = tokenizer(control + passage if self._prompt_first else passage + control)["input_ids"]
            [prompt] = self.build([query], [passage], max_length=len(plain))
            if prompt.ids != plain:
                raise ValueError(
                    f"this tokenizer ({type(tokenizer).__name__}) gives other ids for a whole prompt than for its "
                    f"parts, so scores would differ from the official library's. First seen on the passage {passage!r}."
                )


def _control_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    index = tokenizer.get_vocab().get(token)
    if index is None:
        raise ValueError(f"the tokenizer has no {token} token: this is not a GLiClass uni-encoder's tokenizer.")
    return int(index)


def _private_clone(backend: Tokenizer, nonce: str, reserved: frozenset[int]) -> tuple[Tokenizer, dict[int, int]]:
    """Copy a tokenizer without its control tokens, truncation, padding and post-processor.

    Ordinary added tokens stay: ModernBERT's keeps runs of spaces as such. Returns the copy and
    the ids to be renumbered, since an added token may get another id in the copy.
    """
    state: dict[str, Any] = json.loads(backend.to_str())
    kept = [token for token in state["added_tokens"] if token["id"] not in reserved and not token["special"]]
    mark = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    last = max([backend.get_vocab_size(), *(token["id"] + 1 for token in kept)])
    state.update(
        added_tokens=[*kept, {"id": last, "content": nonce, **mark}],
        truncation=None,
        padding=None,
        post_processor=None,
    )
    clone = Tokenizer.from_str(json.dumps(state))
    pairs = ((clone.token_to_id(token["content"]), int(token["id"])) for token in kept)
    return clone, {new: old for new, old in pairs if new is not None and new != old}


def without_surrogates(text: str) -> str:
    r"""Replace what is no valid Unicode (a lone surrogate) by U+FFFD; tokenizers refuse it.

    Args:
        text: Any.

    Example:
        >>> without_surrogates("cut \ud83d")
        'cut �'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
