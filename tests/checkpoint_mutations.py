"""Mutate valid checkpoints, and load each mutant in a process with little memory and little time.

A mutant is fine if it is a CheckpointError, or if it scores. A mutation of the container (names, order, unread keys,
a damaged file) must leave the scores as they were. A mutation of a value (a setting, a token, a weight) may change
them: nobody can tell such a mutant from a checkpoint that was made so.

    python -m tests.checkpoint_mutations FOLDER FIRST LAST

prints one JSON line for each of the mutants FIRST to LAST - 1; ``run`` starts such processes.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.random_checkpoints import write_checkpoint
from tests.weight_mutations import add_a_tensor, change_header, change_weights, retype_a_tensor, sort_tensors

MEMORY_BYTES = 2 << 30
SECONDS = 10
QUERY = "does bread rise?"
PASSAGES = ("Bread rises because yeast makes gas.", "  two    spaces and a naïve café", "the sun " * 40)
TWINS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bert", {"scorer_type": "mlp", "pooling_strategy": "avg", "prompt_first": True}),
    ("modernbert", {"scorer_type": "weighted-dot", "pooling_strategy": "first", "prompt_first": True}),
    ("deberta-v2", {"scorer_type": "simple", "pooling_strategy": "first", "normalize_features": True}),
    ("roberta", {"scorer_type": "cross-attn", "pooling_strategy": "pass", "layer_wise": True, "encoder_layer_id": 1}),
    ("mpnet", {"scorer_type": "hopfield", "class_token_pooling": "average", "use_segment_embeddings": True}),
)
_HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, -2, 0, 1, 2, 3, 7, 64, 1000, 2**31, 2**63, 50_000_000, 10**30, -(10**9), 0.5, -0.1, 1e-300,
    1e308, math.nan, math.inf, "", "x", "gelu", "relu", "float16", "../x", "/dev/zero", "a" * 100_000, [], [None], [0] * 5000,
    [[]], {}, {"": {}}, {"type": "Sequence"}, [{"type": "Sequence"}],
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        number: The mutant's number, which decides the mutation.
        mutation: Its name.
        result: "refused", "same scores", "other scores", or what went wrong.
        fine: Whether the result is one that the mutation may have.
        detail: The error's first line.
    """

    number: int
    mutation: str
    result: str
    fine: bool
    detail: str = ""


def write_twins(folder: Path) -> None:
    """Write the valid checkpoints, and their scores."""
    for i, (encoder, options) in enumerate(TWINS):
        write_checkpoint(folder / str(i), encoder, **options)


def run(folder: Path, first: int, last: int) -> Iterator[Outcome]:
    """Load mutants FIRST to LAST - 1, each with ``MEMORY_BYTES`` and ``SECONDS``.

    A mutant that ends its process does not end the others: a new process goes on after it.
    """
    while first < last:
        command = [
            sys.executable,
            "-m",
            "tests.checkpoint_mutations",
            str(folder),
            str(first),
            str(min(first + 500, last)),
        ]
        started = first
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield Outcome(**json.loads(line))
                first += 1
        if process.returncode:
            if first == started and process.returncode > 0:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} before its first mutant.")
            reason = "took too long" if process.returncode == -signal.SIGALRM else f"ended with {process.returncode}"
            yield Outcome(first, name_mutation(first), reason, fine=False)
            first += 1


def name_mutation(number: int) -> str:
    """The name of a mutant's mutation."""
    return list(_MUTATIONS)[number % len(_MUTATIONS)]


def mutate(folder: Path, number: int) -> bool:
    """Mutate a checkpoint in place; whether its scores may change."""
    change, may_change = _MUTATIONS[name_mutation(number)]
    change(folder, random.Random(number))
    return may_change


def _edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")


