"""From files to files: what `waymark evaluate` reads, refuses and leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.tiny import build_tiny_policy
from envs.search_env import EpisodeLimits
from evaluation.controls import CONTROLS
from evaluation.job import EvaluationJob, run_job
from evaluation.pinned_controls import PINNED_CONTROLS
from evaluation.trajectory_store import read_trajectories
from tests.evaluation.conftest import SmallWorld


def test_an_evaluation_leaves_figures_trajectories_and_a_report(job: EvaluationJob) -> None:
    stages: list[tuple[str, int, int]] = []
    result = run_job(replace(job, controls=True), progress=lambda *stage: stages.append(stage))
    record = json.loads((job.out / "evaluation.json").read_text())
    assert record["n"] == 5
    assert record["em"] == 1.0
    assert len(record["per_question"]["em"]) == 5
    assert set(record["controls"]) == {*CONTROLS, *PINNED_CONTROLS}
    assert record["retrieval"]["oracle_decomposition"]["hop_recall@5"] == 1.0
    assert record["comparability"]["index"]["num_passages"] == 10
    assert record["comparability"]["limits"]["top_k"] == 2
    assert record["comparability"]["chat_template"] == {"sha256": None}, "known not to be there, not unknown"
    assert record["comparability"]["questions"]["name"] == "questions.jsonl"
    assert len(read_trajectories(job.out / "trajectories")) == 5
    page = (job.out / "report.html").read_text()
    assert "Evaluation of scripted:expert" in page
    assert "What searching can find" in page
    assert ("evaluating", 5, 5) in stages
    assert ("single_search", 5, 5) in stages
    assert any("reads the gold annotations" in warning for warning in result.warnings)


def test_a_hugging_face_folder_is_evaluated_and_again_alike(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    texts = [question.text for question in small_world.questions]
    model = build_tiny_policy(
        tmp_path / "model", texts, protocol=small_world.protocol, hidden_size=32, num_layers=2, vocab_size=600
    )
    job = replace(job, policy=str(model))
    first, second = run_job(job), run_job(replace(job, out=tmp_path / "again", max_batch=3))
    summary = first.evaluation.summary
    assert summary == second.evaluation.summary
    assert summary["em"] == 0.0
    assert sum(summary["finish_reasons"].values()) == 5
    assert first.comparability["model"]["weights_sha256"]
    assert first.comparability["decoding"]["context_window"] == 1024
    assert first.warnings == ()


def test_a_guesser_takes_its_answers_from_another_file(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    other = tmp_path / "train.jsonl"
    other.write_text(json.dumps({"id": "t", "question": "Who?", "golden_answers": ["Harald"]}) + "\n")
    result = run_job(replace(job, policy="scripted:closed_book", answers_from=other))
    assert result.evaluation.summary["em"] == 0.2
    assert result.warnings == ()
    assert result.evaluation.summary["searches_per_question"] == 0.0


def test_the_first_questions_only(job: EvaluationJob) -> None:
    result = run_job(replace(job, limit=2))
    assert result.evaluation.summary["n"] == 2
    assert result.comparability["question_limit"] == 2


def test_supports_outside_the_corpus_are_counted_in_the_report(job: EvaluationJob, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in job.questions.read_text().splitlines()]
    rows[0]["supporting_ids"][0] = "nowhere"
    broken = tmp_path / "broken.jsonl"
    broken.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run_job(replace(job, questions=broken))
    assert "nowhere" in result.warnings[0]
    assert "not in the corpus" in json.loads((job.out / "report.json").read_text())["summary"][1]


def test_an_evaluation_is_not_overwritten_unasked(job: EvaluationJob) -> None:
    run_job(job)
    with pytest.raises(ValueError, match="--overwrite"):
        run_job(job)
    run_job(replace(job, overwrite=True, limit=3))
    assert len(read_trajectories(job.out / "trajectories")) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_trajectories_of_a_training_run_are_not_taken_for_an_earlier_evaluation(
    job: EvaluationJob, overwrite: bool
) -> None:
    (job.out / "trajectories").mkdir(parents=True)
    (job.out / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds other files \(metrics.jsonl\); give --out a folder of its own"):
        run_job(replace(job, overwrite=overwrite))
    assert (job.out / "trajectories").is_dir()


def test_a_file_is_no_folder_to_write_to(job: EvaluationJob, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="out is a file; name a folder"):
        run_job(job)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"dtype": "float16"}, "dtype is 'float16'; allowed: float32, bfloat16"),
        ({"samples": 2, "policy": "some/model"}, "every sample is the same"),
        ({"limits": EpisodeLimits(top_k=11)}, "top_k is 11, but the index .* holds only 10 passages"),
        ({"policy": "scripted:wizard"}, "no policy is named 'wizard'"),
        ({"protocol": "telepathy"}, "telepathy"),
    ],
)
def test_bad_input_says_what_to_do(job: EvaluationJob, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_job(replace(job, **changes))  # type: ignore[arg-type]
    assert not job.out.exists(), "nothing is written before everything is checked"


def test_a_folder_without_a_tokenizer_or_an_index_is_refused(job: EvaluationJob, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="tokenizer"):
        run_job(replace(job, policy=str(tmp_path / "empty")))
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        run_job(replace(job, index=tmp_path / "nothing-here"))


def test_a_prompt_longer_than_the_models_window_is_refused(
    job: EvaluationJob, small_world: SmallWorld, tmp_path: Path
) -> None:
    texts = [question.text for question in small_world.questions]
    model = build_tiny_policy(
        tmp_path / "model",
        texts,
        protocol=small_world.protocol,
        hidden_size=32,
        num_layers=1,
        vocab_size=600,
        max_position_embeddings=16,
    )
    with pytest.raises(ValueError, match="context window is 16"):
        run_job(replace(job, policy=str(model)))
