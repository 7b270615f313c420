"""An outage is asked again, then counted as wrong and shown apart; too many of them void the figures."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from envs.episode import EpisodeSpec
from evaluation.job import EvaluationJob, run_job
from evaluation.outages import play_all, validity
from evaluation.pinned_controls import PINNED_CONTROLS
from evaluation.predictions import read_predictions
from evaluation.stored_episodes import StoredEpisodes
from evaluation.trajectory_store import read_trajectories
from retrieval.retriever import RetrievalError
from tests.evaluation.conftest import SmallWorld
from tests.evaluation.episodes import QUESTION, answer_turn, trajectory


class Failing:
    """Ends each episode as an outage so many times before it answers."""

    def __init__(self, times: dict[str, int]) -> None:
        self.left = dict(times)
        self.asked: list[str] = []

    def submit(self, specs):
        futures = []
        for spec in specs:
            self.asked.append(spec.id)
            future = asyncio.get_running_loop().create_future()
            lost = self.left.get(spec.id, 0) > 0
            self.left[spec.id] = self.left.get(spec.id, 0) - 1
            turns = () if lost else (answer_turn("Harald"),)
            future.set_result(trajectory(*turns, id=spec.id, finish_reason="retrieval_outage" if lost else "answered"))
            futures.append(future)
        return futures


def specs(*ids: str) -> list[EpisodeSpec]:
    return [EpisodeSpec(id=id_, question=QUESTION, unit_id=id_, group_id=id_) for id_ in ids]


async def test_only_what_was_lost_is_asked_again_and_what_comes_back_is_stored_once(tmp_path: Path) -> None:
    inner = Failing({"eval-b": 1, "eval-c": 9})
    with StoredEpisodes(inner, tmp_path) as episodes:
        played = await play_all(episodes, specs("eval-a", "eval-b", "eval-c"), retries=2, pause_s=0.0)
    assert inner.asked == ["eval-a", "eval-b", "eval-c", "eval-b", "eval-c", "eval-c"]
    assert [t.finish_reason for t in played] == ["answered", "answered", "retrieval_outage"]
    assert [entry.id for entry in read_trajectories(tmp_path).entries] == ["eval-a", "eval-b"]
    with StoredEpisodes(Failing({}), tmp_path) as again:
        assert again.count(specs("eval-a", "eval-b", "eval-c")) == 2, "the outage is asked again by a later run"


async def test_an_outage_that_is_stored_is_stored_once_however_often_an_evaluation_goes_on(tmp_path: Path) -> None:
    lost = trajectory(id="eval-c", finish_reason="retrieval_outage")
    for _ in range(3):
        with StoredEpisodes(Failing({}), tmp_path) as episodes:
            episodes.keep([lost])
    assert [entry.id for entry in read_trajectories(tmp_path).entries] == ["eval-c"]


async def test_stored_trajectories_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    with StoredEpisodes(Failing({}), tmp_path) as episodes:
        played = await play_all(episodes, specs("eval-a", "eval-b"))
    inner = Failing({})
    with StoredEpisodes(inner, tmp_path) as again:
        assert await play_all(again, specs("eval-b", "eval-a")) == played[::-1] and inner.asked == []


async def test_a_full_disk_ends_the_evaluation_and_is_not_swallowed(tmp_path: Path) -> None:
    episodes = StoredEpisodes(Failing({}), tmp_path)

    def full(trajectories):
        raise OSError(28, "No space left on device")

    episodes.keep = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space"):
        await play_all(episodes, specs("eval-a"), retries=0)


def test_one_per_cent_is_valid_and_more_is_not() -> None:
    counts = {"num_trajectories": 200, "em_without_outages": 0.5}
    assert validity({**counts, "num_outages": 2})["valid"] is True
    worse = validity({**counts, "num_outages": 3})
    assert worse["valid"] is False and "without them EM is 0.500" in worse["invalid_because"]


@pytest.fixture
def job(small_world: SmallWorld, tmp_path: Path) -> EvaluationJob:
    return EvaluationJob(
        policy=f"predictions:{tmp_path / 'said.jsonl'}",
        index=small_world.index,
        questions=small_world.questions_file,
        out=tmp_path / "out",
        controls=True,
    )


def write(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_missing_predictions_count_as_wrong_and_make_the_figures_invalid(job: EvaluationJob, tmp_path: Path) -> None:
    supports = ["c-Oslo", "k-Norway"]
    write(tmp_path, [{"id": "q-Oslo", "answer": "Harald", "supports": supports}, {"id": "q-Madrid", "answer": "no"}])
    result = run_job(job)
    summary = result.evaluation.summary
    assert (summary["em"], summary["em_without_outages"], summary["num_outages"]) == (0.2, 0.5, 3)
    assert summary["support_f1"] == 0.2 and result.figures["valid"] is False
    assert result.warnings[0].startswith("INVALID: 3 of 5 episodes (60.0%)")
    assert "INVALID" in (job.out / "report.html").read_text()
    record = json.loads((job.out / "evaluation.json").read_text())
    assert record["valid"] is False and record["controls"] == {} and record["ceilings"]["coverage"]


def test_predictions_scored_again_after_a_kill_are_stored_once_and_must_be_the_same(
    job: EvaluationJob, tmp_path: Path
) -> None:
    write(tmp_path, [{"id": "q-Oslo", "answer": "Harald"}])
    run_job(job)
    (job.out / "evaluation.json").unlink()
    run_job(job)
    assert len(read_trajectories(job.out / "trajectories")) == 5
    (job.out / "evaluation.json").unlink()
    write(tmp_path, [{"id": "q-Oslo", "answer": "Carl"}])
    with pytest.raises(ValueError, match="interrupted evaluation that differs in inputs"):
        run_job(job)


@pytest.mark.parametrize(("times", "counted"), [(1, 5), (9, 0)])
def test_a_control_whose_searches_are_not_answered_is_asked_again_and_then_left_out(
    job: EvaluationJob, monkeypatch: pytest.MonkeyPatch, times: int, counted: int
) -> None:
    control, left = PINNED_CONTROLS["question_search"], [times]

    def pinned(retriever, questions, k):
        left[0] -= 1
        if left[0] >= 0:
            raise RetrievalError("no answer")
        return control.pinned(retriever, questions, k)

    monkeypatch.setitem(PINNED_CONTROLS, "question_search", replace(control, pinned=pinned))  # type: ignore[arg-type]
    result = run_job(replace(job, policy="scripted:refuser", outage_pause_s=0.0))
    assert result.controls["question_search"]["n"] == counted and result.controls["oracle_passages"]["n"] == 5
    assert any("question_search is missing" in line for line in result.warnings) is (counted == 0)


def test_unknown_and_repeated_ids_and_other_forms_are_refused(job: EvaluationJob, tmp_path: Path) -> None:
    write(tmp_path, [{"id": "q-Oslo", "answer": "x"}, {"id": "q-Atlantis", "answer": "Neptune"}])
    with pytest.raises(ValueError, match=r"answers 1 questions that are not among the 5 asked \(first: q-Atlantis\)"):
        run_job(job)
    write(tmp_path, [{"id": "q-Oslo", "answer": "x"}, {"id": "q-Oslo", "answer": "y"}])
    with pytest.raises(ValueError, match="'q-Oslo' is answered twice"):
        run_job(job)
    write(tmp_path, [{"id": "q-Oslo", "said": "x"}, {"id": "q-Madrid", "answer": "y"}])
    with pytest.raises(ValueError, match="row 1: a prediction is an object with id and answer"):
        run_job(job)
    with pytest.raises(ValueError, match="so no --robustness"):
        run_job(replace(job, robustness=True))
    with pytest.raises(FileNotFoundError, match="no predictions at"):
        run_job(replace(job, policy="predictions:nowhere.json"))
    assert not job.out.exists()


def test_hotpotqas_own_prediction_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pred.json"
    path.write_text(json.dumps({"answer": {"q1": "Harald"}, "sp": {"q1": [["p1", 0], ["p1", 2], ["p2", 1]]}}))
    [read] = read_predictions(path, [QUESTION])
    assert read.final_answer == "Harald"
    assert [shown.passage_id for shown in read.turns[0].shown] == ["p1", "p2"]
    path.write_text(json.dumps({"q1": "Harald"}))
    assert read_predictions(path, [QUESTION])[0].final_answer == "Harald"
