"""Runs are compared on the same questions or not at all."""

from pathlib import Path

import pytest

from evaluation.evaluation_suite import read_suites, same_questions
from tests.evaluation.evaluations import record, write


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    paths = [write(tmp_path / run / "dev", record([1.0])) for run in ("first", "second")]
    assert [suite.name for suite in read_suites(paths)] == ["first/dev", "second/dev"]
    assert [suite.name for suite in read_suites([paths[0], write(tmp_path / "x" / "test", record([1.0]))])] == [
        "dev",
        "test",
    ]
    assert read_suites([paths[0] / "evaluation.json"])[0].name == "dev"


def test_a_folder_of_evaluations_is_a_suite(tmp_path: Path) -> None:
    for name in ("hotpotqa", "musique"):
        write(tmp_path / "run" / name, record([1.0, 0.0]))
    (tmp_path / "run" / "logs").mkdir()
    suite = read_suites([tmp_path / "run"])[0]
    assert list(suite.sets) == ["hotpotqa", "musique"]
    assert suite.num_questions == 4


def test_the_order_of_questions_does_not_matter(tmp_path: Path) -> None:
    first = write(tmp_path / "a", record([1.0, 0.0, 0.0], ids=["x", "y", "z"]))
    second = write(tmp_path / "b", record([0.0, 0.0, 1.0], ids=["z", "y", "x"]))
    (a, b), left_out = same_questions(read_suites([first, second]))
    assert left_out == []
    for suite in (a, b):
        assert next(iter(suite.sets.values())).figures["em"].tolist() == [1.0, 0.0, 0.0]


def test_different_questions_are_refused_and_the_common_ones_compared_where_asked(tmp_path: Path) -> None:
    first = write(tmp_path / "a", record([1.0, 0.0, 1.0], ids=["x", "y", "z"]))
    second = write(tmp_path / "b", record([0.0, 1.0], ids=["w", "x"]))
    suites = read_suites([first, second])
    with pytest.raises(
        ValueError, match=r"2 of the 3 questions of a .* first 'y'(.|\n)*1 of the 2(.|\n)*--common-questions"
    ):
        same_questions(suites)
    (a, b), left_out = same_questions(suites, common_only=True)
    assert a.num_questions == b.num_questions == 1
    assert len(left_out) == 2
    third = write(tmp_path / "c", record([1.0], ids=["other"]))
    with pytest.raises(ValueError, match="no question in common"):
        same_questions(read_suites([first, third]), common_only=True)


def test_a_suite_that_lacks_a_set_is_named(tmp_path: Path) -> None:
    for run, sets in (("a", ("one", "two", "three")), ("b", ("one", "two"))):
        for name in sets:
            write(tmp_path / run / name, record([1.0]))
    suites = read_suites([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="question set three: b has no evaluation of it"):
        same_questions(suites)
    assert list(same_questions(suites, common_only=True)[0][0].sets) == ["one", "two"]


def test_a_suite_that_was_broken_off_is_not_compared_as_a_smaller_one(tmp_path: Path) -> None:
    write(tmp_path / "run" / "hotpotqa", record([1.0, 0.0]))
    (tmp_path / "run" / "musique" / "trajectories").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=r"run is half written: musique has trajectories but no evaluation\.json"
    ):
        read_suites([tmp_path / "run"])


def test_one_id_for_two_questions_is_refused(tmp_path: Path) -> None:
    written = record([1.0])
    written["per_question"]["question"] = ["Something else?"]
    suites = read_suites([write(tmp_path / "a", record([1.0])), write(tmp_path / "b", written)])
    with pytest.raises(ValueError, match=r"'q0' is 'What is q0.' in a and 'Something else.' in b"):
        same_questions(suites)


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", record([1.0]))
    with pytest.raises(ValueError, match="given twice"):
        read_suites([folder, tmp_path / "a" / ".." / "a"])
