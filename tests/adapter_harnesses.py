"""One interface to the adapters of all frameworks, so that one suite can test them all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """A document of any framework; ``score`` is the retriever's before reranking and the reranker's after."""

    text: str | None
    id: str
    score: float | None = None
    metadata: dict[str, Any] | None = None


QUERY = "How do plants make sugar?"

ITEMS = [
    Item("The stock market closed early on Friday.", "a", 3.5, {"source": "news"}),
    Item("Leaves turn light, water and air into sugar.", "b", 2.5, {"source": "book"}),
    Item("Sugar is sold in paper bags.", "c", 1.5, {"source": "shop"}),
]

FP32 = {"device": "cpu", "dtype": "float32"}

LONG = "The council met on Monday and spoke about the price of coal. " * 40


class LangChain:
    name, top, package, module = "langchain", "top_n", "langchain-core", "langchain_gliclass_rerank"
    framework = "langchain_core"

    def make(self, **options: Any) -> Any:
        from langchain_gliclass_rerank import GLiClassRerank

        return GLiClassRerank(**options)

    def changed_copies(self, adapter: Any, options: dict[str, Any]) -> list[Any]:
        return [adapter.model_copy(update=options), adapter.model_copy(update=options, deep=True)]

    def wrap(self, items: Sequence[Item]) -> list[Any]:
        from langchain_core.documents import Document

        return [Document(item.text or "", id=item.id, metadata=dict(item.metadata or {})) for item in items]

    def run(self, adapter: Any, query: str | list[str], wrapped: list[Any]) -> list[Any]:
        return list(adapter.compress_documents(wrapped, query))

    async def arun(self, adapter: Any, query: str, wrapped: list[Any]) -> list[Any]:
        return list(await adapter.acompress_documents(wrapped, query))

    def unwrap(self, result: Any) -> Item:
        metadata = dict(result.metadata)
        return Item(result.page_content, result.id, metadata.pop("relevance_score"), metadata)


class LlamaIndex:
    name, top, package = "llama-index", "top_n", "llama-index-core"
    module, framework = "llama_index.postprocessor.gliclass_rerank", "llama_index.core"

    def make(self, **options: Any) -> Any:
        from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

        return GLiClassRerank(**options)

    def changed_copies(self, adapter: Any, options: dict[str, Any]) -> list[Any]:
        return [adapter.model_copy(update=options), adapter.model_copy(update=options, deep=True)]

    def wrap(self, items: Sequence[Item]) -> list[Any]:
        from llama_index.core.schema import NodeWithScore, TextNode

        hidden = {"excluded_embed_metadata_keys": ["source"]}  # the model reads the text alone
        return [
            NodeWithScore(
                node=TextNode(text=item.text or "", id_=item.id, metadata=dict(item.metadata or {}), **hidden),
                score=item.score,
            )
            for item in items
        ]

    def run(self, adapter: Any, query: str | list[str], wrapped: list[Any]) -> list[Any]:
        from llama_index.core.schema import QueryBundle

        if isinstance(query, str):
            return list(adapter.postprocess_nodes(wrapped, query_str=query))
        adapter.use_embedding_strs = True
        bundle = QueryBundle("What the user asked.", custom_embedding_strs=query)
        return list(adapter.postprocess_nodes(wrapped, query_bundle=bundle))

    async def arun(self, adapter: Any, query: str, wrapped: list[Any]) -> list[Any]:
        return list(await adapter.apostprocess_nodes(wrapped, query_str=query))

    def unwrap(self, result: Any) -> Item:
        return Item(result.node.text, result.node.node_id, result.score, dict(result.node.metadata))


class Haystack:
    name, top, package = "haystack", "top_k", "haystack-ai"
    module, framework = "haystack_integrations.components.rankers.gliclass_rerank", "haystack"

    def make(self, **options: Any) -> Any:
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.rankers.gliclass_rerank import GLiClassRanker

        if isinstance(options.get("device"), str):
            options["device"] = ComponentDevice.from_str(options["device"])
        return GLiClassRanker(**options)

    def changed_copies(self, adapter: Any, options: dict[str, Any]) -> list[Any]:
        copies = [copy.copy(adapter), copy.deepcopy(adapter)]
        for copied in copies:
            for name, value in options.items():
                setattr(copied, name, value)
        return copies

    def wrap(self, items: Sequence[Item]) -> list[Any]:
        from haystack import Document

        return [
            Document(id=item.id, content=item.text, meta=dict(item.metadata or {}), score=item.score) for item in items
        ]

    def run(self, adapter: Any, query: str | list[str], wrapped: list[Any]) -> list[Any]:
        return list(adapter.run(query=query, documents=wrapped)["documents"])

    async def arun(self, adapter: Any, query: str, wrapped: list[Any]) -> list[Any]:
        return list((await adapter.run_async(query=query, documents=wrapped))["documents"])

    def unwrap(self, result: Any) -> Item:
        return Item(result.content, result.id, result.score, dict(result.meta))


HARNESSES = (LangChain(), LlamaIndex(), Haystack())
