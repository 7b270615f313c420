"""Two viewers over one cache, a cache deleted or damaged under a viewer, texts and numbers that sqlite cannot hold.

A viewer that lists a trajectory twice, or stops indexing without a word, misleads.
"""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.trajectory_store import INDEX_FILE, TrajectoryWriter
from evaluation.viewer.app import snapshot
from evaluation.viewer.catalogue import Catalogue
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory
from tests.evaluation.viewer.conftest import View
from tests.evaluation.viewer.sample_runs import samples, whole_run, write_questions, write_run
from tests.evaluation.viewer.test_pages import only_run, text_of


def test_two_viewers_over_one_cache_list_nothing_twice(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    first, second = (Catalogue([run], (), tmp_path / "cache") for _ in range(2))
    slow, fast = first._index(only_run(first)), second._index(only_run(second))
    take = slow._take_segment

    def overtaken(*arguments: object) -> int:
        assert fast.catch_up() == 8  # the other one reads the same lines between this one's look and its writing
        return take(*arguments)  # type: ignore[arg-type]

    slow._take_segment = overtaken  # type: ignore[method-assign]
    assert slow.catch_up() == 0
    slow._take_segment = take  # type: ignore[method-assign]
    assert snapshot(first, only_run(first))["trajectories"] == 8


def test_viewers_that_know_other_questions_do_not_undo_each_other(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: samples()}, questions=())
    own = write_questions(tmp_path / "own.jsonl", [QUESTION])
    viewers = [Catalogue([run], given, tmp_path / "cache") for given in ((), (own,), ())]
    for viewer in viewers:
        viewer.fill()
    assert [viewer.fill_once() for viewer in viewers * 2] == [0] * 6
    rights = []
    for viewer in viewers[:2]:
        with viewer.index(only_run(viewer)).reading() as database:
            rights.append(database.execute("SELECT count(*) FROM trajectory WHERE em = 1").fetchone()[0])
    assert rights == [0, 1]


def test_an_evaluation_that_ends_tells_right_and_wrong_of_what_was_read_before(view: View, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    with TrajectoryWriter(folder / "trajectories") as writer:
        writer.append(0, samples())
    client, catalogue = view(folder)
    address = f"/run/{only_run(catalogue).key}/trajectories?outcome=right"
    assert "0 of 2 trajectories" in text_of(client.get(address).text)
    columns = {"question_id": ["q1"], "question": [QUESTION.text], "golden_answers": [["Harald"]]}
    (folder / "evaluation.json").write_text(json.dumps({"em": 0.5, "per_question": columns}))
    catalogue.fill()
    assert "1 of 2 trajectories" in text_of(client.get(address).text)


@pytest.mark.parametrize("damage", ["deleted", "overwritten"])
def test_a_cache_that_is_deleted_or_damaged_under_a_viewer_is_made_anew(
    view: View, tmp_path: Path, damage: str
) -> None:
    client, catalogue = view(whole_run(tmp_path / "run"))
    address = f"/run/{only_run(catalogue).key}/trajectories"
    assert "8 of 8" in text_of(client.get(address).text)
    for file in (tmp_path / "cache").glob("*.sqlite*"):
        if damage == "deleted":
            file.unlink()
        else:
            file.write_bytes(b"no database at all, but text" * 400)
    catalogue.fill_once()
    catalogue.fill()
    assert "8 of 8" in text_of(client.get(address).text)


@pytest.mark.parametrize(
    "change", [{"offset": 10**30}, {"step": -(10**30)}, {"num_turns": 2**63}, {"scalars": {"reward": 10**400}}]
)
def test_numbers_that_sqlite_cannot_hold_stop_nothing(view: View, tmp_path: Path, change: dict[str, object]) -> None:
    run = whole_run(tmp_path / "run")
    index = run / "trajectories" / INDEX_FILE
    first, *others = index.read_text().splitlines()
    index.write_text("\n".join([json.dumps({**json.loads(first), **change}), *others]) + "\n")
    client, catalogue = view(run)
    page = text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text)
    assert "8 of 8 trajectories" in page if "scalars" in change else "1 line of the trajectories' index" in page


def test_a_line_nested_without_end_is_counted(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    for file in (run / "trajectories" / INDEX_FILE, run / "metrics.jsonl"):
        with file.open("a") as lines:
            lines.write("[" * 200_000 + "\n" + '{"step": Infinity}\n' + '{"step": 9, "em": 1' + "0" * 400 + "}\n")
    client, catalogue = view(run)
    page = text_of(client.get(f"/run/{only_run(catalogue).key}").text)
    assert "3 lines of the trajectories' index" in page and "2 lines of metrics.jsonl could not be read" in page


def test_texts_with_half_characters_are_indexed(view: View, tmp_path: Path) -> None:
    one = good_trajectory("a")
    odd = replace(one, turns=(*one.turns[:-1], answer_turn("\ud800 Harald")), unit_id="u\udfff", group_id="g\udfff")
    client, catalogue = view(write_run(tmp_path / "run", {1: [odd]}))
    key = only_run(catalogue).key
    assert snapshot(catalogue, only_run(catalogue))["read"] == 1 and not catalogue.faults
    page = client.get(f"/run/{key}/trajectory?id=a")
    assert page.status_code == 200 and "id=u%3F" in page.text
    assert client.get(f"/run/{key}/group?id=u%3F").status_code == 200


def test_a_run_that_cannot_be_indexed_says_so_and_the_others_go_on(
    view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run(tmp_path / "runs" / "a")
    whole_run(tmp_path / "runs" / "b")
    client, catalogue = view(tmp_path / "runs", fill=False)
    broken, fine = catalogue.runs
    monkeypatch.setattr(catalogue._index(broken), "read_records", lambda most: 1 / 0)
    catalogue.fill_once()
    assert "could not all be listed: ZeroDivisionError" in text_of(client.get(f"/run/{broken.key}").text)
    assert snapshot(catalogue, fine)["read"] == 8 and fine.key not in catalogue.faults


def test_looking_for_questions_keeps_nothing_of_runs_without_any(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: samples()}, questions=())
    catalogue = Catalogue([run], (), tmp_path / "cache")
    for _ in range(5):
        assert catalogue.question(only_run(catalogue), "q1") is None
    assert not catalogue.questions._evaluations


def test_an_index_that_another_viewer_holds_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_run(tmp_path / "run")
    Catalogue([run], (), tmp_path / "cache").fill()
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    before = file.stat().st_ino
    later = Catalogue([run], (), tmp_path / "cache")
    connect = sqlite3.connect
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **options: connect(*a, **{**options, "timeout": 0.05}))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            later._index(only_run(later))
        other.execute("ROLLBACK")
    assert file.stat().st_ino == before and later._index(only_run(later)).file == file
