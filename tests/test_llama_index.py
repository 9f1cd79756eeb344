"""Features of LlamaIndex alone: events, metadata modes, the retrieval score, serialisation, query engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import SimpleKeywordTableIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from gliclass_rerank import GLiClassReranker
from tests.written_corpus import IDS, QUESTIONS, TEXTS

FP32: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
TEA = "Which drink is brewed from leaves?"


def nodes(*texts: str, **metadata: Any) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, metadata=dict(metadata)), score=0.25) for text in texts]


@pytest.fixture
def events() -> Iterator[list[Any]]:
    seen: list[Any] = []

    class Recorder(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            if isinstance(event, (ReRankStartEvent, ReRankEndEvent)):
                seen.append(event)

    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(recorder := Recorder())
    yield seen
    dispatcher.event_handlers.remove(recorder)


def test_each_start_event_has_its_end(events: list[Any]) -> None:
    given = nodes("Rain falls.", "Tea is brewed from leaves.")
    [best] = GLiClassRerank(top_n=1, **FP32).postprocess_nodes(given, query_str=TEA)
    start, end = events
    assert isinstance(start, ReRankStartEvent) and isinstance(end, ReRankEndEvent)
    assert (start.top_n, start.nodes, end.nodes) == (1, given, [best])
    GLiClassRerank(top_n=None, **FP32).postprocess_nodes(given, query_str=TEA)
    assert events[2].top_n == 2


def test_the_best_window_s_place_is_that_in_the_node_s_text_and_stays_hidden() -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    text = f"\n {filler}Tea is brewed from leaves. {filler}\n"
    [given] = nodes(text, title="Minutes " * 120)
    postprocessor = GLiClassRerank(long_passages="windows", facets=["is about drinks"], **FP32)
    [result] = postprocessor.postprocess_nodes([given], query_str=TEA)
    start, end = result.node.metadata["relevance_span"]
    assert "Tea is brewed" in text[start:end] and 0 < start < end < len(text)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert result.node.get_content(mode) == given.node.get_content(mode)
    assert list(given.node.metadata) == ["title"]


@pytest.mark.parametrize("mode", list(MetadataMode))
def test_the_model_does_not_read_what_an_earlier_reranking_wrote(mode: MetadataMode) -> None:
    postprocessor = GLiClassRerank(facets=["is about drinks"], metadata_mode=mode, **FP32)
    once = postprocessor.postprocess_nodes(nodes("Tea is brewed from leaves.", "Rain falls."), query_str=TEA)
    assert postprocessor.postprocess_nodes(once, query_str=TEA) == once


def test_facets_can_be_changed_later() -> None:
    postprocessor = GLiClassRerank(**FP32)
    postprocessor.facets = {"is about drinks": 1.0}
    assert postprocessor.postprocess_nodes(nodes("Rain falls."), query_str=TEA) == []


def test_the_bundle_s_embedding_strings_are_queries_if_the_option_says_so() -> None:
    given = nodes("Rain falls.", "Tea is brewed from leaves.")
    bundle = QueryBundle("rain", custom_embedding_strs=[TEA])
    for use_strings, query in ((True, TEA), (False, "rain")):
        results = GLiClassRerank(use_embedding_strs=use_strings, **FP32).postprocess_nodes(given, query_bundle=bundle)
        assert results == GLiClassRerank(**FP32).postprocess_nodes(given, query_str=query)
    none = QueryBundle(TEA)
    results = GLiClassRerank(use_embedding_strs=True, **FP32).postprocess_nodes(given, query_bundle=none)
    assert results == GLiClassRerank(**FP32).postprocess_nodes(given, query_str=TEA)


def test_a_failure_ends_its_event_and_a_refusal_starts_none(events: list[Any]) -> None:
    adapter = GLiClassRerank(model="/no/such/folder")
    with pytest.raises(ValueError, match="there is no folder"):
        adapter.postprocess_nodes(nodes("a"), query_str=TEA)
    assert [type(event) for event in events] == [ReRankStartEvent, ReRankEndEvent]
    with pytest.raises(ValueError, match="query is"):
        adapter.postprocess_nodes(nodes("a"), query_str=" ")
    with pytest.raises(ValueError, match="no query"):
        adapter.postprocess_nodes(nodes("a"))
    assert len(events) == 2


def test_the_metadata_mode_says_what_the_model_reads(bundled: GLiClassReranker) -> None:
    given = nodes("It is brewed.", subject="tea leaves")
    for mode in (MetadataMode.EMBED, MetadataMode.NONE):
        [result] = GLiClassRerank(metadata_mode=mode, **FP32).postprocess_nodes(given, query_str=TEA)
        expected = bundled.score(TEA, [given[0].node.get_content(metadata_mode=mode)])
        assert [result.score] == pytest.approx(expected, abs=1e-6)


def test_the_retrieval_score_can_stay_in_metadata_that_no_model_reads() -> None:
    adapter = GLiClassRerank(keep_retrieval_score=True, **FP32)
    given = nodes("Tea is brewed from leaves.", page=3)
    [once] = adapter.postprocess_nodes(given, query_str=TEA)
    assert once.node.metadata == {"page": 3, "retrieval_score": 0.25} and given[0].node.metadata == {"page": 3}
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert once.node.get_content(metadata_mode=mode) == given[0].node.get_content(metadata_mode=mode)
    [twice] = adapter.postprocess_nodes([once], query_str=TEA)
    assert twice.score == once.score
    [without] = GLiClassRerank(**FP32).postprocess_nodes(given, query_str=TEA)
    assert without.score == once.score and without.node is given[0].node


def test_saved_and_loaded_it_is_equal(bundled: GLiClassReranker) -> None:
    options: dict[str, Any] = {"max_length": 99, "long_queries": "truncate", "token_budget": 4096, **FP32}
    adapter = GLiClassRerank(top_n=None, score_threshold=0.2, metadata_mode=MetadataMode.LLM, **options)
    assert options.items() <= adapter.to_dict().items()
    for again in (GLiClassRerank.from_dict(adapter.to_dict()), GLiClassRerank.from_json(adapter.to_json())):
        assert again.to_dict() == adapter.to_dict()
    ready = GLiClassRerank.from_dict(GLiClassRerank(model=bundled).to_dict())
    assert (ready.model, ready.device, ready.dtype) == (None, "cpu", "float32")


def test_the_model_s_scores_can_be_dumped() -> None:
    [result] = GLiClassRerank(**FP32).postprocess_nodes(nodes("Tea."), query_str=TEA)
    assert json.loads(result.model_dump_json())["score"] == result.score


async def _ask(engine: RetrieverQueryEngine, question: str) -> list[str]:
    return [node.node_id for node in (await engine.aquery(question)).source_nodes]


async def test_a_query_engine_answers_from_the_best_nodes() -> None:
    table = [TextNode(text=text, id_=name) for name, text in zip(IDS, TEXTS, strict=True)]
    retriever = SimpleKeywordTableIndex(table, llm=MockLLM(max_tokens=1)).as_retriever(
        retriever_mode="simple", num_chunks_per_query=20
    )
    adapter = GLiClassRerank(top_n=2, **FP32)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(max_tokens=1), node_postprocessors=[adapter])
    question = QUESTIONS[0]
    expected = [n.node_id for n in adapter.postprocess_nodes(retriever.retrieve(question), query_str=question)]
    assert [n.node_id for n in engine.query(question).source_nodes] == await _ask(engine, question) == expected
    assert len(expected) == 2
