"""Make an encoder smaller by the tokens that English text does not need."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from gliclass_rerank.engine.checkpoint import WEIGHTS

_EMBEDDINGS = "embeddings.word_embeddings.weight"
# What names of letters begin with: besides Latin, those of formulas, units, ordinals and of how words are spoken.
_LETTERS = ("LATIN", "GREEK", "MICRO", "MODIFIER", "SUPERSCRIPT", "FEMININE", "MASCULINE", "SCRIPT", "DOUBLE-STRUCK")


def is_needed(token: str) -> bool:
    """Whether a token occurs in English text: no letters of other scripts, no place that was left free."""
    letters = (c for c in token if c.isalpha() and not c.isascii())
    return not token.startswith("[unused") and all(unicodedata.name(c, "").startswith(_LETTERS) for c in letters)


def find_rare(source: Path, texts: Iterable[str], max_count: int) -> frozenset[str]:
    """Find the tokens of several characters that texts hardly use; without them, their words become shorter tokens.

    Args:
        source: Folder with tokenizer.json (WordPiece).
        texts: Many texts.
        max_count: How often a rare token occurs at most.
    """
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    counts = Counter(chain.from_iterable(encoding.ids for encoding in encodings))
    return frozenset(
        token
        for token, index in tokenizer.get_vocab().items()
        if counts[index] <= max_count and len(token.removeprefix("##")) > 1 and token not in special
    )


def keep_english(source: Path, target: Path, *, rare: frozenset[str] = frozenset()) -> Path:
    """Copy a BERT encoder without the tokens that English text does not need; it reads English as before.

    Args:
        source: Folder with config.json, tokenizer.json (WordPiece) and model.safetensors.
        target: Folder for the copy.
        rare: More tokens to leave out.

    Returns:
        The target.
    """
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    old_ids = tokenizer["model"]["vocab"]
    tokens = [token for token in sorted(old_ids, key=old_ids.__getitem__) if is_needed(token) and token not in rare]
    new_ids = {token: i for i, token in enumerate(tokens)}
    tokenizer["model"]["vocab"] = new_ids
    for added in tokenizer["added_tokens"]:
        added["id"] = new_ids[added["content"]]
    for special in tokenizer["post_processor"]["special_tokens"].values():
        special["ids"] = [new_ids[token] for token in special["tokens"]]
    weights = load_file(source / WEIGHTS)
    weights[_EMBEDDINGS] = weights[_EMBEDDINGS][[old_ids[token] for token in tokens]]
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = len(tokens)
    for name, content in (("tokenizer.json", tokenizer), ("config.json", config)):
        (target / name).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(source / "tokenizer_config.json", target / "tokenizer_config.json")
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    return target