def _places(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """A random container inside a JSON value, and a key of it; shallow ones are as likely as deep ones."""
    container, key = None, None
    while isinstance(value, (dict, list)) and value and (container is None or rng.random() < 0.7):
        container = value
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = container[key]
    return container, key


def _replace_value(name: str) -> Callable[[Path, random.Random], None]:
    def change(folder: Path, rng: random.Random) -> None:
        def edit(content: dict[str, Any]) -> None:
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                container, key = _places(content, rng)
                container[key] = copy.deepcopy(rng.choice(_HOSTILE))  # a later mutation may change it in place

        _edit_json(folder / name, edit)

    return change


def _delete_value(name: str) -> Callable[[Path, random.Random], None]:
    def change(folder: Path, rng: random.Random) -> None:
        def edit(content: dict[str, Any]) -> None:
            container, key = _places(content, rng)
            del container[key]

        _edit_json(folder / name, edit)

    return change


def _damage(name: str) -> Callable[[Path, random.Random], None]:
    """Change, cut out or repeat bytes."""

    def change(folder: Path, rng: random.Random) -> None:
        content = bytearray((folder / name).read_bytes())
        for _ in range(rng.choice((1, 1, 4, 40))):
            i = rng.randrange(len(content))
            action = rng.randrange(4)
            if action == 0:
                content[i] ^= 1 << rng.randrange(8)
            elif action == 1:
                content[i : i + rng.choice((1, 8, 1000))] = b""
            elif action == 2:
                content[i:i] = content[i : i + rng.choice((1, 8, 1000))]
            else:
                content[i:i] = rng.choice((b"\0", b"\xff", b"[" * 100_000, b"9" * 400, b'"', b"}"))
            if not content:
                break
        (folder / name).write_bytes(bytes(content))

    return change


def _add_unread_key(folder: Path, rng: random.Random) -> None:
    keys = ("num_labels", "id2label", "chunk_size_feed_forward", "pruned_heads", "torch_dtype", "dtype", "auto_map",
            "quantization_config", "output_attentions", "attn_implementation", "problem_type", "per_layer_config")  # fmt: skip
    value = rng.choice([value for value in _HOSTILE if not isinstance(value, float)])

    def edit(content: dict[str, Any]) -> None:
        content["encoder_config"][rng.choice(keys)] = value

    _edit_json(folder / "config.json", edit)


def _set_size(folder: Path, rng: random.Random) -> None:
    keys = ("num_hidden_layers", "max_position_embeddings", "vocab_size", "hidden_size", "intermediate_size",
            "type_vocab_size", "num_attention_heads", "position_buckets", "max_relative_positions", "local_attention")  # fmt: skip

    def edit(content: dict[str, Any]) -> None:
        content["encoder_config"][rng.choice(keys)] = rng.choice((0, 1, 3, 255, 20_000, 10**6, 5 * 10**8, 2**40))

    _edit_json(folder / "config.json", edit)


def _craft_tokenizer(folder: Path, rng: random.Random) -> None:
    def edit(content: dict[str, Any]) -> None:
        grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
        grow_by_regex = {"type": "Replace", "pattern": {"Regex": ""}, "content": "b" * rng.choice((1, 100, 10_000))}
        steps = rng.choice(
            (
                [grow] * rng.choice((3, 24)),
                [grow_by_regex] * rng.choice((1, 9)),
                [{"type": "Prepend", "prepend": "x" * 10**6}],
            )
        )
        token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
        count = rng.choice((1, 300, 50_000))
        template = {"id": "[CLS]", "ids": [1] * 100_000, "tokens": ["[CLS]"] * 100_000}
        changes: tuple[Callable[[], Any], ...] = (
            lambda: content.update(normalizer={"type": "Sequence", "normalizers": steps}),
            lambda: content["added_tokens"].extend({**token, "id": 10**4 + i, "content": f"w{i}"} for i in range(count)),
            lambda: content["post_processor"]["special_tokens"].update({"[CLS]": template}),
            lambda: content["post_processor"].update(single=content["post_processor"]["single"] * 1000),
            lambda: content["model"].update(dropout=0.5),
            lambda: content.update(padding={"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
                                            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
            lambda: content.update(truncation={"direction": "Right", "max_length": rng.choice((0, 1, 10**15)),
                                               "strategy": "LongestFirst", "stride": rng.choice((0, 5, 10**15))}),
            lambda: content.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}),
        )  # fmt: skip
        rng.choice(changes)()

    _edit_json(folder / "tokenizer.json", edit)


def _make_sparse(folder: Path, rng: random.Random) -> None:
    """A file of many gigabytes that takes no room on the disk."""
    name = rng.choice(("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja", "vocab.txt"))
    with (folder / name).open("ab") as file:
        file.truncate(6 << 30)


def _remove_a_file(folder: Path, rng: random.Random) -> None:
    rng.choice(sorted(folder.iterdir())).unlink()


# Each mutation, and whether scores may change.
_MUTATIONS: dict[str, tuple[Callable[[Path, random.Random], None], bool]] = {
    "a value of config.json": (_replace_value("config.json"), True),
    "a size in config.json": (_set_size, True),
    "a key less in config.json": (_delete_value("config.json"), True),
    "an unread key in config.json": (_add_unread_key, False),
    "bytes of config.json": (_damage("config.json"), True),
    "a value of tokenizer.json": (_replace_value("tokenizer.json"), True),
    "a key less in tokenizer.json": (_delete_value("tokenizer.json"), True),
    "bytes of tokenizer.json": (_damage("tokenizer.json"), True),
    "a crafted tokenizer.json": (_craft_tokenizer, True),
    "a value of tokenizer_config.json": (_replace_value("tokenizer_config.json"), True),
    "bytes of tokenizer_config.json": (_damage("tokenizer_config.json"), True),
    "the header of the weights": (change_header, False),
    "a tensor more": (add_a_tensor, False),
    "a tensor of whole numbers": (retype_a_tensor, False),
    "the order of the tensors": (sort_tensors, False),
    "bytes of the weights": (_damage("model.safetensors"), True),
    "values of the weights": (change_weights, True),
    "a sparse file": (_make_sparse, False),
    "a file less": (_remove_a_file, True),
}
MUTATIONS = tuple(_MUTATIONS)


def _judge(folder: Path, expected: list[float], may_change: bool) -> tuple[str, bool, str]:
    from gliclass_rerank import GLiClassReranker
    from gliclass_rerank.engine.checkpoint import CheckpointError

    try:
        reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32")
    except CheckpointError as error:
        detail = str(error).splitlines()[0][:200]
        memory = any(words in detail for words in ("memory", "Memory", "allocate", "bad_alloc"))
        return ("took too much memory", False, detail) if memory else ("refused", True, detail)
    except BaseException as error:
        return f"{type(error).__name__} when loaded", False, str(error)[:200]
    try:
        scores = reranker.score(QUERY, PASSAGES)
    except BaseException as error:
        return f"{type(error).__name__} when scoring", False, str(error)[:200]
    if not all(0 <= score <= 1 for score in scores):
        return "scores outside of [0, 1]", False, str(scores)
    if max(abs(a - b) for a, b in zip(scores, expected, strict=True)) <= 1e-5:
        return "same scores", True, ""
    return "other scores", may_change, ""


def _work(twins: Path, first: int, last: int) -> None:
    """Judge mutants, and print one JSON line for each."""
    import resource

    lines = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print what they think of a mutant

    import torch
    import transformers

    from gliclass_rerank import GLiClassReranker

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folders = [twins / str(i) for i in range(len(TWINS))]
    expected = [
        GLiClassReranker.from_pretrained(f, device="cpu", dtype="float32").score(QUERY, PASSAGES) for f in folders
    ]
    # Not the address space: torch reserves much more of it than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, last):
        twin = number // len(_MUTATIONS) % len(TWINS)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(shutil.copytree(folders[twin], Path(temporary) / "mutant"))
            may_change = mutate(folder, number)
            signal.alarm(SECONDS)  # its default action ends the process, wherever it is
            result, fine, detail = _judge(folder, expected[twin], may_change)
            signal.alarm(0)
        name = f"{name_mutation(number)} ({TWINS[twin][0]})"
        print(json.dumps(asdict(Outcome(number, name, result, fine, detail))), file=lines, flush=True)


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
