r"""Make the second bundled model from the first: learn the sum of the first model and gte-small on many kinds of text.

python -m recipes.second_model OUTPUT --data DATA --start FIRST_MODEL --teacher thenlper/gte-small
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from gliclass_rerank.training.reading import read_ids
from gliclass_rerank.training.settings import TrainingSettings
from gliclass_rerank.training.train import train
from recipes.choose_data import choose_collection, choose_labelled

# Passages of each collection. Left out, to measure on: stackexchange_small, tech_docs, boolq_articles, tosdr.
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
MAX_ROWS = 1500  # of each labelled set

SETTINGS = TrainingSettings(
    steps=2000,
    groups=5,
    learning_rate=5e-5,
    head_learning_rate=2e-4,
    max_length=512,
    answer_weight=0.0,
    teacher_share=0.5,
    multi_query_share=0.15,
    text_share=0.3,
    statement_share=0.15,
    empty_share=0.15,
    min_crop_words=20,
    max_crop_words=250,
    question_words=200,
    freeze_embeddings=True,
    save_every=400,
    seed=3,
)


def choose_data(data: Path, target: Path) -> list[Path]:
    """The parts of the training sets that the model is trained on."""
    exclude = frozenset(read_ids([data / "medquad_train" / "exclude_docs_for_liveqa.txt"]))  # in a test set of others
    sources = []
    for name, count in COLLECTIONS.items():
        excluded = exclude if name == "medquad_train" else frozenset()
        sources.append(choose_collection(data / name, target / name, count, exclude=excluded))
    for name in LABELLED:
        sources.append(choose_labelled(data / name, target / f"{name}.jsonl", MAX_ROWS))
    return sources


def main() -> None:
    """Choose the data and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--start", type=Path, required=True, help="the first bundled model, a folder")
    parser.add_argument("--teacher", required=True, help="gte-small, hub name or folder")
    parser.add_argument("--steps", type=int, default=SETTINGS.steps)
    options = parser.parse_args()
    output: Path = options.output
    sources = choose_data(options.data, output / "data")
    settings = replace(SETTINGS, steps=options.steps)
    teachers = [options.teacher, options.start]
    train(options.start, sources, output / "trained", settings, teacher=teachers, held_out=60, dtype=torch.float32)


if __name__ == "__main__":
    main()
