"""Import, rank, save and load: whether the installed package works on this system at all.

python -m tests.smoke
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import gliclass_rerank
from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint

QUERY = "How do plants make sugar?"
PASSAGES = ["Rain falls.", "Leaves turn light, water and air into sugar."]


def main() -> None:
    reranker = gliclass_rerank.GLiClassReranker.from_pretrained(device="cpu", dtype="float32")
    scores = reranker.score(QUERY, PASSAGES)
    assert reranker.rank(QUERY, PASSAGES)[0].index == 1, scores
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps mapped files open
        checkpoint = load_checkpoint()
        save_checkpoint(checkpoint.network, checkpoint.tokenizer, Path(folder, "saved"))
        saved = gliclass_rerank.GLiClassReranker.from_pretrained(Path(folder, "saved"), device="cpu", dtype="float32")
        assert max(abs(a - b) for a, b in zip(saved.score(QUERY, PASSAGES), scores, strict=True)) < 1e-5
    print(f"gliclass-rerank {gliclass_rerank.__version__} ranks, saves and loads")


if __name__ == "__main__":
    main()
