"""Labels and a text become the token ids of one sequence.

The official pipeline joins one string and tokenises it. Here labels and texts are tokenised apart
(``tokenizer.py`` says why) and joined as ids; ``PromptBuilder`` checks at load that both ways agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from gliclass_rerank.prompt.tokenizer import EncodedText, TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LABEL_TOKEN = "<<LABEL>>"
TEXT_TOKEN = "<<SEP>>"  # stands between labels and text; the official config calls it the text token
EXAMPLE_TOKEN = "<<EXAMPLE>>"

# Ordinary texts on which the joined ids must equal the plain tokenizer's when a model is loaded.
_PROBES = (
    ("what is a generator?", "A generator is a function that yields."),
    ("Übergrößen  im   Angebot", "  def f(x):\n    return x  # 2.5 % – naïve\n\n"),
    (" q ", " 東京は日本の首都です。 Привет, мир! "),
)


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


@dataclass(frozen=True, slots=True)
class PromptFrame:
    """Everything in a sequence but its text: control tokens, labels, task and examples.

    Attributes:
        before: Token ids before the text.
        after: Token ids after the text.
        label_lengths: Tokens of each label, without its control token.
        task_tokens: Tokens of a task that is written in front of the text and tokenised with it.
        is_cut: Whether a label was cut.
    """

    before: list[int]
    after: list[int]
    label_lengths: tuple[int, ...]
    task_tokens: int = 0
    is_cut: bool = False

    @property
    def size(self) -> int:
        """Tokens of a sequence with an empty text."""
        return len(self.before) + len(self.after) + self.task_tokens

    def around(self, text: EncodedText, max_length: int) -> Prompt:
        """The sequence with a text in this frame; the text is cut to fit.

        Args:
            text: The text.
            max_length: Tokens of the sequence at most.
        """
        room = max_length - len(self.before) - len(self.after)
        ids = [*self.before, *text.ids[:room], *self.after]
        return Prompt(ids, len(self.label_lengths), text.is_cut or len(text.ids) > room)


class PromptBuilder:
    """Builds prompts for one checkpoint. Threads may share one.

    Args:
        tokenizer: The checkpoint's tokenizer; it is read, never changed.
        prompt_first: Whether the labels stand before the text (config.json's ``prompt_first``).

    Raises:
        ValueError: The tokenizer has no ``<<LABEL>>`` or ``<<SEP>>`` token or no fast backend, or gives
            other ids for a whole prompt than for its parts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, prompt_first: bool) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no tokenizers backend. "
                "Save the checkpoint with a fast tokenizer (tokenizer.json)."
            )
        self.prompt_first = prompt_first
        self.label_id = _control_id(tokenizer, LABEL_TOKEN)
        self.text_id = _control_id(tokenizer, TEXT_TOKEN)
        template: list[int] = tokenizer(LABEL_TOKEN)["input_ids"]
        label_position = template.index(self.label_id)
        self._prefix, self._suffix = template[:label_position], template[label_position + 1 :]
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._example_id: int | None = backend.token_to_id(EXAMPLE_TOKEN)
        self.tokenizer = TextTokenizer(backend, self._reserved_ids(tokenizer, backend), self._unknown_id)
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
            texts: Texts (passages); an empty text is fine.
            max_length: Tokens of a sequence, control tokens included. A text is cut to fit, a
                label or an example never is.
            task: A description of the task, put between the labels and the text.
            examples: Texts with their labels, as the official library writes them; they come last.

        Raises:
            ValueError: The frame leaves the text no room, or there are examples but the tokenizer
                has no token for them.

        Example:
            >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
            >>> prompts = load_checkpoint().prompts
            >>> [prompt] = prompts.build(["a question"], ["a passage"], max_length=512)
            >>> prompt.num_labels, prompt.truncated
            (1, False)
        """
        frame = self.frame(labels, task=task, examples=examples)
        if frame.size >= max_length:
            raise ValueError(
                f"labels, task and examples take {frame.size} of max_length {max_length} tokens, which leaves the "
                "text no room. Shorten them or raise max_length."
            )
        encoded = self.encode_texts([self.with_task(text, task) for text in texts], max_length)
        return [frame.around(text, max_length) for text in encoded]

    def frame(
        self,
        labels: Sequence[str],
        *,
        task: str = "",
        examples: Sequence[str] = (),
        label_limits: Sequence[int | None] = (),
    ) -> PromptFrame:
        """The token ids around a text.

        Args:
            labels: The labels.
            task: See ``build``.
            examples: See ``build``.
            label_limits: Tokens of each label at most, None for no limit; a longer label is cut.

        Raises:
            ValueError: There are examples but the tokenizer has no token for them.
        """
        label_ids = self.tokenizer.encode(labels, after_control=True)
        cut_ids = [ids[:limit] for ids, limit in zip(label_ids, label_limits or [None] * len(labels), strict=True)]
        middle = [i for ids in cut_ids for i in (self.label_id, *ids)]
        middle.append(self.text_id)
        task_ids = self.tokenizer.encode([task], after_control=True)[0] if task else []
        tail = self._example_ids(examples) + self._suffix
        lengths, is_cut = tuple(map(len, label_ids)), cut_ids != label_ids
        if self.prompt_first:
            return PromptFrame(self._prefix + middle, tail, lengths, len(task_ids), is_cut)
        return PromptFrame(self._prefix, middle + task_ids + tail, lengths, is_cut=is_cut)

    def with_task(self, text: str, task: str) -> str:
        """The text as it is tokenised: with the task in front, if the prompt has the task there."""
        return f"{task}{text}" if self.prompt_first else text

    def encode_texts(self, texts: Sequence[str], max_tokens: int) -> list[EncodedText]:
        """Token ids of texts where they stand in a sequence, at most ``max_tokens`` of each."""
        return self.tokenizer.encode_beginnings(texts, max_tokens, after_control=self.prompt_first)

    def count_tokens(self, labels: Sequence[str], *, task: str = "", examples: Sequence[str] = ()) -> int:
        """Tokens of a sequence with these labels and an empty text.

        Args:
            labels: The labels.
            task: See ``build``.
            examples: See ``build``.
        """
        return self.frame(labels, task=task, examples=examples).size

    def place_of_text(self, ids: Sequence[int]) -> slice:
        """Where the text stands in a sequence.

        Args:
            ids: Token ids from ``build``.
        """
        if self.prompt_first:
            return slice(ids.index(self.text_id) + 1, len(ids) - len(self._suffix))
        return slice(len(self._prefix), ids.index(self.label_id))

    def words_inside(self, words: str) -> list[list[int]]:
        """Token ids that words may have inside a text: at its beginning, or after a blank; unknown words have none.

        A longer word may begin with the same tokens.

        Args:
            words: Some words.
        """
        variants = self.tokenizer.encode([words, f" {words}"], after_control=self.prompt_first)
        return [ids for ids in variants if self._unknown_id not in ids]

    def _example_ids(self, examples: Sequence[str]) -> list[int]:
        if not examples:
            return []
        if self._example_id is None:
            raise ValueError(f"examples are given, but this checkpoint's tokenizer has no {EXAMPLE_TOKEN} token.")
        encoded = self.tokenizer.encode(examples, after_control=True)
        return [*(i for ids in encoded for i in (self._example_id, *ids)), self.text_id]

    def _reserved_ids(self, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> frozenset[int]:
        """Ids that no text may produce."""
        reserved = {self.label_id, self.text_id, *self._prefix, *self._suffix, *tokenizer.all_special_ids}
        reserved |= {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
        return frozenset(i for i in (*reserved, self._example_id) if i is not None and i != self._unknown_id)

    def _check_probes(self, tokenizer: PreTrainedTokenizerBase) -> None:
        for query, passage in _PROBES:
            control = f"{LABEL_TOKEN}{query}{TEXT_TOKEN}"
            plain = tokenizer(control + passage if self.prompt_first else passage + control)["input_ids"]
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
