"""GLiClass reranking for LlamaIndex."""

from gliclass_rerank.optional import require

require("llama_index.core", extra="llama-index")

from llama_index.postprocessor.gliclass_rerank.base import GLiClassRerank  # noqa: E402

__all__ = ["GLiClassRerank"]
