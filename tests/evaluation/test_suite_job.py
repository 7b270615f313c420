"""Suites, presets, selection and budgets, and episodes sharded over Ray: from a folder of sets to figures."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.protocol import encode_prompt
from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from envs.question import Hop, Question
from envs.search_env import EpisodeLimits
from evaluation.evaluated_policy import load_scripted_policy
from evaluation.job import EvaluationJob, run_job
from evaluation.presets import PRESETS, with_preset
from evaluation.question_set import duplicated_questions, read_question_set, stratified_sample
from evaluation.suite_job import SUITES, run_suite, suite_sources
from evaluation.trajectory_store import read_trajectories
from retrieval.index import open_index
from tests.evaluation.conftest import SmallWorld


def test_a_suite_is_found_in_a_folder_evaluated_set_by_set_and_goes_on(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for name, file in (("hotpotqa", "questions.jsonl"), ("2wiki", "dev.jsonl"), ("musique", "test.jsonl")):
        (data / name).mkdir(parents=True)
        shutil.copy(small_world.questions_file, data / name / file)
    with pytest.raises(FileNotFoundError, match="lacks bamboogle of the suite multihop"):
        run_suite(job, "multihop", data=data)
    (data / "Bamboogle").mkdir()
    (data / "Bamboogle" / "test.csv").write_text("Question,Answer\nWho is king of Norway?,nobody\n")
    shutil.copytree(small_world.index, tmp_path / "indexes" / "hotpotqa")
    for name in SUITES["multihop"][1:]:
        shutil.copytree(small_world.index, tmp_path / "indexes" / name)
    job = replace(job, policy="scripted:closed_book", index=f"{tmp_path}/indexes/{{set}}")
    result = run_suite(job, "multihop", data=data)
    assert list(result.sets) == ["hotpotqa", "2wikimultihopqa", "musique", "bamboogle"]
    means = [figures["em"] for figures in result.sets.values()]
    assert result.macro["em"] == pytest.approx(sum(means) / 4) and result.macro["n"] == 16
    assert result.macro["em_low"] <= result.macro["em"] <= result.macro["em_high"]
    assert result.macro["support_recall"] is None, "a mean over some of the sets would be another figure"
    assert json.loads((job.out / "suite.json").read_text())["sets"]["musique"]["n"] == 5
    shutil.rmtree(job.out / "musique")
    told: list[str] = []
    again = run_suite(job, "multihop", data=data, progress=lambda stage, done, total: told.append(stage))
    assert {stage.partition(":")[0] for stage in told} == {"musique"}, "what is there is not played again"
    assert again.macro == result.macro
    with pytest.raises(ValueError, match="holds an evaluation that differs in seed"):
        run_suite(replace(job, seed=3), "multihop", data=data)
    with pytest.raises(ValueError, match="differs in policy"):
        run_suite(replace(job, policy="scripted:refuser"), "multihop", data=data)
    with pytest.raises(ValueError, match="differs in noise, protocol"):
        run_suite(replace(job, protocol="search_r1", noise=0.5), "multihop", data=data)


def test_suites_of_the_hub_and_unknown_ones() -> None:
    sources = suite_sources("search_r1", None)
    assert list(sources) == ["nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle"]
    assert sources["nq"] == "RUC-NLPIR/FlashRAG_datasets:nq"
    with pytest.raises(ValueError, match="there are multihop, search_r1"):
        suite_sources("everything", None)


def questions(*groups: tuple[str, int, int]) -> list[Question]:
    return [
        Question(
            id=f"{kind}-{hops}-{i}",
            text=f"{kind} {hops} {i}?",
            golden_answers=("x",),
            kind=kind,
            hops=(Hop(question="?", answers=("x",)),) * hops,
        )
        for kind, hops, count in groups
        for i in range(count)
    ]


def test_a_budget_keeps_the_mix_and_the_order() -> None:
    whole = questions(("bridge", 2, 60), ("bridge", 3, 25), ("comparison", 2, 15))
    sample = stratified_sample(whole, 20, seed=1)
    assert Counter((q.kind, len(q.hops)) for q in sample) == {
        ("bridge", 2): 12,
        ("bridge", 3): 5,
        ("comparison", 2): 3,
    }
    assert sample == [question for question in whole if question in sample]
    assert stratified_sample(whole[::-1], 20, seed=1)[::-1] == sample, "the order of a file decides nothing"
    assert stratified_sample(whole, 20, seed=2) != sample
    assert len(stratified_sample(whole, 7, seed=1)) == 7 and stratified_sample(whole, 500) == whole


def test_duplicates_and_questions_without_golds_are_told(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "Who is it?", "golden_answers": ["x"]},
        {"id": "b", "question": "who is IT", "golden_answers": ["The x"]},
        {"id": "c", "question": "Who?", "golden_answers": []},
        {"id": "d", "question": "What?", "golden_answers": ["The"]},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_question_set(tmp_path / "q.jsonl", budget=4)
    assert duplicated_questions(found.questions) == ["b"]
    assert found.counts == {"num_duplicated_questions": 1, "num_without_golds": 1}
    duplicate, empty, blank = found.warnings
    assert "1 questions repeat another (b)" in duplicate and "1 of 4 questions have no golden answers (c)" in empty
    assert "normalisation leaves nothing (d)" in blank
    assert found.record["budget"] == 4 and found.record["asked"]["number"] == 4


def test_questions_without_golds_leave_em_and_stay_in_the_evidence(job: EvaluationJob, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(job.questions).read_text().splitlines()]
    for row in rows[:2]:
        row["golden_answers"] = []
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run_job(replace(job, questions=tmp_path / "some.jsonl", policy="scripted:refuser"))
    record = json.loads((job.out / "evaluation.json").read_text())
    assert record["per_question"]["em"][:2] == [None, None] and record["num_without_golds"] == 2
    assert result.evaluation.summary["n"] == 5


def test_the_search_r1_preset_is_that_systems_setting(job: EvaluationJob) -> None:
    """`infer.py` and `generation.py`: topk 3, max_turns 4 and a last one, 500 tokens a turn and an observation."""
    plain = replace(job, limits=EpisodeLimits())
    preset = with_preset(plain, "search_r1")
    assert (preset.protocol, preset.temperature, preset.samples, preset.preset) == ("search_r1", 0.0, 1, "search_r1")
    limits = preset.limits
    assert (limits.top_k, limits.max_turns, limits.max_new_tokens_per_turn, limits.max_observation_tokens) == (
        *(3, 5, 500),
        500,
    )
    with pytest.raises(ValueError, match="fixes top_k at 3, and 5 was given"):
        with_preset(replace(plain, limits=EpisodeLimits(top_k=5)), "search_r1")
    with pytest.raises(ValueError, match="fixes max_turns at 5, and 4 was given"):
        with_preset(plain, "search_r1", typed={"max_turns"})
    with pytest.raises(ValueError, match="fixes temperature"):
        with_preset(replace(plain, temperature=0.7), "search_r1")
    with pytest.raises(ValueError, match="there are search_r1"):
        with_preset(plain, "search_r2")


GOLDEN = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. Question: "
    "Who is the king of the country whose capital is Oslo?\n"
)
OBSERVATION = (
    "\n\n<information>Doc 1(Title: Oslo) Oslo is the capital of Norway.\n"
    "Doc 2(Title: Stockholm) Stockholm is the capital of Sweden.\n"
    "Doc 3(Title: Copenhagen) Copenhagen is the capital of Denmark.</information>\n\n"
)
"""`generation.py` strips the passages, a line `Doc i(Title: t) text` each, and writes two line breaks on both sides."""


def test_an_episode_under_the_preset_is_search_r1s_text(job: EvaluationJob, small_world: SmallWorld) -> None:
    """A golden transcript through `evaluate`: prompt, tags, passages and their numbering, byte for byte."""
    run_job(with_preset(replace(job, limits=EpisodeLimits(), limit=1), "search_r1"))
    [read] = list(read_trajectories(job.out / "trajectories"))
    block = json.loads((job.out / "evaluation.json").read_text())["comparability"]
    assert block["preset"] == "search_r1" and block["protocol"]["name"] == "search_r1"
    assert set(PRESETS["search_r1"].deviations) <= set(block["deviations"])
    first = read.trajectory.turns[0]
    assert [call.argument for call in first.calls] == ["Oslo capital of"] and len(first.shown) == 3
    protocol = load_protocol("search_r1")
    with open_index(small_world.index) as index:
        tokenizer = load_scripted_policy("expert", protocol, small_world.questions[:1], index, top_k=3).tokenizer
    assert read.trajectory.prompt_ids == encode_prompt(protocol, small_world.questions[0].text, tokenizer)
    assert tokenizer.decode(list(read.trajectory.prompt_ids)) == GOLDEN
    assert tokenizer.decode(list(first.observation_ids)) == OBSERVATION


def test_controls_and_ceilings_of_a_policy_that_reads_gold(job: EvaluationJob) -> None:
    result = run_job(replace(job, controls=True, limit=2))
    controls = result.controls
    assert controls["oracle_passages"]["support_recall"] == 1.0 and controls["oracle_passages"]["not_annotated"] == 0
    assert controls["question_search"]["searches_per_question"] >= 1
    assert result.ceilings["coverage"]["coverage_supports"] == 1.0
    assert result.ceilings["oracle_passages"]["answer_found"] == 1.0
    assert result.ceilings["oracle_decomposition"]["answer_found"] == 1.0


def test_a_control_that_nothing_is_annotated_for_says_so(job: EvaluationJob, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("Question,Answer\nWho is king of Norway?,Harald\n")
    plain = replace(job, questions=tmp_path / "plain.csv", policy="scripted:closed_book", controls=True)
    result = run_job(plain)
    told = result.controls["oracle_decomposition"]
    assert told == {"n": 0, "not_annotated": 1, "needs": "hops with answers (decomposition)"}
    assert "not annotated" in (job.out / "report.html").read_text()


@pytest.mark.slow
def test_episodes_sharded_over_ray_are_those_of_one_process(job: EvaluationJob, tmp_path: Path) -> None:
    job = replace(job, policy="scripted:noisy", controls=True, robustness=True)
    here = run_job(replace(job, out=tmp_path / "here"))
    there = run_job(replace(job, ray_address="local", ray_workers=2))
    mine, theirs = here.record(), there.record()
    for name in ("latency", "boundary_f1"):
        mine.pop(name), theirs.pop(name)
    assert mine == theirs


@pytest.mark.slow
def test_a_policy_sampled_by_engines_on_ray_answers_as_in_one_process(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    texts = [question.text for question in small_world.questions]
    model = build_tiny_policy(
        tmp_path / "model", texts, protocol=small_world.protocol, hidden_size=32, num_layers=2, vocab_size=600
    )
    job = replace(job, policy=str(model), samples=2, temperature=1.0)
    run_job(replace(job, out=tmp_path / "here"))
    run_job(replace(job, ray_address="local", ray_workers=2, ray_engines=2))
    here, there = (read_trajectories(out / "trajectories") for out in (tmp_path / "here", job.out))
    tokens = [{one.trajectory.id: one.trajectory.token_ids.tolist() for one in stored} for stored in (here, there)]
    assert len(tokens[0]) == 10 and tokens[0] == tokens[1]
