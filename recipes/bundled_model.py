r"""Make the bundled model: choose the data, train in rounds, mix, calibrate.

    python -m recipes.bundled_model OUTPUT --data DATA \
        --encoder sentence-transformers/all-MiniLM-L6-v2 --teacher thenlper/gte-small

DATA holds the folders squad_train, nq_oracle and medquad_train in BEIR layout; the model's card
says where each is published. OUTPUT/model is the calibrated checkpoint, OUTPUT/model.json
what calibration changed. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.data.beir import read_qrels, read_rows
from gliclass_rerank.engine.checkpoint import WEIGHTS, find_checkpoint
from gliclass_rerank.evaluation.environment import describe_command, describe_environment
from gliclass_rerank.training.calibrate import calibrate
from gliclass_rerank.training.reading import read_ids
from gliclass_rerank.training.settings import TrainingSettings
from gliclass_rerank.training.train import RECORD, train
from recipes.choose_data import write_rows
from recipes.english_vocabulary import keep_english
from recipes.mix_weights import mix_with_start

# What each round trains, from what the one before has left.
FIRST = TrainingSettings(
    steps=5600, learning_rate=6e-5, save_every=700, answer_weight=0.0, teacher_share=0.3, multi_query_share=2 / 3
)
SECOND = TrainingSettings(steps=4800, groups=6, learning_rate=6e-5, freeze_embeddings=True, save_every=400, seed=1)
THIRD = replace(SECOND, steps=3200, learning_rate=4e-5, head_learning_rate=2e-4, mine_every=200, seed=2)
# Of trained weights in the first mixture and in the last; the rest are those that round 1, or rounds 2 and 3 together,
# started from, which know other subjects better.
FIRST_SHARE, LAST_SHARE = 0.8, 0.8
HELD_OUT = 600  # questions, to measure with while training and to calibrate on afterwards
MAX_WORDS = 200  # of a MedQuAD answer; longer ones are mostly several answers


def choose_passages(source: Path, target: Path, keep: Callable[[int, str, str], bool]) -> Path:
    """Copy the passages of a collection that are kept, by number, id and text, and the questions that they answer."""
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    rows = [row for _, row in read_rows(source / "corpus.jsonl")]
    chosen = [row for i, row in enumerate(rows) if keep(i, row["_id"], row["text"])]
    ids = {row["_id"] for row in chosen}
    queries = {row["_id"]: row for _, row in read_rows(source / "queries.jsonl")}
    qrels = read_qrels(source / "qrels" / "train.tsv", queries, {row["_id"] for row in rows})
    judged = [(query, passage, score) for query, judgements in qrels.items() for passage, score in judgements.items()]
    judged = [line for line in judged if line[1] in ids]
    answered = {query for query, _, _ in judged}
    write_rows(target / "corpus.jsonl", chosen)
    write_rows(target / "queries.jsonl", [row for row in queries.values() if row["_id"] in answered])
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, line)) for line in judged)]
    (target / "qrels" / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def choose_data(data: Path, target: Path) -> list[Path]:
    """What the model is trained on: about 30,500 passages and 97,600 questions."""
    excluded = read_ids([data / "medquad_train" / "exclude_docs_for_liveqa.txt"])  # in a test set of others
    return [
        choose_passages(data / "squad_train", target / "squad_train", lambda *_: True),
        choose_passages(data / "nq_oracle", target / "nq_oracle", lambda *_: True),
        choose_passages(
            data / "medquad_train",
            target / "medquad_train",
            lambda _, id_, text: id_ not in excluded and len(text.split()) <= MAX_WORDS,
        ),
    ]


def is_finished(output: Path, settings: TrainingSettings) -> bool:
    """Whether a folder holds the model of a run with these settings."""
    if not (output / WEIGHTS).exists():
        return False
    record: dict[str, object] = json.loads((output / RECORD).read_text(encoding="utf-8"))
    return {**record, **asdict(settings)} == record


def main() -> None:
    """Choose the data, train, mix, calibrate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--encoder", required=True, help="all-MiniLM-L6-v2, hub name or folder")
    parser.add_argument("--teacher", required=True, help="gte-small, hub name or folder")
    options = parser.parse_args()
    output: Path = options.output
    sources = choose_data(options.data, output / "data")
    encoder = keep_english(find_checkpoint(options.encoder), output / "encoder" / Path(options.encoder).name)

    def train_from(start: Path, name: str, settings: TrainingSettings) -> Path:
        trained = output / name
        if not is_finished(trained, settings):
            train(start, sources, trained, settings, teacher=options.teacher, held_out=HELD_OUT, dtype=torch.float32)
        return trained

    def mix_and_calibrate(trained: Path, start: Path, share: float, name: str) -> Path:
        calibrated, figures, unfinished = output / name, output / f"{name}.json", output / f"{name}-unfinished"
        if figures.exists():
            if json.loads(figures.read_text(encoding="utf-8"))["trained share"] != share:
                raise SystemExit(f"{calibrated} is another mixture. Remove it, its figures and the rounds after it.")
            return calibrated
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was stopped
        mixed = mix_with_start(trained, start, share, output / f"{name}-mixed")
        report = calibrate(mixed, sources, unfinished, dtype=torch.float16)
        unfinished.rename(calibrated)
        with atomic_write(figures) as file:
            command = describe_command("python -m recipes.bundled_model", sys.argv[1:])
            record = {"command": command, **describe_environment(), "trained share": share, **report.as_dict()}
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return calibrated

    first = mix_and_calibrate(train_from(encoder, "round-1", FIRST), encoder, FIRST_SHARE, "first-model")
    last = train_from(train_from(first, "round-2", SECOND), "round-3", THIRD)
    mix_and_calibrate(last, first, LAST_SHARE, "model")


if __name__ == "__main__":
    main()
