"""What a call costs besides the model: tokenising 1,000 passages, filling batches, sorting results.

    python -m benchmarks.host_part [--passages 1000] [--tokens 180] [--repeats 9]

The engine scores passages with a network that computes nothing, beside the tokenizer's own ``encode_batch`` on the same
texts. Runs alternate; the figures are medians. Prints a table and writes results/host_part.json.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank.data.beir import read_passages
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import Checkpoint, load_checkpoint
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.passages import LabelledPassage, PassageScorer
from gliclass_rerank.engine.scorer import GLiClassScorer

CORPUS = Path(__file__).parent.parent / "examples" / "corpus" / "corpus.jsonl"
QUERY = "How do I make bread rise in a cold kitchen?"


class NoNetwork(nn.Module):
    """Takes what a network takes, packed or padded, and gives zeros."""

    def __init__(self, *, packs: bool) -> None:
        super().__init__()
        self.encoder_model = nn.Identity()
        self.can_pack = packs

    def forward(self, input_ids: Tensor, attention_mask: Tensor, num_labels: int) -> Tensor:
        """Zeros (sequences, labels)."""
        return torch.zeros(len(input_ids), num_labels)

    def score_packed(self, input_ids: Tensor, lengths: Sequence[int], num_labels: int) -> Tensor:
        """Zeros (sequences, labels)."""
        return torch.zeros(len(lengths), num_labels)


def make_passages(count: int, tokens: int, checkpoint: Checkpoint) -> list[str]:
    """Sentences of the written corpus in random order, each passage of about so many tokens."""
    sentences = [s for text in read_passages(CORPUS).values() for s in text.split(". ")]
    rng = random.Random(0)
    passages = []
    for _ in range(count):
        words = " ".join(rng.choices(sentences, k=tokens // 8)).split()
        while len(checkpoint.prompts.tokenizer.encode([" ".join(words)], after_control=True)[0]) > tokens:
            words = words[:-2]
        passages.append(" ".join(words))
    return passages


def make_engine(checkpoint: Checkpoint, *, packs: bool) -> PassageScorer:
    """The engine around a network that computes nothing."""
    network = NoNetwork(packs=packs)
    scorer = GLiClassScorer(network, device="cpu", dtype="float32")  # type: ignore[arg-type]
    return PassageScorer(LoadedModel(checkpoint, scorer))


def time_call(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table and write results/host_part.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=180, help="of each passage")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    checkpoint = load_checkpoint()
    passages = make_passages(options.passages, options.tokens, checkpoint)
    pairs = [LabelledPassage((QUERY,), passage) for passage in passages]
    packed, padded = (make_engine(checkpoint, packs=packs) for packs in (True, False))
    backend = checkpoint.tokenizer.backend_tokenizer
    calls: dict[str, Callable[[], object]] = {
        "tokenizer.encode_batch alone": lambda: backend.encode_batch(passages),
        "engine, packed batches": lambda: packed.score(pairs),
        "engine, padded batches": lambda: padded.score(pairs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in progress(range(options.repeats), "repeats"):
        for name, call in calls.items():
            seconds[name].append(time_call(call))
    medians = {name: median(times) for name, times in seconds.items()}
    alone = next(iter(medians.values()))
    rows = [[name, f"{value * 1000:.0f}", f"{value / alone:.2f}×"] for name, value in medians.items()]
    table = make_table(["what", "ms", "against the tokenizer alone"], rows)
    print_table(table, f"{options.passages} passages of {options.tokens} tokens")
    write_result("host_part", {"seconds": seconds, "table": table})


if __name__ == "__main__":
    main()
