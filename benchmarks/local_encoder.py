"""A sentence encoder from a local folder, as LangChain and LlamaIndex want it: the peers of the context benchmarks.

Mean pooling over the last layer and unit length, as sentence-transformers runs all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from transformers import AutoModel, AutoTokenizer

_MAX_TOKENS = 256
_BATCH = 32


class LocalEncoder(Embeddings):
    """Embeds texts, in bf16 where the processor runs it fast; LangChain's interface.

    Args:
        folder: Holds the encoder and its tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
        self._model = AutoModel.from_pretrained(folder, dtype=dtype).eval()

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One embedding per text."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        embeddings: dict[int, list[float]] = {}
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            embeddings |= zip(batch, self._embed([texts[i] for i in batch]), strict=True)
        return [embeddings[i] for i in range(len(texts))]

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a query."""
        return self._embed([text])[0]

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> list[list[float]]:
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        states = self._model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        rows: list[list[float]] = torch.nn.functional.normalize(means, dim=1).tolist()
        return rows


class LlamaIndexEncoder(BaseEmbedding):
    """The same for LlamaIndex.

    Args:
        encoder: Embeds.
    """

    _encoder: LocalEncoder = PrivateAttr()

    def __init__(self, encoder: LocalEncoder) -> None:
        super().__init__(model_name=encoder.name)
        self._encoder = encoder

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encoder.embed_query(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._encoder.embed_query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encoder.embed_query(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.embed_documents(texts)
