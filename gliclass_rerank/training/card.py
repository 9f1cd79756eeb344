"""The model card of a trained checkpoint: where it comes from, how well it does, and how to load it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gliclass_rerank import __version__
from gliclass_rerank.training.data import TrainingData
from gliclass_rerank.training.dev import DevScores

_CARD = """\
---
pipeline_tag: text-ranking
tags: [gliclass, reranker]
---
# {name}

A reranker: a GLiClass uni-encoder that scores how well a passage answers a query. It was trained with gliclass-rerank
{version}, from {start}.

## Use

```python
from gliclass_rerank import GLiClassReranker

reranker = GLiClassReranker.from_pretrained("{name}")
hits = reranker.rank("a question", ["a passage", "another passage"])
```

`{name}` is this folder's path, or the model's name on a hub. The official `gliclass` library loads it too.

## Results

{results}

## Data

{passages} passages. The licences of the data and of the start apply.

| source | questions | texts with labels |
| --- | --- | --- |
{sources}

## Settings

| setting | value |
| --- | --- |
{settings}
"""
_NOT_SETTINGS = {"start", "sources", "data"}


def write_card(output: Path, record: Mapping[str, object], data: TrainingData, scores: DevScores) -> None:
    """Write ``README.md`` beside a checkpoint.

    Args:
        output: The checkpoint's folder.
        record: What the run was started with.
        data: All data, the held-out questions included.
        scores: On the held-out questions; it may have none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_card(Path(folder), {"start": None, "steps": 9}, TrainingData(), DevScores({0: 0.5, 9: 0.75}))
        ...     card = (Path(folder) / "README.md").read_text(encoding="utf-8")
        >>> "| 9 (saved) | 0.7500 |" in card, "| steps | 9 |" in card
        (True, True)
    """
    questions, texts = (Counter(item.source for item in items) for items in (data.questions, data.texts))
    card = _CARD.format(
        name=output.resolve().name,
        version=__version__,
        start=f"`{record['start']}`" if record["start"] else "the model inside that package",
        results=_results(scores),
        passages=f"{len(data.passages):,}",
        sources="\n".join(f"| {name} | {questions[name]} | {texts[name]} |" for name in {**questions, **texts}),
        settings="\n".join(f"| {name} | {value} |" for name, value in record.items() if name not in _NOT_SETTINGS),
    )
    (output / "README.md").write_text(card, encoding="utf-8")


def _results(scores: DevScores) -> str:
    if not scores.by_step:
        return "No questions were kept out of training, so nothing is known."
    steps = sorted({min(scores.by_step), scores.best_step, max(scores.by_step)})
    names = {step: "before training" if step == 0 else str(step) for step in steps}
    names[scores.best_step] += " (saved)"
    lines = [f"| {names[step]} | {scores.by_step[step]:.4f} |" for step in steps]
    return "\n".join(
        [
            "nDCG@10 on questions kept out of training, of BM25's first 20 passages and those that answer. The best "
            "state was saved, so its score is a little too high.",
            "",
            "| step | nDCG@10 |",
            "| --- | --- |",
            *lines,
        ]
    )
