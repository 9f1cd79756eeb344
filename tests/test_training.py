from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.checkpoint import load_checkpoint
from gliclass_rerank.training.data import GroupSampler, Passage, Question, read_collection
from gliclass_rerank.training.start import start_from_encoder
from gliclass_rerank.training.teacher import Teacher, ask_teacher
from gliclass_rerank.training.train import draw_groups, main, ranking_loss
from tests.random_checkpoints import OfficialPipeline, make_tokenizer

COLORS = ["red", "blue", "green", "white", "black", "brown", "yellow", "orange"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Which thing has which colour: learnable by a tiny model in a few steps."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "qrels").mkdir()
    corpus = [{"_id": c, "title": f"Room {i % 2}", "text": f"The wall is {c}. " * 30} for i, c in enumerate(COLORS)]
    queries = [{"_id": f"q{c}", "text": f"Which wall is {c}?", "answers": [c]} for c in COLORS]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = [f"q{c}\t{c}\t1" for c in COLORS]
    (folder / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare BERT with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = make_tokenizer.__wrapped__("wordpiece")
    bare = len(tokenizer) - 3
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=bare, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_group_holds_its_question_s_passage_once_and_no_other_answer(collection: Path) -> None:
    passages, questions = read_collection(collection)
    sampler = GroupSampler(passages, questions)
    for step in range(30):
        for group in draw_groups(sampler, 2, seed=1, step=step):
            assert len(group.passages) == 6 and 1 <= len(group.questions) <= 6
            for column, question in enumerate(group.questions):
                color = next(c for c in COLORS if c in question)
                answers = [f"wall is {color}" in passage.lower() for passage in group.passages]
                assert [row[column] for row in group.targets] == answers
            assert any(map(any, group.targets))


def test_groups_depend_on_seed_and_step_alone(collection: Path) -> None:
    sampler = GroupSampler(*read_collection(collection))
    first = draw_groups(sampler, 3, seed=1, step=7)
    draw_groups(sampler, 3, seed=1, step=8)
    assert draw_groups(sampler, 3, seed=1, step=7) == first
    assert draw_groups(sampler, 3, seed=2, step=7) != first


def test_long_passages_are_cropped_around_the_answer(tmp_path: Path, collection: Path) -> None:
    passages, questions = read_collection(collection)
    filler = "nothing of interest here " * 100
    passages = [type(p)(p.title, f"{filler} {p.text.split('.')[0]} {filler}") for p in passages]
    sampler = GroupSampler(passages, questions)
    for i in range(len(questions)):
        group = sampler.sample(i, random.Random(i))
        color = questions[i].answers[0]
        assert any(color in passage and len(passage.split()) <= 160 for passage in group.passages)


def test_an_answer_in_the_last_words_survives_the_crop() -> None:
    passage = Passage("", " ".join(["filler"] * 395 + ["answer", "a", "b", "c", "d"]))
    sampler = GroupSampler([passage, Passage("", "other")], [Question("where?", (0,), ("answer",))])
    for seed in range(20):
        group = sampler.sample(0, random.Random(seed))
        assert "answer" in group.passages[0] and len(group.passages[0].split()) <= 150
        assert group.targets[0] == [1]


def test_a_stretch_of_the_right_passage_without_the_answer_is_a_near_miss() -> None:
    passage = Passage("", " ".join(["before"] * 100 + ["answer"] + ["after"] * 100))
    questions = [Question("where?", (0,), ("answer",)), Question("what was before?", (0,), ("before",))]
    sampler = GroupSampler([passage, Passage("", "other")], questions)
    groups = [sampler.sample(0, random.Random(seed)) for seed in range(40)]
    near_misses = [(g, p) for g in groups for p, text in enumerate(g.passages) if p and "other" not in text]
    assert 10 < len(near_misses) < 30
    for group, place in near_misses:
        text = group.passages[place]
        for question, target in zip(group.questions, group.targets[place], strict=True):
            assert target == int("before" in text if "before" in question else "answer" in text)
        assert "answer" not in text


def test_small_collections_and_rare_kinds_of_questions_are_drawn_more_often_than_their_share() -> None:
    questions = [Question(f"What is {i}?", (0,), (), "large") for i in range(900)]
    questions += [Question(f"Why {i}?", (0,), (), "large") for i in range(100)]
    questions += [Question(f"what is {i}", (0,), (), "small") for i in range(100)]
    sampler = GroupSampler([Passage("", "text")], questions)
    rng = random.Random(0)
    drawn = [questions[sampler.draw(rng)] for _ in range(5000)]
    why, small = (sum(q.text[:3] == "Why" for q in drawn), sum(q.collection == "small" for q in drawn))
    assert 900 < why < 1100 and 900 < small < 1100  # square roots: 30 to 10 to 10


def test_every_passage_that_answers_is_a_target_and_none_a_negative() -> None:
    passages = [Passage("", f"the wall number {n}") for n in ("one", "two", "three", "four", "five", "six")]
    questions = [Question("which wall number?", (0, 1, 2), ()), Question("number six?", (5,), ("six",))]
    sampler = GroupSampler(passages, questions)
    for seed in range(50):
        group = sampler.sample(0, random.Random(seed))
        column = [q.lower().rstrip("?") for q in group.questions].index("which wall number")
        for passage, row in zip(group.passages, group.targets, strict=True):
            assert row[column] == any(n in passage for n in ("one", "two", "three"))
        assert sum(row[column] for row in group.targets) == 1


def test_many_words_in_questions_leave_room_for_the_passage() -> None:
    questions = [Question("word " * 100 + str(i), (0,), ()) for i in range(5)]
    sampler = GroupSampler([Passage("", "text"), Passage("", "more")], questions)
    group = sampler.sample(0, random.Random(0))
    assert sum(len(q.split()) for q in group.questions) <= 60


def test_a_collection_without_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="no question"):
        GroupSampler([Passage("", "text")], [])


def test_unknown_ids_in_qrels_are_refused(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / name).write_text((collection / name).read_text())
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nqred\tpurple\t1")
    with pytest.raises(ValueError, match="'purple'"):
        read_collection(tmp_path)


def test_the_loss_falls_as_answers_rise() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    good, bad = torch.tensor([[3.0, -3.0], [-3.0, -3.0]]), torch.tensor([[-3.0, -3.0], [3.0, -3.0]])
    assert ranking_loss(good, targets) < 0.2 < ranking_loss(bad, targets)
    # Without any answer only the pairs count.
    nothing = torch.zeros(2, 1)
    assert ranking_loss(torch.full((2, 1), -9.0), nothing) < 0.01


def test_a_teacher_draws_the_loss_towards_the_passages_it_likes() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    taught = torch.tensor([[0.8, 0.1], [0.8, 0.9], [0.1, 0.1]])
    second_best, third_best = torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    answered = [ranking_loss(logits, targets[:, :1], taught[:, :1]) for logits in (second_best, third_best)]
    assert answered[0] < answered[1]
    unanswered = [ranking_loss(logits, targets[:, 1:], taught[:, 1:]) for logits in (second_best, third_best)]
    assert unanswered[0] < unanswered[1]


def test_a_teacher_finds_hard_negatives_and_says_how_alike_they_are() -> None:
    alike = [f"alike {i}" for i in range(24)]
    texts = ["right answer", *alike, *(f"other {i}" for i in range(300))]
    vectors = torch.eye(len(texts))
    question = vectors[0] + 0.5 * vectors[1:25].sum(0)
    sampler = GroupSampler(
        [Passage("", text) for text in texts],
        [Question("what?", (0,), ())],
        Teacher(passages=vectors, questions=question.unsqueeze(0)),
    )
    for seed in range(20):
        group = sampler.sample(0, random.Random(seed))
        assert any(passage in alike for passage in group.passages)
        known = {"right answer": 1.0, **dict.fromkeys(alike, 0.5)}
        assert group.similarities == [[known.get(passage, 0.0)] for passage in group.passages]


def test_a_teacher_s_cosine_is_that_of_mean_pooling(encoder: Path, tmp_path: Path) -> None:
    teacher = ask_teacher(encoder, ["red wall", "a much longer text about bread"], ["bread?"], tmp_path / "cache.pt")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = BertModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        texts = ("red wall", "a much longer text about bread", "bread?")
        means = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in texts]
    expected = [[torch.cosine_similarity(mean, means[2], dim=0).item()] for mean in means[:2]]
    torch.testing.assert_close(
        torch.tensor(teacher.similarities([0, 1], [0])), torch.tensor(expected), atol=0.02, rtol=0
    )
    # A second run reads the cache, and refuses one that was made from something else.
    again = ask_teacher(
        "no such folder", ["red wall", "a much longer text about bread"], ["bread?"], tmp_path / "cache.pt"
    )
    assert torch.equal(again.passages, teacher.passages)
    with pytest.raises(ValueError, match=r"cache\.pt was made from other data"):
        ask_teacher(encoder, ["red wall"], ["bread?"], tmp_path / "cache.pt")


