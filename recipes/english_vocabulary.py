"""Make an encoder smaller by the tokens that English text does not need."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

from safetensors.torch import load_file, save_file

from gliclass_rerank.engine.checkpoint import WEIGHTS

_EMBEDDINGS = "embeddings.word_embeddings.weight"
# What names of letters begin with: besides Latin, those of formulas, units, ordinals and of how words are spoken.
_LETTERS = ("LATIN", "GREEK", "MICRO", "MODIFIER", "SUPERSCRIPT", "FEMININE", "MASCULINE", "SCRIPT", "DOUBLE-STRUCK")


def is_needed(token: str) -> bool:
    """Whether a token occurs in English text: no letters of other scripts, no place that was left free."""
    letters = (c for c in token if c.isalpha() and not c.isascii())
    return not token.startswith("[unused") and all(unicodedata.name(c, "").startswith(_LETTERS) for c in letters)


def keep_english(source: Path, target: Path) -> Path:
    """Copy a BERT encoder without the tokens that English text does not need; it reads English as before.

    Args:
        source: Folder with config.json, tokenizer.json (WordPiece) and model.safetensors.
        target: Folder for the copy.

    Returns:
        The target.
    """
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    old_ids = tokenizer["model"]["vocab"]
    tokens = [token for token in sorted(old_ids, key=old_ids.__getitem__) if is_needed(token)]
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
