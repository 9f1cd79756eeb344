"""Ask questions about a folder of Markdown files: search, rerank, keep the best sentences, show their sources.

    python -m examples.ask_folder FOLDER ["your question" ...]

Without a question it asks you for one again and again, until an empty line. Nothing is downloaded. Any endpoint that
speaks OpenAI's protocol may write an answer from the context, or embed the passages for the search:

    export OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=any
    python -m examples.ask_folder FOLDER --chat-model NAME --embedding-model NAME
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from gliclass_rerank import CompressedPassage, GLiClassReranker, compress_context, highlight
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.data.passage_files import PassageFiles, SourcedPassage

PASSAGE_WORDS = 120  # about
CANDIDATES = 50
TOKEN_BUDGET = 500
REMEMBERED_MESSAGES = 6  # of the conversation, questions and answers together
INSTRUCTIONS = (
    "Answer the question from the numbered passages alone, and name the numbers of those you used, like [1]. "
    "If they do not hold the answer, say so."
)
_HEADING = re.compile(r"#{1,6} ")


class Index(Protocol):
    """A first stage: positions of the passages that a question may be about, best first."""

    def search(self, query: str, *, top_k: int) -> list[int]:
        """Find passages."""


class EmbeddingIndex:
    """Passages by the cosine of their embeddings, from an endpoint that speaks OpenAI's protocol.

    Args:
        passages: The passages.
        model: The embedding model's name.
    """

    def __init__(self, passages: Sequence[str], model: str) -> None:
        self._model = model
        batches = [passages[i : i + 64] for i in range(0, len(passages), 64)]
        self._rows = np.concatenate([self._embed(batch) for batch in batches])

    def search(self, query: str, *, top_k: int) -> list[int]:
        """Find the passages that are nearest to a question."""
        cosines = self._rows @ self._embed([query])[0]
        return [int(i) for i in np.argsort(-cosines, kind="stable")[:top_k]]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        answer = call_endpoint("embeddings", {"model": self._model, "input": list(texts)})
        items = sorted(answer["data"], key=lambda item: item["index"])
        rows: NDArray[np.float64] = np.array([item["embedding"] for item in items], dtype=np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def call_endpoint(route: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Post to the endpoint that the environment names."""
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    request = urllib.request.Request(f"{base_url}/{route}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def read_folder(folder: Path) -> list[SourcedPassage]:
    """The paragraphs of a folder's Markdown files; short ones below the same heading are joined."""
    paths = [path for path in sorted(folder.rglob("*.md")) if "/." not in f"/{path.relative_to(folder).as_posix()}"]
    if not paths:
        raise typer.BadParameter(f"{folder} has no file that ends in .md. Name another folder.")
    passages: list[SourcedPassage] = []
    for paragraph in PassageFiles([str(path) for path in paths]):
        if passages and _belongs_to(passages[-1], paragraph):
            last = passages.pop()
            passages.append(SourcedPassage(f"{last.text}\n\n{paragraph.text}", last.source))
        else:
            passages.append(paragraph)
    return passages


def _belongs_to(passage: SourcedPassage, paragraph: SourcedPassage) -> bool:
    files = {source.rsplit(":", 1)[0] for source in (passage.source, paragraph.source)}
    words = len(passage.text.split()) + len(paragraph.text.split())
    return len(files) == 1 and words <= PASSAGE_WORDS and not _HEADING.match(paragraph.text)


def choose_context(reranker: GLiClassReranker, question: str, candidates: Sequence[str]) -> list[CompressedPassage]:
    """The sentences that answer, by passage, best passage first, as many as fit into ``TOKEN_BUDGET``."""
    threshold = reranker.recommended_threshold
    return compress_context(question, candidates, token_budget=TOKEN_BUDGET, reranker=reranker, threshold=threshold)


def mark_best_sentence(reranker: GLiClassReranker, question: str, text: str) -> Text:
    """A text with the sentence that answers best between » and «."""
    [best] = highlight(question, text, reranker=reranker, top_k=1)
    return Text.assemble(text[: best.start], (f"»{best.text}«", "bold black on yellow"), text[best.end :])


def read_questions(console: Console) -> Iterator[str]:
    """Questions that are typed in, until an empty line or the end of the input."""
    while True:
        try:
            question = console.input("\n[bold]Question:[/bold] ").strip()
        except EOFError:
            return
        if not question:
            return
        yield question


def main(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of Markdown files.")],
    questions: Annotated[list[str] | None, typer.Argument(help="Default: typed in.")] = None,
    chat_model: Annotated[str | None, typer.Option(help="Writes answers. Default: none does.")] = None,
    embedding_model: Annotated[str | None, typer.Option(help="Finds candidates. Default: BM25 does.")] = None,
) -> None:
    """Answer questions from a folder of Markdown files."""
    console = Console(highlight=False)
    passages = read_folder(folder)
    texts = [passage.text for passage in passages]
    index: Index = EmbeddingIndex(texts, embedding_model) if embedding_model else KeywordIndex(texts)
    reranker = GLiClassReranker.from_pretrained()
    console.print(f"{len(passages)} passages in {folder}")
    messages: list[dict[str, str]] = []
    for question in questions or read_questions(console):
        console.print(f"\n{question}", style="bold", markup=False)
        candidates = [passages[i] for i in index.search(question, top_k=CANDIDATES)]
        context = choose_context(reranker, question, [candidate.text for candidate in candidates])
        if not context:
            console.print("Nothing in the folder answers that.")
            continue
        for number, hit in enumerate(context, 1):
            source = f"\n[{number}] {candidates[hit.index].source}  score {hit.score:.3f}"
            console.print(source, markup=False, soft_wrap=True)
            console.print(mark_best_sentence(reranker, question, hit.text))
        if chat_model:
            numbered = "\n\n".join(f"[{number}] {hit.text}" for number, hit in enumerate(context, 1))
            messages.append({"role": "user", "content": f"{numbered}\n\nQuestion: {question}"})
            recent = [{"role": "system", "content": INSTRUCTIONS}, *messages[-REMEMBERED_MESSAGES:]]
            answer = call_endpoint("chat/completions", {"model": chat_model, "messages": recent})
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
            console.print(f"\n{messages[-1]['content']}", style="green", markup=False)


if __name__ == "__main__":
    typer.run(main)