def test_a_network_starts_as_its_encoder_s_cosine(encoder: Path) -> None:
    network, tokenizer = start_from_encoder(encoder)
    network.eval()
    ids = tokenizer("<<LABEL>>bread<<SEP>>yeast makes gas", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logit = network(ids, torch.ones_like(ids), 1).item()
        tokens = network.encoder_model(ids).last_hidden_state[0]
    where = ids[0].tolist().index(network.config.text_token_index)
    cosine = torch.cosine_similarity(tokens[1:where].mean(0), tokens[where:].mean(0), dim=0)
    assert logit == pytest.approx(20 * cosine.item(), abs=0.2)


def test_training_learns_resumes_and_gives_a_checkpoint_that_both_libraries_load(
    encoder: Path, collection: Path, tmp_path: Path
) -> None:
    arguments = ["--encoder", str(encoder), "--data", str(collection), "--teacher", str(encoder)]
    main([str(tmp_path / "whole"), *arguments, "--steps", "120"])
    losses = [float(line.split()[1]) for line in (tmp_path / "whole" / "loss.txt").read_text().splitlines()]
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    # A run that stopped after its last saved state, step 100, ends as the one that did not stop.
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "state.pt").write_bytes((tmp_path / "whole" / "state.pt").read_bytes())
    main([str(tmp_path / "stopped"), *arguments, "--steps", "120"])
    weights = [load_checkpoint(tmp_path / name).network.state_dict() for name in ("whole", "stopped")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-3, rtol=0)
    passages = [f"The wall is {c}." for c in COLORS]
    ours = GLiClassReranker.from_pretrained(tmp_path / "whole", device="cpu", dtype="float32")
    official = OfficialPipeline(tmp_path / "whole").score("Which wall is red?", passages)
    assert ours.score("Which wall is red?", passages) == pytest.approx(official, abs=1e-3)
