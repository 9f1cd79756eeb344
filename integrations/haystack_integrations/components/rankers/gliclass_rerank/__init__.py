"""GLiClass reranking for Haystack."""

from gliclass_rerank.optional import require

require("haystack", extra="haystack")

from haystack_integrations.components.rankers.gliclass_rerank.ranker import GLiClassRanker  # noqa: E402

__all__ = ["GLiClassRanker"]
