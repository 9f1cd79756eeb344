"""Groups that are drawn from training data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank.training.data import LabelledText, Passage, Question, TrainingData
from gliclass_rerank.training.losses import focal_loss, list_loss
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.reading import read_data
from gliclass_rerank.training.sampling import GroupSampler
from gliclass_rerank.training.teacher import Teacher
from gliclass_rerank.training.train import train
from gliclass_rerank.training.trainer import TrainingSettings
from gliclass_rerank.training.wording import crop, vary
from tests.colors import COLORS
from tests.json_lines import write_rows


def sampler_of(data: TrainingData, teacher: Teacher | None = None, seed: int = 0) -> GroupSampler:
    return GroupSampler(data, HardNegatives(data, teacher), teacher, seed=seed)


def test_a_group_holds_its_question_s_passage_once_and_no_other_answer(colors: Path) -> None:
    sampler = sampler_of(read_data([colors]), seed=1)
    for group in map(sampler.sample, range(60)):
        assert len(group.passages) == 6 and 1 <= len(group.questions) <= 8
        for column, question in enumerate(group.questions):
            color = next((c for c in COLORS if c in question), None)
            answers = [f"wall is {color}" in passage.lower() for passage in group.passages]
            assert color is None or [row[column] for row in group.targets] == answers  # None: a slip in the color
        assert any(map(any, group.targets))


def test_groups_depend_on_seed_and_number_alone(colors: Path) -> None:
    data = read_data([colors])
    sampler = sampler_of(data, seed=1)
    first = sampler.sample(7)
    sampler.sample(8)
    assert sampler.sample(7) == first == sampler_of(data, seed=1).sample(7)
    assert sampler_of(data, seed=2).sample(7) != first
    assert first.questions and data.questions[sampler.question_of(7) or 0].answers[0] in " ".join(first.passages)


def test_long_passages_are_cropped_around_the_answer(colors: Path) -> None:
    data = read_data([colors])
    filler = "nothing of interest here " * 100
    longer = [Passage(p.title, f"{filler} {p.text.split('.')[0]} {filler}") for p in data.passages]
    sampler = sampler_of(TrainingData(longer, data.questions))
    for number in range(20):
        question = data.questions[sampler.question_of(number) or 0]
        group = sampler.sample(number)
        assert any(question.answers[0] in p and len(p.split()) <= 160 for p in group.passages)


def test_an_answer_in_the_last_words_survives_the_crop() -> None:
    passage = Passage("", " ".join(["filler"] * 395 + ["answer", "a", "b", "c", "d"]))
    sampler = sampler_of(TrainingData([passage, Passage("", "other")], [Question("where?", (0,), ("answer",))]))
    for group in map(sampler.sample, range(20)):
        assert "answer" in group.passages[0] and len(group.passages[0].split()) <= 150
        assert group.targets[0] == [1]


def test_a_stretch_of_the_right_passage_without_the_answer_is_a_near_miss() -> None:
    passage = Passage("", " ".join(["before"] * 100 + ["answer"] + ["after"] * 100))
    questions = [Question("answer", (0,), ("answer",)), Question("before", (0,), ("before",))]
    sampler = sampler_of(TrainingData([passage, Passage("", "other")], questions))
    groups = [group for n in range(80) if sampler.question_of(n) == 0 for group in [sampler.sample(n)]]
    near_misses = [(g, p) for g in groups for p, text in enumerate(g.passages) if p and "other" not in text]
    assert 0.25 < len(near_misses) / len(groups) < 0.75
    for group, place in near_misses:
        text = group.passages[place]
        assert "answer" not in text
        for question, target in zip(group.questions, group.targets[place], strict=True):
            assert target == int("before" in text if question == "before" else "answer" in text)


def test_an_answer_in_the_title_alone_makes_an_answer_and_no_near_miss() -> None:
    passage = Passage("The answer", " ".join(["word"] * 300))
    sampler = sampler_of(TrainingData([passage, Passage("", "other")], [Question("what?", (0,), ("answer",))]))
    for group in map(sampler.sample, range(20)):
        assert [row[0] for row in group.targets] == [int("word" in text) for text in group.passages] == [1, 0]


def test_where_nobody_knows_the_answer_s_words_no_passage_is_cropped_lest_length_give_it_away() -> None:
    passages = [Passage("", f"{i} " + " ".join(["word"] * 400)) for i in range(20)]
    sampler = sampler_of(TrainingData(passages, [Question(f"what is {i}?", (i,)) for i in range(20)]))
    for group in map(sampler.sample, range(20)):
        assert len(group.passages) == 6 and all(len(passage.split()) == 401 for passage in group.passages)


def test_no_companion_is_said_to_be_answered_by_a_stretch_without_its_answer() -> None:
    passages = [Passage("", " ".join(["filler"] * 300 + [f"key{i}"])) for i in range(20)]
    questions = [Question(f"where is key{i}", (i,), (f"key{i}",) if i % 2 else ()) for i in range(20)]
    for group in map(sampler_of(TrainingData(passages, questions)).sample, range(100)):
        for text, row in zip(group.passages, group.targets, strict=True):
            for question, target in zip(group.questions, row, strict=True):
                key = question.split()[-1].strip("?")
                assert not target or key in text.split() or "key" not in key  # a slip in the word


def test_an_answer_is_a_word_and_no_part_of_one() -> None:
    question = Question("is it so?", (0,), ("no",))
    assert question.is_named_in("No. I know.") and question.is_named_in("i say (no)") and question.is_named_in("no")
    assert not question.is_named_in("I know a nose, casino and 1no")
    assert Question("was?", (0,), ("東京",)).is_named_in("日本の東京都")


def test_mining_leaves_a_question_without_candidates_alone() -> None:
    negatives = HardNegatives(TrainingData([Passage("", "right"), Passage("", "other")], [Question("right", (0,))]))
    negatives.mine([0], lambda question, texts: [0.0] * len(texts))
    assert negatives.mined == {}


def test_small_collections_and_rare_kinds_of_questions_are_drawn_more_often_than_their_share() -> None:
    questions = [Question(f"What is {i}?", (0,), source="large") for i in range(900)]
    questions += [Question(f"Why {i}?", (0,), source="large") for i in range(100)]
    questions += [Question(f"what is {i}", (0,), source="small") for i in range(100)]
    sampler = sampler_of(TrainingData([Passage("", "text")], questions))
    drawn = [questions[sampler.question_of(n) or 0] for n in range(5000)]
    why, small = (sum(q.text[:3] == "Why" for q in drawn), sum(q.source == "small" for q in drawn))
    assert 900 < why < 1100 and 900 < small < 1100  # square roots: 30 to 10 to 10


def test_every_passage_that_answers_is_a_target_and_none_a_negative() -> None:
    passages = [Passage("", f"the wall number {n}") for n in ("one", "two", "three", "four", "five", "six")]
    sampler = sampler_of(TrainingData(passages, [Question("wall", (0, 1, 2)), Question("six", (5,), ("six",))]))
    for number in range(50):
        if sampler.question_of(number) == 0:
            group = sampler.sample(number)
            column = group.questions.index("wall")
            for passage, row in zip(group.passages, group.targets, strict=True):
                assert row[column] == any(n in passage for n in ("one", "two", "three"))
            assert sum(row[column] for row in group.targets) == 1


def test_negatives_of_a_row_are_drawn_for_its_question_beside_those_that_are_found() -> None:
    passages = [Passage("", "wall right"), Passage("", "wall wrong"), *(Passage("", f"wall {i}") for i in range(200))]
    data = TrainingData(passages, [Question("wall", (0,), negatives=(1,))])
    negatives = HardNegatives(data)
    for number in range(20):
        group = GroupSampler(data, negatives).sample(number)
        assert len(set(group.passages)) == 6 and group.targets[group.passages.index("wall wrong")] == [0]
    negatives.mine([0], lambda question, texts: [0.0] * len(texts))
    assert 1 in negatives.draw(0, hard=4, count=5, rng=random.Random(0))


def test_many_words_in_questions_leave_room_for_the_passage() -> None:
    questions = [Question("word " * 100 + str(i), (0,)) for i in range(5)]
    sampler = sampler_of(TrainingData([Passage("", "text"), Passage("", "more")], questions))
    assert all(sum(len(q.split()) for q in sampler.sample(n).questions) <= 80 for n in range(10))


def test_a_text_comes_with_its_labels_and_those_of_others() -> None:
    texts = [LabelledText("purring", ("cat", "dog"), (1, 0)), LabelledText("barking", ("dog", "wolf"), (1, 0))]
    groups = [sampler_of(TrainingData(texts=texts)).sample(n) for n in range(40)]
    truth = {"purring": {"cat"}, "barking": {"dog"}}
    for group in groups:
        [text] = group.passages
        assert group.targets == [[int(label in truth[text]) for label in group.questions]]
    assert any("wolf" in group.questions and group.passages == ["purring"] for group in groups)


def test_a_teacher_finds_hard_negatives_and_says_how_alike_they_are() -> None:
    alike = [f"alike {i}" for i in range(24)]
    texts = ["right answer", *alike, *(f"other {i}" for i in range(300))]
    vectors = torch.eye(len(texts))
    question = vectors[0] + 0.5 * vectors[1:25].sum(0)
    data = TrainingData([Passage("", text) for text in texts], [Question("what?", (0,))])
    sampler = sampler_of(data, Teacher(passages=vectors, questions=question.unsqueeze(0)))
    known = {"right answer": 1.0, **dict.fromkeys(alike, 0.5)}
    for group in map(sampler.sample, range(20)):
        assert any(passage in alike for passage in group.passages)
        assert group.similarities == [[known.get(passage, 0.0)] for passage in group.passages]


def test_what_the_teacher_likes_better_than_the_marked_answer_is_no_negative() -> None:
    texts = ["marked", "unmarked", "unlike"]
    data = TrainingData([Passage("", text) for text in texts], [Question("what?", (0,))])
    vectors = torch.tensor([[0.8], [0.9], [0.1]])
    negatives = HardNegatives(data, Teacher(passages=vectors, questions=torch.ones(1, 1)))
    assert set(negatives.draw(0, hard=2, count=2, rng=random.Random(0))) == {2}


def test_passages_that_mislead_the_model_are_drawn_once_it_was_asked() -> None:
    passages = [Passage("", "wall right"), *(Passage("", f"wall {i}") for i in range(20)), Passage("", "other")]
    data = TrainingData(passages, [Question("wall", (0,))])
    negatives = HardNegatives(data)
    negatives.mine([0], lambda question, texts: [-abs(int(t.split()[1]) - 5) for t in texts])
    assert negatives.mined[0][:3] == [6, 5, 7]  # "wall 5" and its neighbours
    drawn = {i for seed in range(20) for i in negatives.draw(0, hard=4, count=4, rng=random.Random(seed))}
    assert drawn == set(negatives.mined[0])


@given(st.text(max_size=80), st.integers())
def test_variants_of_a_question_are_never_empty_and_never_longer(question: str, seed: int) -> None:
    varied = vary(question, random.Random(seed))
    assert bool(varied) == bool(" ".join(question.split()))
    assert len(varied) <= len(" ".join(question.split()).lower()) or varied == " ".join(question.split())


@given(st.integers())
def test_a_slip_moves_letters_alone_and_keywords_keep_what_is_searched_for(seed: int) -> None:
    varied = vary("What happened in Vienna in 1945?", random.Random(seed))
    assert {"1945", "happened", "vienna"} <= set(varied.lower().strip("?").split()) or sorted(varied) == sorted(
        "what happened in vienna in 1945"
    )
    assert "1945" in varied


def test_questions_are_also_seen_in_lower_case_as_keywords_and_with_a_slip() -> None:
    seen = {vary("What is the Capital?", random.Random(seed)) for seed in range(200)}
    assert {"What is the Capital?", "what is the capital", "capital"} <= seen
    assert any(sorted(s) == sorted("what is the capital") and s != "what is the capital" for s in seen)


def test_the_share_of_labelled_texts_is_a_setting() -> None:
    data = TrainingData(
        [Passage("", f"passage {i}") for i in range(8)],
        [Question(f"question {i}?", (i,)) for i in range(8)],
        [LabelledText(f"text {i}", ("a", "b"), (1, 0)) for i in range(400)],
    )
    sampler = GroupSampler(data, HardNegatives(data), text_share=0.25)
    texts = sum(len(sampler.sample(number).passages) == 1 for number in range(400))
    assert 60 < texts < 140


def test_some_groups_hold_a_passage_that_says_nothing_and_answers_nothing() -> None:
    data = TrainingData([Passage("", f"passage {i}") for i in range(8)], [Question("question?", (0,))])
    known = {passage.text for passage in data.passages}
    sampler = GroupSampler(data, HardNegatives(data), empty_share=1.0)
    for number in range(20):
        group = sampler.sample(number)
        [place] = [i for i, passage in enumerate(group.passages) if passage not in known]
        assert group.targets[place] == [0] and len(group.passages[place]) < 120


def test_a_statement_as_the_query_has_only_the_teacher_s_similarities() -> None:
    words = [f"word{i}" for i in range(300)]
    data = TrainingData(
        [Passage("", f"passage {i} " + " ".join(words)) for i in range(8)], [Question("question?", (0,))]
    )
    vectors = torch.nn.functional.normalize(torch.eye(8) + 0.1, dim=-1)
    sampler = GroupSampler(data, HardNegatives(data), Teacher(vectors, vectors[:1]), statement_share=1.0)
    for number in range(10):
        group = sampler.sample(number)
        assert {target for row in group.targets for target in row} == {-1}
        assert 4 <= len(group.questions[0].split()) <= 160 and group.similarities is not None
        assert data.passages[0].whole not in group.passages  # the query was cut out of it


def test_a_group_shows_passages_of_two_grades_and_the_better_one_is_the_better_target(tmp_path: Path) -> None:
    words = ["poor", "fair", "good", "best"]
    (tmp_path / "qrels").mkdir()
    write_rows(tmp_path / "corpus.jsonl", *({"_id": word, "text": f"a {word} wall"} for word in words))
    write_rows(tmp_path / "queries.jsonl", {"_id": "q", "text": "wall"})
    (tmp_path / "qrels" / "train.tsv").write_text("q\tpoor\t0\nq\tfair\t1\nq\tgood\t2\nq\tbest\t4")
    expected = {"a poor wall": 0, "a fair wall": 0.625, "a good wall": 0.75, "a best wall": 1}
    sampler, seen = sampler_of(read_data([tmp_path])), set()
    for group in map(sampler.sample, range(30)):
        targets = [target for [target] in group.targets]
        assert targets == [expected[passage] for passage in group.passages]
        assert len(set(targets) - {0}) == 2
        seen |= set(group.passages)
        # The loss over the order is smaller for the order of the grades than for any other.
        in_order, logits = torch.tensor(group.targets), torch.tensor(group.targets).flip(0)
        assert list_loss(in_order, in_order) < list_loss(logits, in_order)
    assert seen == set(expected)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.02, 0.98))
def test_the_loss_of_a_soft_target_is_smallest_where_the_score_is_the_target(target: float) -> None:
    data = TrainingData(texts=[LabelledText("purring", ("cat",), (target,))])
    group = sampler_of(data).sample(0)
    assert group.targets == [[target]]
    logit, targets = torch.tensor(group.targets).logit(), torch.tensor(group.targets)
    assert all(focal_loss(logit, targets) < focal_loss(logit + step, targets) for step in (-0.5, 0.5))


def test_a_given_negative_with_a_soft_target_keeps_it() -> None:
    data = TrainingData(
        [Passage("", "wall right"), Passage("", "wall nearly"), Passage("", "wall wrong")],
        [Question("wall", (0,), negatives=(1,), targets={0: 0.9, 1: 0.3})],
    )
    expected = {"wall right": 0.9, "wall nearly": 0.3, "wall wrong": 0}
    for group in map(sampler_of(data).sample, range(10)):
        assert [row[0] for row in group.targets] == [expected[passage] for passage in group.passages]
        assert "wall nearly" in group.passages


def test_a_question_with_a_teacher_s_scores_comes_alone_with_the_passages_that_have_one() -> None:
    passages = [Passage("", f"wall {i}") for i in range(40)]
    scores = {i: i / 10 for i in range(12)}
    data = TrainingData(passages, [Question("wall", (0, 1, 20), negatives=(*range(2, 12), 30), teacher_scores=scores)])
    groups = [GroupSampler(data, HardNegatives(data), multi_query_share=1.0).sample(n) for n in range(30)]
    for group in groups:
        positions = [int(passage.split()[1]) for passage in group.passages]
        assert group.teacher_scores == [[i / 10] for i in positions] and len(set(positions)) == 6
        assert group.targets == [[int(i < 2)] for i in positions] and sum(i < 2 for i in positions) == 1
    assert len({passage for group in groups for passage in group.passages}) == 12


def test_where_only_right_passages_have_a_teacher_s_score_the_others_are_found_as_ever() -> None:
    passages = [Passage("", f"wall {i}") for i in range(9)]
    data = TrainingData(passages, [Question("wall", (0,), teacher_scores={0: 1.0})])
    group = sampler_of(data).sample(0)
    assert len(group.passages) == 6 and group.teacher_scores is None


def test_the_teacher_s_scores_of_the_data_change_what_is_learned(tmp_path: Path, checkpoint_folder) -> None:
    losses = []
    for name, scores in (("agrees", [4, -4]), ("differs", [-4, 4])):
        row = {
            "query": "what purrs?",
            "pos": ["cats"],
            "neg": ["dogs"],
            "pos_scores": scores[:1],
            "neg_scores": scores[1:],
        }
        file = write_rows(tmp_path / f"{name}.jsonl", row)
        settings = TrainingSettings(steps=10, groups=1, max_length=64, teacher_share=1.0)
        train(checkpoint_folder(), [file], tmp_path / name, settings, held_out=0)
        lines = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        losses.append(next(line["loss"] for line in lines if "loss" in line))
    assert losses[0] != losses[1]


@given(st.text(max_size=200), st.integers(1, 20), st.integers())
def test_stretches_of_a_text_cover_all_its_words_in_their_order(text: str, words: int, seed: int) -> None:
    stretches = crop(text, words, random.Random(seed))
    split = text.split()
    assert {word for stretch in stretches for word in stretch.split()} == set(split)
    for stretch in stretches:
        part = stretch.split()
        assert len(part) == min(words, len(split))
        assert any(split[i : i + len(part)] == part for i in range(len(split) - len(part) + 1))
