"""An evaluation over a server is that over its index; what a server cannot give is told before anything runs."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.datasets import check_supports, check_supports_in
from envs.search_env import EpisodeLimits
from evaluation.comparability import describe_index
from evaluation.job import EvaluationJob, JobResult, run_job
from evaluation.trajectory_store import read_trajectories
from retrieval.index import build_index, open_index
from retrieval.opening import open_retriever
from retrieval.ready import ready_retriever
from retrieval.retriever import CorpusElsewhere
from tests.evaluation.conftest import SmallWorld
from tests.evaluation.long_query import CHARACTERS
from tests.retrieval.server.running import servers
from tests.retrieval.server.served import Served, served


@pytest.fixture(scope="module")
def server(small_world: SmallWorld) -> Iterator[Served]:
    """The small world's index in a process of its own."""
    with served("-m", "scripts.serve_index", str(small_world.index), "--port", "0") as running:
        yield running


def played(out: Path) -> list[Any]:
    """Every trajectory but for how long its searches took."""
    return [
        replace(
            trajectory,
            turns=tuple(
                replace(turn, calls=tuple(replace(call, latency_s=0.0) for call in turn.calls))
                for turn in trajectory.turns
            ),
        )
        for trajectory in sorted(
            (stored.trajectory for stored in read_trajectories(out / "trajectories")), key=lambda played: played.id
        )
    ]


def figures(result: JobResult) -> dict[str, Any]:
    """Every figure but for how long things took."""
    return {name: value for name, value in result.record().items() if name != "latency"}


def test_the_index_and_its_server_give_one_evaluation(
    job: EvaluationJob, small_world: SmallWorld, server: Served, tmp_path: Path
) -> None:
    here = run_job(replace(job, controls=True))
    there = run_job(
        replace(job, index=server.url, corpus_index=small_world.index, controls=True, out=tmp_path / "there")
    )
    assert played(job.out) == played(tmp_path / "there")
    assert figures(here) == figures(there), "controls, ceilings and the comparability block included"
    assert here.warnings == there.warnings and here.comparability["index"]["index_hash"]


def test_a_hybrid_of_two_and_a_hybrid_with_a_served_part_give_one_evaluation(
    job: EvaluationJob, small_world: SmallWorld, server: Served, tmp_path: Path
) -> None:
    okapi = tmp_path / "okapi"
    build_index(small_world.corpus, okapi, backend="rank_bm25")
    (tmp_path / "hybrid.yaml").write_text(f"hybrid: [{server.url}, {okapi}]\nrrf_k: 10\n")
    text = f"{{hybrid: [{small_world.index}, {okapi}], rrf_k: 10}}"
    here = run_job(replace(job, index=text))
    there = run_job(replace(job, index=tmp_path / "hybrid.yaml", out=tmp_path / "there"))
    assert played(job.out) == played(tmp_path / "there") and figures(here) == figures(there)
    block = here.comparability["index"]
    assert [part["backend"] for part in block["parts"]] == ["bm25s", "rank_bm25"] and block["settings"]["rrf_k"] == 10


def test_controls_over_a_server_name_what_needs_the_corpus(
    job: EvaluationJob, small_world: SmallWorld, server: Served, tmp_path: Path
) -> None:
    with pytest.raises(CorpusElsewhere, match=r"control random_retriever draws passages .*--corpus-index"):
        run_job(replace(job, index=server.url, controls=True))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "c-Oslo", "text": "another"}) + "\n")
    build_index(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"corpus_index .*other holds another corpus \(1 passages, .* than http"):
        run_job(replace(job, index=server.url, corpus_index=tmp_path / "other", controls=True))
    assert not job.out.exists()


def test_controls_by_default_leave_out_what_a_server_cannot_give(job: EvaluationJob, server: Served) -> None:
    result = run_job(replace(job, index=server.url, controls=True, skip_impossible_controls=True))
    assert {"closed_book", "single_search", "oracle_passages"} <= set(result.controls)
    assert "random_retriever" not in result.controls and "not_measured" in result.ceilings["coverage"]
    assert any("random_retriever draws passages from the corpus" in warning for warning in result.warnings)


def test_a_server_that_is_not_there_and_a_wrong_spec_are_told_before_anything_is_written(job: EvaluationJob) -> None:
    for spec, message in (
        ({"url": "http://127.0.0.1:9", "retries": 0}, "cannot be searched: .*Start its server"),
        ({"hybrid": ["a"]}, "hybrid: has 1 part"),
        ("nowhere.yaml", r"there is no retriever file nowhere\.yaml"),
        ("{hybrid: 5}", "retriever: hybrid: "),
    ):
        with pytest.raises(ValueError, match=message):
            run_job(replace(job, index=spec))
    assert not job.out.exists()


