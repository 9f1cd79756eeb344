r"""Make the second bundled model: gte-small learns to read query and passage in one sequence, and then to rank.

    python -m recipes.second_model OUTPUT --data DATA --encoder thenlper/gte-small --teacher FIRST_MODEL

1. OUTPUT/apart: the encoder reads queries and passages apart in one sequence, and ranks nearly as its cosine does.
2. OUTPUT/trained: it learns the sum of its own cosine, the first model's logit and a bonus for passages that answer.
3. OUTPUT/calibrated: its scores are probabilities on all kinds of retrieval data.

A run that was stopped goes on from its last saved state.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from gliclass_rerank.engine.checkpoint import WEIGHTS, find_checkpoint, load_checkpoint, save_checkpoint
from gliclass_rerank.evaluation.environment import describe_command, describe_environment
from gliclass_rerank.training.calibrate import calibrate
from gliclass_rerank.training.platt import Calibration, fold_calibration
from gliclass_rerank.training.reading import read_data, read_ids
from gliclass_rerank.training.settings import TrainingSettings
from gliclass_rerank.training.train import train
from recipes.choose_data import choose_collection, choose_labelled
from recipes.english_vocabulary import find_rare, keep_english

LEFT_OUT = ("stackexchange_small", "tech_docs", "boolq_articles", "tosdr")  # not trained on, to measure on
# Passages of each collection to train on.
COLLECTIONS = {
    "squad_train": 4000,
    "nq_oracle": 1400,
    "nq_qed": 400,
    "medquad_train": 1600,
    "dev_docs": 1200,
    "oss_docs": 1200,
    "us_gov_help": 1200,
    "arduino_help": 600,
    "m365_community": 400,
    "faq_mix": 400,
    "acord": 800,
    "foolmetwice": 1200,
    "pubmedqa": 1000,
    "qmsum": 400,
    "tatqa": 600,
    "venue_faq": 800,
    "wiki_sections": 1200,
    "cli_tldr": 400,
    "interview_qa": 300,
    "react_qa": 300,
}
LABELLED = (
    "cls_clinc_intents",
    "cls_clinc_domains",
    "cls_sgd_intents",
    "cls_sgd_domains",
    "cls_goemotions",
    "cls_tos_clauses",
    "cls_so_tags",
    "cls_se_tags",
    "cls_se_subjects",
    "cls_arxiv_subjects",
    "cls_medical_abstracts",
    "cls_docs_product",
    "cls_gov_topics",
    "cls_support_topics",
    "cls_debate_topics",
    "cls_dev_sentiment",
    "cls_review_sentences",
    "cls_youtube_spam",
    "cls_argument_stance",
    "nli_snli_dev",
    "nli_begin",
    "nli_breaking",
    "nli_fever_symmetric",
    "nli_fever_rte",
)
RARE = 1  # tokens that occur so often at most are left out, so that the weights fit into 70 MB
MAX_ROWS = 1500  # of each labelled set
# Passages of each collection to calibrate on, none of them trained on: enough for 30 to 80 questions.
CALIBRATION = {
    "squad_train": 40,
    "nq_oracle": 40,
    "nq_qed": 120,
    "medquad_train": 40,
    "dev_docs": 80,
    "oss_docs": 80,
    "us_gov_help": 80,
    "arduino_help": 80,
    "m365_community": 80,
    "acord": 200,
    "foolmetwice": 200,
    "pubmedqa": 80,
    "tatqa": 40,
    "venue_faq": 120,
    "wiki_sections": 160,
    "cli_tldr": 120,
    "interview_qa": 40,
    "stackexchange_small": 120,
    "tech_docs": 120,
    "boolq_articles": 200,
    "tosdr": 60,
}
CALIBRATION_QUESTIONS = 500
LABELS_PER_PROMPT = 8  # the most questions of a training group

# Both parts draw the same kinds of groups.
_GROUPS = TrainingSettings(
    groups=4,
    max_length=512,
    answer_weight=0.0,
    multi_query_share=0.15,
    text_share=0.25,
    statement_share=0.25,
    empty_share=0.15,
    min_crop_words=20,
    max_crop_words=150,
    question_words=200,
    save_every=100,
)
APART = replace(_GROUPS, steps=400, loss="reading-apart", learning_rate=2e-4, seed=20)
RANKING = replace(
    _GROUPS,
    steps=1500,
    loss="scores",
    reranker_weight=0.5,
    label_bonus=2.0,
    learning_rate=1e-4,
    head_learning_rate=2e-4,
    freeze_embeddings=True,
    seed=21,
)
# The logits start as 50 times the cosine, as the teacher's scores are, less 42: gte-small's cosines of a question and
# a passage that answers it lie around .85.
START = Calibration(scale=2.5, offset=-12.0, threshold=0.5)


def choose_data(data: Path, target: Path) -> list[Path]:
    """The parts of the training sets that the model is trained on."""
    sources = [_choose(data / name, target / name, count) for name, count in COLLECTIONS.items()]
    labelled = [choose_labelled(data / name, target / f"{name}.jsonl", MAX_ROWS) for name in LABELLED]
    return [source for source in sources if source] + labelled


def choose_calibration_data(data: Path, target: Path) -> list[Path]:
    """Parts of the training sets that the model was not trained on."""
    sources = [
        _choose(data / name, target / name, count, skip=COLLECTIONS.get(name, 0)) for name, count in CALIBRATION.items()
    ]
    return [source for source in sources if source]


def set_start(apart: Path, target: Path) -> Path:
    """Copy a checkpoint with the scale and the offset of ``START``."""
    checkpoint = load_checkpoint(apart)
    fold_calibration(checkpoint.network, START)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, target, dtype=torch.float32)
    return target


def _choose(source: Path, target: Path, max_passages: int, *, skip: int = 0) -> Path | None:
    shared = source / "exclude_docs_for_liveqa.txt"  # MedQuAD's passages that share text with a test set
    exclude = frozenset(read_ids([shared])) if shared.is_file() else frozenset[str]()
    return choose_collection(source, target, max_passages, skip=skip, exclude=exclude)


def main() -> None:
    """Choose the data, train in two parts and calibrate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--encoder", required=True, help="gte-small, hub name or folder")
    parser.add_argument("--teacher", type=Path, required=True, help="the first bundled model, a folder")
    parser.add_argument("--steps", type=int, default=RANKING.steps, help="of the second part")
    options = parser.parse_args()
    output: Path = options.output
    encoder, apart, trained, calibrated = (output / name for name in ("gte-small", "apart", "trained", "calibrated"))
    if not (trained / WEIGHTS).is_file():
        sources = choose_data(options.data, output / "data")
        if not (apart / WEIGHTS).is_file():
            data, bare = read_data(sources), find_checkpoint(options.encoder)
            texts = [*(passage.whole for passage in data.passages), *(question.text for question in data.questions)]
            keep_english(bare, encoder, rare=find_rare(bare, texts, RARE))
            train(encoder, sources, apart, APART, held_out=0, dtype=torch.float32)
        start = set_start(apart, output / "start")
        teachers = [options.encoder, options.teacher]
        settings = replace(RANKING, steps=options.steps)
        train(start, sources, trained, settings, teacher=teachers, held_out=0, dtype=torch.float32)
    unseen = choose_calibration_data(options.data, output / "calibration_data")
    report = calibrate(trained, unseen, calibrated, questions=CALIBRATION_QUESTIONS, dtype=torch.float16)
    config = json.loads((calibrated / "config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "labels_per_prompt": LABELS_PER_PROMPT}, indent=2)
    (calibrated / "config.json").write_text(text + "\n", encoding="utf-8")
    command = describe_command("python -m recipes.second_model", sys.argv[1:])
    record = {"command": command, **describe_environment(), **report.as_dict()}
    (output / "calibration.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
