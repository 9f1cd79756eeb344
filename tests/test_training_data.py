"""Training data: what is read from folders and from files of every format."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from gliclass.data_processing import GLiClassDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank.training.data import LabelledText, Question, TrainingData, set_aside
from gliclass_rerank.training.reading import read_data, read_ids
from tests.colors import COLORS
from tests.json_lines import write_rows
from tests.pages import ROOT

# Texts that a file can hold and that are not blank.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text.strip())


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("The Kettle, a kettle.", ("Kettle", "kettle")),
        ("Kettles and teakettle", ()),
        ("a red  kettle and No kettle", ("kettle",)),
        ("kettle42 or 5 % of it", ("5 %",)),
        ("İstanbul has a Kettle", ("kettle",)),  # whose lower case is longer
    ],
)
def test_answers_are_returned_as_they_are_written(text: str, answers: tuple[str, ...]) -> None:
    assert Question("?", (0,), ("kettle", "5 %")).answers_in(text) == answers


def test_a_collection_becomes_passages_and_questions(colors: Path) -> None:
    data = read_data([colors])
    assert [p.title for p in data.passages[:2]] == ["Room 0", "Room 1"]
    assert data.questions[2] == Question("Which wall is green?", (2,), ("green",), source=colors.name)


def test_excluded_passages_go_with_the_questions_that_only_they_answer(colors: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("red\n\nblue\n")
    data = read_data([colors], exclude=read_ids([tmp_path / "ids.txt"]))
    assert len(data.passages) == len(data.questions) == len(COLORS) - 2
    assert all(data.questions[i].passages == (i,) for i in range(len(data.questions)))


def test_rows_of_queries_share_equal_passages_and_keep_their_negatives(tmp_path: Path) -> None:
    first = {"query": "what purrs?", "positives": ["cats"], "negatives": ["dogs"], "answers": ["Cats"]}
    file = write_rows(tmp_path / "a.jsonl", first, {"query": "what barks?", "positives": ["dogs"]})
    data = read_data([file])
    assert [p.text for p in data.passages] == ["cats", "dogs"]
    assert [(q.passages, q.negatives, q.answers) for q in data.questions] == [((0,), (1,), ("cats",)), ((1,), (), ())]


def test_rows_of_one_text_become_its_labels(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "a.jsonl",
        {"text": "t", "query": "claim", "label": "entailment"},
        {"text": "t", "query": "other", "label": False},
        {"text": "u", "true_labels": ["x"], "all_labels": ["y", "x"]},
    )
    labelled = [(t.text, t.labels, t.targets) for t in read_data([file]).texts]
    assert labelled == [("t", ("claim", "other"), (1, 0)), ("u", ("y", "x"), (0, 1))]


def test_equal_questions_and_passages_are_one_wherever_they_come_from(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", {"query": "what purrs?", "positives": ["cats"], "negatives": ["lions"]})
    rows = [{"query": "What  purrs?", "positives": ["lions"]}, {"query": "what purrs?", "positives": ["cats"]}]
    data = read_data([first, write_rows(tmp_path / "b.jsonl", *rows)])
    assert [p.text for p in data.passages] == ["cats", "lions"]
    assert data.questions == [Question("what purrs?", (0, 1), source="a.jsonl")]


def test_passages_judged_not_relevant_are_negatives(colors: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    for file in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / file).write_text((colors / file).read_text())
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nqred\tred\t1\nqred\tblue\t0")
    [question] = read_data([tmp_path]).questions
    assert (question.passages, question.negatives) == ((0,), (1,))


def test_ids_that_exclude_nothing_are_refused(colors: Path) -> None:
    with pytest.raises(ValueError, match="none of the 1 ids to exclude, such as 'mauve'"):
        read_data([colors], exclude={"mauve"})


def test_the_digest_knows_data_again(colors: Path) -> None:
    data = read_data([colors])
    assert data.digest == read_data([colors]).digest != set_aside(data, 1)[0].digest


def test_positions_of_several_sources_do_not_mix(colors: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", {"query": "what purrs?", "positives": ["cats"]})
    data = read_data([colors, file, colors])
    for question in data.questions:
        text = data.passages[question.passages[0]].text
        assert "cats" in text if question.text == "what purrs?" else question.answers[0] in text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "a.jsonl:1 is not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"question": "q"}', "a.jsonl:1 has the keys 'question'; expected those of a format: query, positives; "),
        ('{"query": "q", "positives": []}', r"a.jsonl:1: positives is \[\]; expected at least one passage"),
        ('{"query": "q", "positives": "p"}', "expected a list of strings"),
        ('{"query": 1, "positives": ["p"]}', "query is 1; expected a string that is not blank"),
        ('{"text": "t", "query": "q", "label": "ture"}', "label is 'ture'"),
        ('{"text": "t", "query": "q", "label": 0}', "label is 0; expected true or false"),  # entailment, in some sets
        (
            '{"text": "t", "true_labels": ["a"], "all_labels": ["a", " "]}',
            "a label is ' '; expected a string that is not blank",
        ),
        ('{"text": "t", "true_labels": {"a": 2}, "all_labels": ["a"]}', r"true_labels\['a'\] is 2; expected a number"),
        ('{"query": " ", "positives": ["p"]}', "query is ' '; expected a string that is not blank"),
        ('{"query": "q", "pos": []}', r"pos is \[\]; expected at least one passage"),
        ('{"query": "q", "pos": ["p"], "pos_scores": [1, 2]}', r"pos_scores is \[1.*\]; expected a list of 1 numbers"),
        ('{"query": "q", "pos": ["p"], "pos_scores": ["1"]}', "expected a list of 1 numbers"),
        ('{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1]}', "neg_scores is .*for each passage in 'neg'"),
        ('{"query": "q", "pos": ["p"], "negatives": ["n"]}', "negatives is not read beside pos, query"),
        ('{"query": "q", "positive": "p", "negative_score": 0.2}', "negative_score is not read beside positive, query"),
        ('{"query": "q", "answer": ["p"]}', r"answer is \['p'\]; expected a string that is not blank"),
        (
            '{"anchor": "q", "positive": "p", "negative": "n", "label": 1}',
            "negative is not read beside label. Rename",
        ),
        ('{"sentence1": "q", "sentence2": "p", "score": 4.2}', "score is 4.2; expected a number from 0 to 1. Divide"),
        ('{"sentence1": "q", "sentence2": "p", "score": NaN}', "score is nan; expected a number from 0 to 1"),
        ('{"sentence1": "q", "sentence2": "p"}', "keys 'sentence1', 'sentence2'; expected .* score"),
        (
            '{"text": "t", "query": "q", "label": true}\n{"text": "t", "query": "q", "label": false}',
            "jsonl:2: 'q' was labelled differently above",
        ),
        ("", "no question"),
    ],
)
def test_broken_rows_are_refused_by_line(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(row)
    with pytest.raises(ValueError, match=message):
        read_data([tmp_path / "a.jsonl"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "qrels/train.tsv",
            "query-id\tcorpus-id\tscore\nqred\tpurple\t1",
            "train.tsv:2: passage 'purple' is not in corpus.jsonl",
        ),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nqred red 1", "train.tsv:2 has 1 columns"),
        ("corpus.jsonl", '{"_id": "red", "text": "t", "title": ["x"]}', "corpus.jsonl:1: title is"),
        ("corpus.jsonl", '{"_id": "red"}', 'corpus.jsonl:1 has no "text"'),
        ("queries.jsonl", '{"text": "no id"}', 'queries.jsonl:1 has no "_id"'),
    ],
)
def test_broken_collections_are_refused_by_line(
    colors: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / "qrels").mkdir()
    for file in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        (tmp_path / file).write_text(content if file == name else (colors / file).read_text())
    with pytest.raises(ValueError, match=message):
        read_data([tmp_path])


def test_questions_set_aside_are_no_longer_in_the_data(colors: Path) -> None:
    data = read_data([colors])
    rest, aside = set_aside(data, 3)
    assert len(aside) == 3 and set(rest.questions) | set(aside) <= set(data.questions)
    assert not set(rest.questions) & set(aside) and rest.passages == data.passages
    with pytest.raises(ValueError, match="8 questions to be kept out"):
        set_aside(data, 8)


def read_text(file: Path, content: str) -> TrainingData:
    file.write_text(content, encoding="utf-8")
    return read_data([file])


def read_example(file: Path, number: int) -> TrainingData:
    """The data in one of the examples on the page about training."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("\n## Data\n")[1].split("\n## ")[0]
    kind, content = re.findall(r"^```(json|csv)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)[number]
    suffix = ".csv" if kind == "csv" else ".json" if content.startswith("[") else ".jsonl"
    return read_text(file.with_suffix(suffix), content)


@pytest.mark.parametrize(
    ("number", "counts"),
    [(0, (5, 3, 0)), (1, (7, 3, 0)), (2, (5, 2, 0)), (3, (2, 1, 0)), (4, (3, 1, 0)), (5, (0, 0, 3)), (6, (0, 0, 1))],
)
def test_the_page_s_examples_are_read(tmp_path: Path, number: int, counts: tuple[int, int, int]) -> None:
    data = read_example(tmp_path / "a", number)
    assert (len(data.passages), len(data.questions), len(data.texts)) == counts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.lists(TEXTS, max_size=3)), min_size=1, max_size=4))