def test_a_servers_own_limit_is_told_before_anything_is_written(job: EvaluationJob, small_world: SmallWorld) -> None:
    with servers() as start, open_index(small_world.index) as index:
        url = start(index, max_k=1, default_k=1).url
        with pytest.raises(ValueError, match=r"422.*ask for 1 to 1 hits"):
            run_job(replace(job, index=url))


def test_a_query_longer_than_any_server_takes_is_refused_to_the_policy_and_ends_no_run(
    job: EvaluationJob, small_world: SmallWorld, server: Served, tmp_path: Path
) -> None:
    limits = EpisodeLimits(top_k=2, max_new_tokens_per_turn=20_000, max_trajectory_tokens=60_000)
    job = replace(job, policy="scripted:tests.evaluation.long_query:LongQueryPolicy", limits=limits)
    run_job(replace(job, out=tmp_path / "here"))
    run_job(replace(job, out=tmp_path / "served", index=server.url))
    here = played(tmp_path / "here")
    assert here == played(tmp_path / "served")
    for trajectory in here:
        refused, searched, _ = trajectory.turns
        assert refused.action.error == f"the query has {CHARACTERS} characters; at most 8192 are allowed"
        assert refused.calls == () and refused.observation_ids, "the policy is told, and nothing is searched"
        assert searched.calls[0].hits and trajectory.finish_reason == "answered"


def test_a_server_that_takes_shorter_queries_than_the_limits_allow_is_told_before_anything_is_written(
    job: EvaluationJob, small_world: SmallWorld
) -> None:
    with servers() as start, open_index(small_world.index) as index:
        url = start(index, max_query_chars=300).url
        for spec in (url, {"hybrid": [str(small_world.index), url]}):
            told = r"limits\.max_query_chars is 8192, and .* at most 300 are allowed.*lower it \(--max-query-chars of"
            with pytest.raises(ValueError, match=told):
                run_job(replace(job, index=spec))
        assert not job.out.exists()
        limits = job.limits.model_copy(update={"max_query_chars": 300})
        assert run_job(replace(job, index=url, limits=limits)).evaluation.summary["em"] == 1.0


def test_a_server_that_goes_away_ends_episodes_as_outages_and_the_figures_are_written(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    with served("-m", "scripts.serve_index", str(small_world.index), "--port", "0") as short_lived:
        gone = threading.Event()

        def leave(stage: str, done: int, total: int) -> None:
            if stage == "evaluating" and done == 2 and not gone.is_set():
                gone.set()
                short_lived.end()

        spec = {"url": short_lived.url, "retries": 0, "timeout_s": 5}
        result = run_job(replace(job, index=spec, max_batch=1), progress=leave)
    summary = result.evaluation.summary
    happened = {reason: count for reason, count in summary["finish_reasons"].items() if count}
    assert happened == {"answered": 2, "retrieval_outage": 3} and summary["num_outages"] == 3
    assert summary["em_without_outages"] == 1.0
    assert any("3 of 5 episodes ended because the retriever did not answer" in w for w in result.warnings)
    assert json.loads((job.out / "evaluation.json").read_text())["num_outages"] == 3


def test_the_supports_of_all_questions_are_few_requests(small_world: SmallWorld) -> None:
    with servers() as start, open_index(small_world.index) as index:
        running = start(index, max_queries=4)
        with open_retriever(running.url) as remote:
            assert check_supports_in(remote, small_world.questions) == check_supports(
                small_world.questions, index.__contains__
            )
            ids = [f"none-{i}" for i in range(7)] + ["c-Oslo", "", "\ud800", "c-Oslo"]
            assert remote.known_ids(ids) == {"c-Oslo"}
            assert "c-Oslo" in remote and "none" not in remote
        counts = [line for line in running.get("/metrics").text.splitlines() if "/access" in line and "200" in line]
        asked = sum(float(line.rsplit(" ", 1)[1]) for line in counts if "_total" in line or "_count" in line)
        assert 0 < asked <= 14, counts


def test_a_description_is_of_the_answers_and_not_of_the_place(small_world: SmallWorld, server: Served) -> None:
    with open_index(small_world.index) as here, open_retriever(server.url) as there:
        assert describe_index(here) == describe_index(there) == describe_index(here.manifest)
        assert dict(here.identity) == dict(there.identity)
        with ready_retriever(server.url, top_k=2, corpus_index=small_world.index) as both:
            assert describe_index(both) == describe_index(here)
            assert [p.id for p in both.corpus] == [p.id for p in here.corpus]
