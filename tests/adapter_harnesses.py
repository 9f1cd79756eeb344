"""One way to speak to the adapters of all frameworks, so that one suite can hold them to the same promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """A retrieved passage as a test sees it; ``score`` is the retriever's on the way in, ours on the way out."""

    text: str | None
    id: str
    score: float | None = None
    metadata: dict[str, Any] | None = None


class LangChain:
    name, top, extra, module = "langchain", "top_n", "langchain", "langchain_gliclass_rerank"
    framework = "langchain_core"

    def make(self, **options: Any) -> Any:
        from langchain_gliclass_rerank import GLiClassRerank

        return GLiClassRerank(**options)

    def wrap(self, items: Sequence[Item]) -> list[Any]:
        from langchain_core.documents import Document

        return [Document(item.text or "", id=item.id, metadata=dict(item.metadata or {})) for item in items]

    def run(self, adapter: Any, query: str | list[str], wrapped: list[Any]) -> list[Any]:
        return list(adapter.compress_documents(wrapped, query))

    async def arun(self, adapter: Any, query: str, wrapped: list[Any]) -> list[Any]:
        return list(await adapter.acompress_documents(wrapped, query))

    def unwrap(self, found: Any) -> Item:
        metadata = dict(found.metadata)
        return Item(found.page_content, found.id, metadata.pop("relevance_score"), metadata)


class LlamaIndex:
    name, top, extra, module = "llama-index", "top_n", "llama-index", "llama_index.postprocessor.gliclass_rerank"
    framework = "llama_index.core"

    def make(self, **options: Any) -> Any:
        from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

        return GLiClassRerank(**options)

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

    def unwrap(self, found: Any) -> Item:
        return Item(found.node.text, found.node.node_id, found.score, dict(found.node.metadata))


class Haystack:
    name, top, extra = "haystack", "top_k", "haystack"
    module, framework = "haystack_integrations.components.rankers.gliclass_rerank", "haystack"

    def make(self, **options: Any) -> Any:
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.rankers.gliclass_rerank import GLiClassRanker

        if isinstance(options.get("device"), str):
            options["device"] = ComponentDevice.from_str(options["device"])
        return GLiClassRanker(**options)

    def wrap(self, items: Sequence[Item]) -> list[Any]:
        from haystack import Document

        return [
            Document(id=item.id, content=item.text, meta=dict(item.metadata or {}), score=item.score) for item in items
        ]

    def run(self, adapter: Any, query: str | list[str], wrapped: list[Any]) -> list[Any]:
        return list(adapter.run(query=query, documents=wrapped)["documents"])

    async def arun(self, adapter: Any, query: str, wrapped: list[Any]) -> list[Any]:
        return list((await adapter.run_async(query=query, documents=wrapped))["documents"])

    def unwrap(self, found: Any) -> Item:
        return Item(found.content, found.id, found.score, dict(found.meta))


HARNESSES = (LangChain(), LlamaIndex(), Haystack())
