"""A file is read whole or not at all: what is broken, repeated, missing or newer is refused in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.question import Hop, Question
from evaluation.evaluation_file import read_evaluation
from evaluation.question_columns import question_columns
from tests.evaluation.episodes import QUESTION, good_trajectory
from tests.evaluation.evaluations import block, record, write


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", record([1.0, 0.0, 1.0], f2=[0.5, None, 1.0]))
    for path in (folder, folder / "evaluation.json"):
        file = read_evaluation(path)
        assert file.question_ids == ("q0", "q1", "q2")
        assert file.figures["em"].tolist() == [1.0, 0.0, 1.0]
        assert np.isnan(file.figures["f2"][1])
        assert file.texts["answers"] == [["gold"], ["wrong"], ["gold"]]
        assert file.summary["n"] == 3
        assert "per_question" not in file.summary
        assert file.controls["closed_book"]["em"] == 0.1
        assert file.trajectories is None
    assert read_evaluation(folder).taken(("q2", "q0")).figures["em"].tolist() == [1.0, 1.0]


def test_a_file_of_the_first_format_has_no_texts_and_is_read(tmp_path: Path) -> None:
    written = record([1.0, 0.0], texts=False, comparability=block(encoder=None, metric_version=None))
    del written["format"], written["controls"]
    file = read_evaluation(write(tmp_path / "old", written))
    assert file.texts == {}
    assert file.num_questions == 2
    assert "metric_version" not in file.comparability


def _changed(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda written: json.dumps({**written, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda written: json.dumps(written)[:-40], "not JSON .* cut off or edited"),
        (lambda written: "[1, 2]", "holds a list, not an evaluation"),
        (_changed(format=99), "format 99.*up to 2.*newer one; update Waymark"),
        (_changed(format="x"), "format 'x'"),
        (_changed(per_question=None), "no figures per question"),
        (_changed(per_question={"question_id": [], "em": []}), "has no question"),
        (_changed(per_question={"question_id": ["a", "b", "a"], "em": [1, 0, 1]}), "1 questions twice, first 'a'"),
        (_changed(per_question={"question_id": ["a", "b"], "em": [1.0]}), "per_question.em has 1 entries for 2"),
        (
            _changed(per_question={"question_id": ["a"], "em": [float("inf")]}),
            "per_question.em holds an infinite number",
        ),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, text: Callable[[dict[str, Any]], str], message: str) -> None:
    (tmp_path / "evaluation.json").write_text(text(record([1.0, 0.0])))
    with pytest.raises(ValueError, match=message):
        read_evaluation(tmp_path)


def test_a_folder_without_a_file_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no evaluation at"):
        read_evaluation(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no evaluation\.json"):
        read_evaluation(tmp_path)
    (tmp_path / "trajectories").mkdir()
    with pytest.raises(FileNotFoundError, match="is half written"):
        read_evaluation(tmp_path)


def test_columns_say_what_was_asked_and_answered() -> None:
    bare = Question(id="q2", text="And who?", golden_answers=())
    columns = question_columns(["q2", "q1"], [QUESTION, bare], [good_trajectory(), good_trajectory("t2")])
    assert columns["question"] == ["And who?", QUESTION.text]
    assert columns["num_hops"] == [None, 2]
    assert columns["kind"] == [None, "bridge"]
    assert columns["answers"] == [[], ["Harald", "Harald"]]
    assert columns["finish_reasons"] == [[], ["answered", "answered"]]
    assert isinstance(QUESTION.hops[0], Hop)
