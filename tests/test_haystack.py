"""Features of Haystack alone: pipelines, YAML, secrets and devices, run-time options, metadata, duplicates."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline, component
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret
from haystack_integrations.components.rankers.gliclass_rerank import GLiClassRanker

from gliclass_rerank import GLiClassReranker
from tests.written_corpus import IDS, QUESTIONS, TEXTS

FP32: dict[str, Any] = {"device": ComponentDevice.from_str("cpu"), "dtype": "float32"}
QUERY = "Which drink is brewed from leaves?"
DOCUMENTS = [Document(content="Rain falls."), Document(content="Tea is brewed from leaves."), Document(content="Tea.")]


def ranker_pipeline(**options: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(InMemoryDocumentStore(), top_k=20))
    pipeline.add_component("ranker", GLiClassRanker(**options))
    pipeline.connect("retriever", "ranker")
    return pipeline


def test_yaml_written_by_one_process_runs_in_another(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(ranker_pipeline(top_k=2, score_threshold=0.01, **FP32).dumps())
    texts = ["Rain falls on leaves.", "Tea is brewed from leaves.", "A drink."]  # BM25 returns all three
    code = (
        "import sys\nfrom haystack import Document, Pipeline\n"
        "pipeline = Pipeline.loads(open(sys.argv[1]).read())\n"
        "store = pipeline.get_component('retriever').document_store\n"
        f"store.write_documents([Document(content=text) for text in {texts}])\n"
        f"question = {{'query': {QUERY!r}}}\n"
        "results = pipeline.run({'retriever': question, 'ranker': question})['ranker']['documents']\n"
        "import json; print(json.dumps([(d.content, d.score) for d in results]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    expected = GLiClassRanker(top_k=2, score_threshold=0.01, **FP32).run(
        QUERY, [Document(content=text) for text in texts]
    )["documents"]
    results = json.loads(done.stdout.splitlines()[-1])
    assert [content for content, _ in results] == [d.content for d in expected] and len(results) == 2
    assert [score for _, score in results] == pytest.approx([d.score for d in expected], abs=1e-6)


def test_saved_and_loaded_every_option_is_the_same(bundled: GLiClassReranker) -> None:
    options: dict[str, Any] = {
        "model": "some/name", "token": Secret.from_env_var("MY_TOKEN"), "top_k": 4, "score_threshold": 0.0,
        "max_length": 77, "long_passages": "windows", "long_queries": "truncate",
        "token_budget": 4096, "retrieval_weight": 0.5, "extract": "sentences", "extract_tokens": 99, "revision": "main", "fusion": "rrf", "together": True,
        "facets": {"is new": 0.5}, "meta_fields_to_embed": ["title"], "embedding_separator": " - ",
        "query_prefix": "a", "query_suffix": "b", "document_prefix": "c", "document_suffix": "d",
        "scale_score": False, **FP32,
    }  # fmt: skip
    ranker = GLiClassRanker(**options)
    data = ranker.to_dict()
    assert data["type"].startswith("haystack_integrations.components.rankers.gliclass_rerank.")
    assert GLiClassRanker.from_dict(data).to_dict() == data
    assert {name: getattr(ranker, name) for name in options} == options
    ready = GLiClassRanker(model=bundled)
    assert (ready.model, ready.device, ready.dtype) == (None, FP32["device"], "float32")
    assert GLiClassRanker.from_dict(ready.to_dict()).to_dict() == ready.to_dict()


def test_the_best_window_s_place_is_that_in_the_content() -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    document = Document(content=f"{filler}{DOCUMENTS[1].content} {filler}", meta={"title": "Minutes"})
    options = {"meta_fields_to_embed": ["title"], "document_prefix": "passage: ", "document_suffix": " (end)"}
    [result] = GLiClassRanker(long_passages="windows", **options, **FP32).run(QUERY, [document])["documents"]
    start, end = result.meta["relevance_span"]
    content = document.content or ""
    assert "Tea is brewed from leaves." in content[start:end] and 0 < start < end < start + 1000


def test_several_queries_come_through_a_pipeline() -> None:
    @component
    class Rewriter:
        @component.output_types(queries=list[str])
        def run(self, query: str) -> dict[str, list[str]]:
            return {"queries": [query, query.lower()]}

    pipeline = Pipeline()
    pipeline.add_component("rewriter", Rewriter())
    pipeline.add_component("ranker", GLiClassRanker(fusion="mean", **FP32))
    pipeline.connect("rewriter.queries", "ranker.query")
    results = pipeline.run({"rewriter": {"query": QUERY}, "ranker": {"documents": DOCUMENTS}})["ranker"]["documents"]
    assert results == GLiClassRanker(fusion="mean", **FP32).run([QUERY, QUERY.lower()], DOCUMENTS)["documents"]


def test_a_token_itself_is_never_saved() -> None:
    with pytest.raises(ValueError, match="serialize"):
        GLiClassRanker(token=Secret.from_token("secret")).to_dict()


def test_scores_that_are_not_scaled_are_the_model_s_logits(bundled: GLiClassReranker) -> None:
    documents = [*DOCUMENTS, Document(content="")]
    results = GLiClassRanker(scale_score=False, **FP32).run(QUERY, documents)["documents"]
    hits = bundled.rank(QUERY, [document.content or "" for document in documents])
    assert [document.score for document in results] == [hit.logit for hit in hits]
    assert results[-1].content == "" and hits[-1].score == 0.0


def test_arguments_of_run_replace_the_ranker_s_own_options() -> None:
    ranker = GLiClassRanker(top_k=1, score_threshold=0.9999, **FP32)
    assert ranker.run(QUERY, DOCUMENTS)["documents"] == []
    results = ranker.run(QUERY, DOCUMENTS, top_k=3, score_threshold=0.0)["documents"]
    assert len(results) == 3
    logits = ranker.run(QUERY, DOCUMENTS, top_k=3, score_threshold=0.0, scale_score=False)["documents"]
    for scaled, raw in zip(results, logits, strict=True):
        assert scaled.id == raw.id and 1 / (1 + math.exp(-raw.score)) == pytest.approx(scaled.score)
    unscaled = GLiClassRanker(scale_score=False, top_k=3, **FP32)
    assert [d.score for d in unscaled.run(QUERY, DOCUMENTS, scale_score=True)["documents"]] == [
        d.score for d in results
    ]


@pytest.mark.parametrize("documents", [DOCUMENTS, []])
def test_wrong_run_time_options_are_refused(documents: list[Document]) -> None:
    ranker = GLiClassRanker(**FP32)
    for options in ({"top_k": 0}, {"top_k": -1}, {"score_threshold": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            ranker.run(QUERY, documents, **options)
    with pytest.raises(ValueError, match="top_k is None"):
        GLiClassRanker(top_k=None)  # type: ignore[arg-type]


def test_metadata_prefixes_and_suffixes_reach_the_model(bundled: GLiClassReranker) -> None:
    ranker = GLiClassRanker(
        meta_fields_to_embed=["title", "none", "absent", "zero", "no"], embedding_separator="|",
        query_prefix="question: ", query_suffix="!", document_prefix="<", document_suffix=">", **FP32,
    )  # fmt: skip
    document = Document(content="brewed", meta={"title": "Tea", "none": None, "zero": 0, "no": False})
    [result] = ranker.run(QUERY, [document])["documents"]
    assert [result.score] == bundled.score(f"question: {QUERY}!", ["<Tea|0|False|brewed>"])


def test_the_best_retrieved_of_documents_with_the_same_id_is_ranked() -> None:
    twins = [Document(id="x", content=text, score=score) for text, score in (("a", None), ("b", 0.2), ("c", -0.1))]
    [result] = GLiClassRanker(**FP32).run(QUERY, twins)["documents"]
    assert result.content == "b"


async def test_a_pipeline_runs_and_runs_async(bundled: GLiClassReranker) -> None:
    pipeline = ranker_pipeline(top_k=2, **FP32)
    store = pipeline.get_component("retriever").document_store  # type: ignore[attr-defined]
    store.write_documents([Document(id=name, content=text) for name, text in zip(IDS, TEXTS, strict=True)])
    inputs = {"retriever": {"query": QUESTIONS[0]}, "ranker": {"query": QUESTIONS[0]}}
    results = pipeline.run(inputs)["ranker"]["documents"]
    assert (await pipeline.run_async(inputs))["ranker"]["documents"] == results
    assert [d.score for d in results] == pytest.approx(
        bundled.score(QUESTIONS[0], [d.content for d in results]), abs=1e-5
    )


async def test_warming_up_loads_the_model_once(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint_folder(), tmp_path / "new")
    ranker = GLiClassRanker(folder, **FP32)
    await ranker.warm_up_async()
    shutil.rmtree(folder)
    ranker.warm_up()
    assert len(ranker.run(QUERY, DOCUMENTS)["documents"]) == 3


def test_a_token_is_resolved_only_if_the_model_may_need_it(
    bundled: GLiClassReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    strict = Secret.from_env_var("NO_SUCH_TOKEN")
    for ranker in (GLiClassRanker(token=strict, **FP32), GLiClassRanker(bundled, token=strict)):
        assert len(ranker.run(QUERY, DOCUMENTS)["documents"]) == 3
    with pytest.raises(ValueError, match="NO_SUCH_TOKEN"):
        GLiClassRanker("some/name", token=strict, **FP32).run(QUERY, DOCUMENTS)


@pytest.mark.parametrize("option", [{"device": "cpu"}, {"token": "hf_x"}, {"meta_fields_to_embed": "title"}])
def test_wrong_types_are_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        GLiClassRanker(**option)


def test_several_devices_are_refused() -> None:
    from haystack.utils.device import Device, DeviceMap

    several = ComponentDevice.from_multiple(DeviceMap({"a": Device.cpu(), "b": Device.cpu()}))
    with pytest.raises(ValueError, match="device"):
        GLiClassRanker(device=several)
