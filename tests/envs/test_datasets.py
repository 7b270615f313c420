"""Question files: the real ones are read whole, broken ones are refused with file and line."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from envs.datasets import QuestionError, check_supports, parse_question, question_row, read_questions
from envs.question import Hop, Question

ROW = {"id": "q1", "question": "Who founded it ?", "golden_answers": ["Ada"], "supporting_ids": ["p1"]}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "questions", "hops"),
    [
        ("hotpotqa", 1316, 481),
        ("musique", 1563, 4278),
        ("2wikimultihopqa", 1071, 2622),
        ("bamboogle", 125, 250),
        ("scifact", 1109, 0),
    ],
)
def test_real_sets_are_read_whole(data_dir: Path, name: str, questions: int, hops: int) -> None:
    read = read_questions(data_dir / name / "questions.jsonl.gz")
    assert len(read) == questions
    assert sum(len(question.hops) for question in read) == hops
    assert all(question.golden_answers and question.split for question in read)


@pytest.mark.data
def test_real_supports_are_all_in_their_corpus(data_dir: Path) -> None:
    with gzip.open(data_dir / "musique" / "corpus.jsonl.gz", "rt") as lines:
        ids = {json.loads(line)["id"] for line in lines}
    check = check_supports(read_questions(data_dir / "musique" / "questions.jsonl.gz"), ids.__contains__)
    assert check.ok
    assert check.num_annotated == 1563


@pytest.mark.data
def test_musique_references_become_dependencies(data_dir: Path) -> None:
    question = read_questions(data_dir / "musique" / "questions.jsonl.gz")[0]
    assert question.hops[1].question == "Who led the military expedition in #1 ?"
    assert question.hops[1].depends_on == (0,)
    assert question.hops[0].answers == ("with Fujian",)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst"])
def test_packed_files_read_as_plain_ones(tmp_path: Path, suffix: str) -> None:
    packers = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
    path = tmp_path / f"questions{suffix}"
    path.write_bytes(packers.get(path.suffix, bytes)((json.dumps(ROW) + "\n").encode()))
    assert [question.id for question in read_questions(path)] == ["q1"]


def test_file_of_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    assert read_questions(write(tmp_path / "dev.txt", ROW))[0].text == "Who founded it ?"
    with pytest.raises(QuestionError, match="neither name nor content is of a known format"):
        read_questions(write(tmp_path / "dev.csv", "name,words", "a,b"))


def test_named_format_is_loaded_from_a_users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from envs.question import Question\ndef read(path):\n    yield Question(id='a', text='b', golden_answers=())"
    )
    (tmp_path / "users_format.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert read_questions(write(tmp_path / "any.csv", "x"), format="users_format:read")[0].id == "a"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "q2", "question"', "line 2: not JSON"),
        ("[1, 2]", "line 2: a question is a JSON object"),
        ({"id": "q2"}, "line 2: missing question; the line has id"),
        ({**ROW, "id": "q2", "question": 7}, "line 2: question must be a text"),
        ({**ROW, "id": "q2", "golden_answers": "Ada"}, "line 2: golden_answers must be a list of texts"),
        ({**ROW, "id": "q2", "supporting_ids": "p1"}, "line 2: supporting_ids must be a list of ids"),
        ({**ROW, "id": "q2", "supporting_ids": [3.5]}, "line 2: supporting_ids must be a text or a whole number"),
        ({**ROW, "id": True}, "line 2: id must be a text or a whole number, got True"),
        ({**ROW, "id": ["q2"]}, "line 2: id must be a text or a whole number"),
        ({**ROW, "id": "q2", "paraphrases": ["Who?", " "]}, "line 2: paraphrases must be texts that are not empty"),
        ({**ROW, "id": "q2", "question": "Who \ud800?"}, "line 2: question holds half a surrogate pair"),
        ({**ROW, "id": "q2", "golden_answers": ["\udfff"]}, "line 2: golden_answers holds half a surrogate pair"),
        ("[" * 100_000, "line 2: not a JSON object of this format"),
        ('{"id": "q2", "question": "x", "n": ' + "9" * 5_000 + "}", "line 2: not a JSON object of this format"),
        ({**ROW, "id": "q2", "decomposition": {}}, "line 2: decomposition must be a list"),
        ({**ROW, "id": "q2", "decomposition": [{"answer": "x"}]}, r"line 2: decomposition\[0\].question must be"),
        (
            {**ROW, "id": "q2", "decomposition": [{"question": "x", "depends_on": [0]}]},
            r"line 2: decomposition\[0\].depends_on must list earlier steps",
        ),
        (
            {**ROW, "id": "q2", "decomposition": [{"question": "x", "triple": ["a"]}]},
            r"line 2: decomposition\[0\].triple must be",
        ),
        (ROW, "line 2: id 'q1' is already used on line 1"),
    ],
)
def test_broken_line_is_refused_with_file_and_line(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path / "questions.jsonl", ROW, line)
    with pytest.raises(QuestionError, match=message) as caught:
        read_questions(path)
    assert str(path) in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_ids_may_be_numbers_as_in_a_corpus(tmp_path: Path) -> None:
    steps = [{"question": "Who?", "supporting_id": 12}]
    row = {"id": 7, "question": "Who?", "supporting_ids": [12, "b"], "decomposition": steps}
    [question] = read_questions(write(tmp_path / "questions.jsonl", row))
    assert (question.id, question.supporting_ids, question.hops[0].supporting_id) == ("7", ("12", "b"), "12")


def test_missing_and_empty_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no question file at .*give the path of a file"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(QuestionError, match="the file has no questions"):
        read_questions(write(tmp_path / "empty.jsonl"))


def test_a_cut_off_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROW).encode())[:-10])
    with pytest.raises(QuestionError, match=r"line 1: the \.gz compression breaks off here"):
        read_questions(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(json.dumps({**ROW, "question": "Zoë"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(QuestionError, match="not UTF-8"):
        read_questions(path)


def test_missing_supports_are_counted_and_listed() -> None:
    questions = [
        Question(id="a", text="?", golden_answers=(), supporting_ids=("p1", "p2")),
        Question(id="b", text="?", golden_answers=(), hops=(Hop(question="?", answers=(), supporting_id="p3"),)),
        Question(id="c", text="?", golden_answers=()),
    ]
    check = check_supports(questions, {"p1"}.__contains__)
    assert check.missing == (("a", "p2"), ("b", "p3"))
    assert check.incomplete_questions == ("a", "b")
    assert (check.num_questions, check.num_annotated, check.num_supports) == (3, 2, 3)
    assert check.message().startswith("2 of 3 supports are not in the corpus, in 2 of 3 questions: p2 (question a)")
    assert "more" not in check.message()


def test_many_missing_supports_are_told_in_short_and_listed_in_full() -> None:
    questions = [
        Question(id=f"q{i}", text="?", golden_answers=(), supporting_ids=(f"p{i}", f"r{i}")) for i in range(40)
    ]
    check = check_supports(questions, {"p0", "r0", "p1"}.__contains__)
    expected = {"q1": ["r1"]} | {f"q{i}": [f"p{i}", f"r{i}"] for i in range(2, 40)}
    assert check.missing_by_question == expected
    assert "r3 (question q3) and 72 more; evaluate-index --json lists all. Give the corpus" in check.message()
    assert "q4" not in check.message()


@pytest.mark.data
@pytest.mark.parametrize("name", ["musique", "2wikimultihopqa"])
def test_steps_are_written_with_the_keys_of_the_real_sets(data_dir: Path, name: str) -> None:
    with gzip.open(data_dir / name / "questions.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    steps = [step for row in rows for step in row["decomposition"]]
    written = [step for row in rows for step in question_row(parse_question(row))["decomposition"]]
    for ours, real in zip(written, steps, strict=True):
        assert ours.keys() >= real.keys() - {"question_filled"}  # which the world's generator adds
        assert ours["answers"] == ([ours["answer"]] if "answer" in ours else [])
        assert ours.get("answer") == real.get("answer")


def test_a_number_sign_that_names_no_earlier_step_is_text() -> None:
    steps = [{"question": "Who sang #1 Crush ?"}, {"question": "Where was #1 born ?"}]
    assert [hop.depends_on for hop in parse_question({**ROW, "decomposition": steps}).hops] == [(), (0,)]


texts = st.text(min_size=1).filter(str.strip)
tuples = st.lists(texts, max_size=3).map(tuple)
hops = st.builds(Hop, question=texts, answers=tuples, supporting_id=st.none() | texts)
questions = st.builds(
    Question,
    id=texts,
    text=texts,
    golden_answers=tuples,
    supporting_ids=tuples,
    paraphrases=tuples,
    split=st.none() | st.just("train"),
    kind=st.none() | st.just("bridge"),
    hops=st.lists(hops, max_size=3).map(tuple),
)


@given(questions)
def test_question_row_is_undone_by_parse_question(question: Question) -> None:
    assert parse_question(json.loads(json.dumps(question_row(question)))) == question
