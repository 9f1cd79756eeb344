"""GLiClass reranking for LangChain."""

from gliclass_rerank.optional import require

require("langchain_core", extra="langchain")

from langchain_gliclass_rerank.compressor import GLiClassRerank  # noqa: E402
from langchain_gliclass_rerank.cross_encoder import GLiClassCrossEncoder  # noqa: E402

__all__ = ["GLiClassCrossEncoder", "GLiClassRerank"]
