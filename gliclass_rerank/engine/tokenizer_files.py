"""Load a tokenizer that somebody may have crafted.

A tokenizer.json of a few kilobytes can make each character of a text sixteen million, or put a hundred million ids
around it. Its parts are counted before the tokenizers library sees it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_rerank.engine.untrusted import check_size, panics_as_errors, read_json
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.modeling.encoder_settings import MAX_VOCAB_SIZE
from gliclass_rerank.prompt.builder import EXAMPLE_TOKEN, LABEL_TOKEN, TEXT_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER = "tokenizer.json"
_MAX_BYTES = 1 << 26  # the largest of published encoders, with 256,000 tokens, has 34 MB
_MAX_ITEMS = 8_000_000
_MAX_STEPS = 16
_MAX_ADDED_TOKENS = 10_000
_MAX_ADDED_BYTES = 1 << 20
_MAX_GROWTH = 64  # characters that a character becomes; Unicode's own normal forms reach 18
_MAX_TEMPLATE_IDS = 64
_MAX_WORD = 1000
_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*")
_STEPS = ("normalizers", "pretokenizers", "processors", "decoders")
_CLASSES = (  # as tokenizer_config.json names them, without "Fast"
    "AlbertTokenizer",
    "BertTokenizer",
    "CamembertTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "GPT2Tokenizer",
    "GemmaTokenizer",
    "LlamaTokenizer",
    "MPNetTokenizer",
    "PreTrainedTokenizer",
    "RobertaTokenizer",
    "TokenizersBackend",
    "XLMRobertaTokenizer",
)


def load_tokenizer(folder: Path, model_type: str) -> PreTrainedTokenizerBase:
    """Check a checkpoint's tokenizer files and load them as the official library does.

    Args:
        folder: The checkpoint's folder.
        model_type: The encoder's; it decides the class where the files name none.

    Raises:
        CheckpointError: A file is missing, too large or damaged, or asks for a class of another kind.
    """
    from transformers import AutoTokenizer
    from transformers.models.auto import CONFIG_MAPPING

    try:
        _check_files(folder)
        with panics_as_errors():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, config=CONFIG_MAPPING[model_type](), local_files_only=True, trust_remote_code=False
            )
    except CheckpointError:
        raise
    except Exception as error:  # transformers expects well-formed files, and fails on others in many ways
        raise CheckpointError(f"the tokenizer files are damaged ({type(error).__name__}: {error}).") from error
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Refuse a tokenizer with ids that the network has no vectors for.

    Special tokens other than GLiClass's own are left out: no text becomes one.

    Args:
        tokenizer: The tokenizer.
        vocab_size: The number of the network's token vectors.

    Raises:
        CheckpointError: An id is not below ``vocab_size``; the message names the token.
    """
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special -= {LABEL_TOKEN, TEXT_TOKEN, EXAMPLE_TOKEN, str(tokenizer.unk_token)}
    token, index = max(
        ((token, index) for token, index in tokenizer.get_vocab().items() if token not in special),
        key=lambda item: item[1],
    )
    if index >= vocab_size:
        raise CheckpointError(f"the tokenizer gives {token[:80]!r} the id {index}, but vocab_size is {vocab_size}.")


def _check_files(folder: Path) -> None:
    if not (folder / TOKENIZER).is_file():
        raise CheckpointError(f"the folder holds no tokenizer ({TOKENIZER}). Save it with a fast tokenizer.")
    for pattern in _TEXT_FILES:
        for path in folder.glob(pattern):
            check_size(path, _MAX_BYTES)
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    name = settings.get("tokenizer_class") or "TokenizersBackend"
    if str(name).removesuffix("Fast") not in _CLASSES:
        raise CheckpointError(f"tokenizer_config.json has tokenizer_class {name!r}; supported: {', '.join(_CLASSES)}.")
    for other in ("added_tokens.json", "special_tokens_map.json"):
        if (folder / other).exists():
            _check_count(other, len(read_json(folder / other)), _MAX_ADDED_TOKENS)
    for key in ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"):
        _check_count(f"tokenizer_config.json: {key}", len(settings.get(key) or ()), _MAX_ADDED_TOKENS)
    _check_state(read_json(folder / TOKENIZER, max_bytes=_MAX_BYTES, max_items=_MAX_ITEMS))


def _check_state(state: dict[str, Any]) -> None:
    """Check the content of a tokenizer.json."""
    added = state.get("added_tokens") or []
    _check_count("added_tokens", len(added), _MAX_ADDED_TOKENS)
    _check_count("added_tokens' characters", sum(len(str(token.get("content"))) for token in added), _MAX_ADDED_BYTES)
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        steps = list(_steps(state.get(key)))
        _check_count(f"{key}: steps", len(steps), _MAX_STEPS)
        if key == "normalizer":
            _check_growth(steps)
        for step in steps if key == "post_processor" else ():
            _check_template(step)
    model = state.get("model") or {}
    if model.get("dropout"):
        raise CheckpointError(f"{TOKENIZER} has dropout {model['dropout']!r}: one text would get several scores.")
    # The library makes a table with a place for every id up to the largest.
    vocabulary = model.get("vocab")
    ids = [*(vocabulary.values() if isinstance(vocabulary, dict) else ()), *(token.get("id") for token in added)]
    _check_count("largest id", max((i for i in ids if isinstance(i, int)), default=0), MAX_VOCAB_SIZE)
    _check_count("max_input_chars_per_word", model.get("max_input_chars_per_word") or 0, _MAX_WORD)


def _steps(step: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - a value of a JSON file
    """The steps of a normaliser or the like; a sequence of sequences is flattened."""
    if not isinstance(step, dict):
        return
    if step.get("type") != "Sequence":
        yield step
    for key in _STEPS:
        for inner in step.get(key) or ():
            yield from _steps(inner)


def _check_growth(steps: list[dict[str, Any]]) -> None:
    """Refuse normalisers that make a text much longer."""
    growth = 1.0
    for step in steps:
        if step.get("type") == "Replace":
            pattern, content = step.get("pattern") or {}, str(step.get("content") or "")
            literal = pattern.get("String") if isinstance(pattern, dict) else None
            # A regular expression may match nothing, and so everywhere.
            growth *= max(1.0, len(content) / len(literal)) if literal else 1.0 + len(content)
        elif step.get("type") == "Prepend":
            growth += len(str(step.get("prepend") or "")) / 8
        elif step.get("type") == "Precompiled":
            growth *= max(1.0, _longest_replacement(str(step.get("precompiled_charsmap") or "")) / 32)
        _check_count("normalizer: characters that one character becomes", int(growth), _MAX_GROWTH)


def _longest_replacement(charsmap: str) -> int:
    """Bytes of the longest text that SentencePiece's table of normal forms puts in place of another."""
    table = base64.b64decode(charsmap)
    trie_bytes = int.from_bytes(table[:4], "little")
    return max(map(len, table[4 + trie_bytes :].split(b"\0")), default=0)


def _check_template(step: dict[str, Any]) -> None:
    tokens = step.get("special_tokens") or {}
    ids = sum(len(token.get("ids") or ()) for token in tokens.values())
    _check_count("post_processor: ids", ids, _MAX_TEMPLATE_IDS)
    for key in ("single", "pair"):
        _check_count(f"post_processor: {key}", len(step.get(key) or ()), _MAX_TEMPLATE_IDS)


def _check_count(name: str, count: int, limit: int) -> None:
    if count > limit:
        name = name if ".json" in name else f"{TOKENIZER}: {name}"
        raise CheckpointError(f"{name}: {count:,}, expected at most {limit:,}.")