def test_the_same_data_is_read_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, list[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    own = [{"query": query, "positives": [right], "negatives": wrong} for query, right, wrong in rows]
    flag = [{"query": query, "pos": [right], "neg": wrong, "prompt": "Is it so?"} for query, right, wrong in rows]
    columns = [
        {"id": 1, "anchor": query, "positive": right, **{f"negative_{i + 1}": text for i, text in enumerate(wrong)}}
        for query, right, wrong in rows
    ]
    files = [write_rows(folder / f"{i}.jsonl", *rows) for i, rows in enumerate((own, flag, columns))]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        files.append(folder / name)
        with files[-1].open("w", encoding="utf-8", newline="") as stream:
            fields = ["id", "anchor", "positive", "negative_1", "negative_2", "negative_3"]
            writer = csv.DictWriter(stream, fields, restval="", delimiter=delimiter)
            writer.writeheader()
            writer.writerows(columns)
    files.append(folder / "array.json")
    files[-1].write_text(json.dumps(flag, indent=1))
    digests = {read_data([file]).digest for file in files}
    assert len(digests) == 1


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXTS, st.floats(0, 1)), st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_labels_are_those_of_the_official_library(
    tmp_path_factory: pytest.TempPathFactory, true: dict[str, float], others: list[str], soft: bool
) -> None:
    row = {"text": "t", "all_labels": [*others, *list(true)[1:]], "true_labels": true if soft else list(true)}
    official = GLiClassDataset.prepare_labels(None, row, {}, "multi_label_classification")
    [text] = read_text(tmp_path_factory.mktemp("labels") / "a.json", json.dumps([row])).texts
    targets = dict(zip(text.labels, text.targets, strict=True))
    assert [targets[label] for label in row["all_labels"]] == pytest.approx(official.tolist())
    assert set(targets) == {*others, *true}


