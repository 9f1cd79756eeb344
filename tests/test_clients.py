"""Clients of other rerankers, unmodified, pointed at the server: the order and the scores of ``rank``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from tests.real_server import Serving

QUERY = "How do plants make sugar?"
PASSAGES = ["The market closed early.", "Leaves turn light, water and air into sugar.", "Sugar comes in bags."]
KEY = "what the server wants"
Ranked = list[tuple[int, float]]  # index and score, best first


@pytest.fixture(scope="module")
def url(bundled: GLiClassReranker) -> Iterator[str]:
    with Serving(make_app(bundled, api_key=KEY)) as client:
        yield str(client.base_url).rstrip("/")


def cohere_v1(url: str) -> Ranked:
    import cohere

    client = cohere.Client(api_key=KEY, base_url=url)
    documents = [{"text": passage} for passage in PASSAGES]
    response = client.rerank(model="any", query=QUERY, documents=documents, return_documents=True).results
    assert [result.document.text for result in response] == [PASSAGES[result.index] for result in response]
    return [(result.index, result.relevance_score) for result in response]


def cohere_v2(url: str) -> Ranked:
    import cohere

    response = cohere.ClientV2(api_key=KEY, base_url=url).rerank(model="any", query=QUERY, documents=PASSAGES, top_n=2)
    return [(result.index, result.relevance_score) for result in response.results]


def langchain_cohere(url: str) -> Ranked:
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    compressor = CohereRerank(cohere_api_key=KEY, base_url=url, model="any", top_n=3)
    ranked = compressor.compress_documents([Document(passage) for passage in PASSAGES], QUERY)
    return [(PASSAGES.index(document.page_content), document.metadata["relevance_score"]) for document in ranked]


def llama_index_cohere(url: str) -> Ranked:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return rank_nodes(CohereRerank(api_key=KEY, base_url=url, model="any", top_n=3))


def llama_index_jina(url: str) -> Ranked:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return rank_nodes(JinaRerank(api_key=KEY, base_url=f"{url}/v1", model="any", top_n=3))


def llama_index_tei(url: str) -> Ranked:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return rank_nodes(TextEmbeddingInference(base_url=url, top_n=3, auth_token=f"Bearer {KEY}"))


def rank_nodes(postprocessor: object) -> Ranked:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=passage)) for passage in PASSAGES]
    ranked = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    return [(PASSAGES.index(hit.node.text), hit.score) for hit in ranked]


def haystack_cohere(url: str) -> Ranked:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    return rank_documents(CohereRanker(model="any", api_key=Secret.from_token(KEY), api_base_url=url))


def haystack_jina(url: str) -> Ranked:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    return rank_documents(JinaRanker(model="any", api_key=Secret.from_token(KEY), base_url=f"{url}/v1/rerank"))


def haystack_tei(url: str) -> Ranked:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return rank_documents(HuggingFaceTEIRanker(url=url, token=Secret.from_token(KEY)))


def rank_documents(ranker: object) -> Ranked:
    from haystack import Document

    ranked = ranker.run(query=QUERY, documents=[Document(content=passage) for passage in PASSAGES])["documents"]
    return [(PASSAGES.index(document.content), document.score) for document in ranked]


def litellm_cohere(url: str) -> Ranked:
    return rank_by_litellm("cohere/any", url)


def litellm_jina(url: str) -> Ranked:
    return rank_by_litellm("jina_ai/any", f"{url}/v1/rerank")


def rank_by_litellm(model: str, url: str) -> Ranked:
    import litellm

    ranked = litellm.rerank(model=model, api_base=url, api_key=KEY, query=QUERY, documents=PASSAGES, top_n=3).results
    return [(result["index"], result["relevance_score"]) for result in ranked]


@pytest.mark.parametrize(
    "ask",
    [
        cohere_v1,
        cohere_v2,
        langchain_cohere,
        llama_index_cohere,
        llama_index_jina,
        llama_index_tei,
        haystack_cohere,
        haystack_jina,
        haystack_tei,
        litellm_cohere,
        litellm_jina,
    ],
)
def test_order_and_scores_are_those_of_rank(
    ask: Callable[[str], Ranked], url: str, bundled: GLiClassReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its price list; otherwise it asks the network
    ranking = ask(url)
    expected = bundled.rank(QUERY, PASSAGES, top_k=len(ranking))
    assert len(ranking) >= 2
    assert [index for index, _ in ranking] == [hit.index for hit in expected]
    assert [score for _, score in ranking] == pytest.approx([hit.score for hit in expected], abs=1e-5)