def test_a_json_file_may_hold_lines(tmp_path: Path) -> None:
    assert (
        len(read_text(tmp_path / "a.json", '\n{"query": "q", "pos": ["p"]}\n{"query": "r", "pos": ["p"]}').questions)
        == 2
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"text": "t", "all_labels": ["a"]}, {"text": "t"}]', r"a.json\[1\] has the keys 'text'; expected"),
        ("a.json", '[{"text": "t"}, 5]', r"a.json\[0\] has the keys"),
        ("a.json", "[5]", r"a.json\[0\] is '5'; expected a JSON object"),
        ("a.json", '[{"text": "t"}', "a.json is not JSON: .*line 1"),
        ("a.csv", "query,answer\nq,p\nq,", "a.csv:3: answer is ''; expected a string that is not blank"),
        ("a.csv", "query,answer\nq,p,n", "a.csv:2 has 3 columns, but the header has 2"),
        ("a.csv", "query,docs\nq,p", "a.csv:2 has the keys 'query', 'docs'; expected"),
        ("a.csv", "query,answer,label\nq,p,yes", "a.csv:2: label is 'yes'; expected a number from 0 to 1"),
        ("a.csv", "query,answer\n", "no question"),
        ("a.csv", "", "no question"),
    ],
)
def test_broken_arrays_and_tables_are_refused_by_row(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / name, content)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.jsonl"):
        (tmp_path / name).write_bytes(b'"\xff"')
        with pytest.raises(ValueError, match=f"{name} is not UTF-8 text"):
            read_data([tmp_path / name])


def test_a_teacher_s_scores_belong_to_their_passages(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "pos": ["a", "b"], "neg": ["c"], "pos_scores": [3, 2.5], "neg_scores": [-1]},
        {"query": "Q", "pos": ["c"], "neg": ["d"], "pos_scores": None, "neg_scores": None},
    ]
    data = read_data([write_rows(tmp_path / "a.jsonl", *rows)])
    [question] = data.questions
    assert [data.passages[i].text for i in question.passages] == ["a", "b", "c"]
    scores = {data.passages[i].text: score for i, score in question.teacher_scores.items()}
    assert scores == {"a": 3, "b": 2.5, "c": -1}
    without = read_data(
        [write_rows(tmp_path / "b.jsonl", *({k: v for k, v in row.items() if k[3:] != "_scores"} for row in rows))]
    )
    assert without.questions == [Question("q", (0, 1, 2), negatives=(3,), source="b.jsonl")]
    assert without.digest != data.digest


def test_grades_become_targets_and_the_best_passage_comes_first(colors: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    for file in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / file).write_text((colors / file).read_text())
    (tmp_path / "qrels" / "train.tsv").write_text("qred\tred\t1\nqred\tblue\t4\nqred\tgreen\t0\nqblue\tblue\t2")
    red, blue = read_data([tmp_path]).questions
    assert (red.passages, red.negatives, blue.passages) == ((1, 0), (2,), (1,))
    assert [red.target(i) for i in range(4)] == [0.625, 1, 0, 0] and blue.target(1) == 0.75


def test_scores_of_pairs_become_targets_and_a_query_without_an_answer_a_label(tmp_path: Path) -> None:
    content = (
        "sentence1,sentence2,score\nq,good,0.9\nq,fair,0.5\nq,poor,0.2\nq,wrong,0\nr,fair,0.4\nr,poor,.1\nq,fair,.3"
    )
    data = read_text(tmp_path / "a.csv", content)
    [question] = data.questions
    assert (question.passages, question.negatives) == ((0, 1), (2, 3))
    assert [question.target(i) for i in range(4)] == [0.9, 0.5, 0.2, 0]
    assert data.texts == [LabelledText("fair", ("r",), (0.4,), "a.csv"), LabelledText("poor", ("r",), (0.1,), "a.csv")]


def test_columns_are_known_by_name_and_blanks_are_no_negatives(tmp_path: Path) -> None:
    rows = [{"negative": "n", "question": "q", "answer": "a"}, {"question": "r", "answer": "b", "negative": None}]
    data = read_data([write_rows(tmp_path / "a.jsonl", *rows)])
    assert [(q.text, q.passages, q.negatives) for q in data.questions] == [("q", (0,), (1,)), ("r", (2,), ())]
