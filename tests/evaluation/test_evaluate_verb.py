"""The verb as a user runs it: exit codes, messages that say what to do, and one run as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.tiny import build_tiny_policy
from evaluation.trajectory_store import read_trajectories
from scripts.cli import main
from tests.agent.engines.test_openai_engine import Server
from tests.evaluation.conftest import SmallWorld

ROOT = Path(__file__).resolve().parents[2]


def _arguments(small_world: SmallWorld, out: Path) -> list[str]:
    files = ["--index", str(small_world.index), "--questions", str(small_world.questions_file)]
    return ["scripted:expert", *files, "--out", str(out)]


def test_the_verb_prints_figures_and_writes_json(small_world: SmallWorld, tmp_path: Path) -> None:
    arguments = [*_arguments(small_world, tmp_path / "out"), "--json", str(tmp_path / "figures.json"), "--controls"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.evaluate", *arguments, "--top-k", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    for text in ("Exact match", "closed_book", "random_retriever", "oracle decomposition", "answered 5", "report.html"):
        assert text in done.stdout, text
    figures = json.loads((tmp_path / "figures.json").read_text())
    keys = {"n", "em", "f1", "subem", "support_recall", "citation_precision", "citation_recall"}
    assert keys | {f"{key}_low" for key in keys - {"n"}} <= set(figures)
    assert {"searches_per_question", "tokens_per_question", "finish_reasons", "comparability"} <= set(figures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--top-k", "11"), "lower it"),
        (("--top-k", "0"), "--top-k: 0 is too small"),
        (("--questions", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--protocol", "telepathy"), "telepathy"),
        (("--preset", "search_r1", "--max-turns", "4"), "fixes max_turns at 5, and 4 was given"),
        (("--max-new-tokens-per-turn", "5000"), "max_trajectory_tokens"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(
    small_world: SmallWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *_arguments(small_world, tmp_path / "out"), *changes])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


class _Served(Server):
    """A server whose policy always says one text, with its ids in the policy's own vocabulary or without."""

    def __init__(self, small_world: SmallWorld, text: str, *, token_ids: bool) -> None:
        super().__init__(token_ids=token_ids)
        self.models = [{"id": "policy", "max_model_len": 1024}]
        self.text, self.stop_reason = text, "</answer>"
        self._tokenizer = small_world.tokenizer

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        choice = super().choice(body)
        if "token_ids" in choice and body.get("top_k") != 1:
            ids = self._tokenizer.encode(self.text, add_special_tokens=False)
            choice |= {"token_ids": ids, "logprobs": {"token_logprobs": [-0.5] * len(ids)}}
        return choice


def _evaluate(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize("token_ids", [True, False])
def test_a_served_model_is_evaluated_with_ids_or_with_text_alone(
    small_world: SmallWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    token_ids: bool,
) -> None:
    small_world.tokenizer.save_pretrained(tmp_path / "tokenizer")
    served = _Served(small_world, "<answer>Harald</answer>", token_ids=token_ids)
    arguments = [str(tmp_path / "tokenizer"), *_arguments(small_world, tmp_path / "out")[1:]]
    try:
        code = _evaluate(
            [*arguments, "--engine", "openai", "--engine-set", f"url={served.url}", "--engine-set", "retries=0"],
            monkeypatch,
        )
    finally:
        served.close()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert ("encoded anew" in said.err) is not token_ids
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert figures["em"] == pytest.approx(1 / 5), "one of five questions has that king"
    block = figures["comparability"]
    assert block["model"]["name"] == f"the model at {served.url}" and block["tokenizer"].endswith("tokenizer")
    engine = block["decoding"]["engine"]
    assert (engine["kind"], engine["url"], engine["retries"]) == ("openai", served.url, 0)
    assert engine["exact_ids"] is token_ids and "api_key" not in engine
    assert block["decoding"]["context_window"] == 1024 and block["decoding"]["schedule"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "telepathy"), "telepathy"),
        (("--engine", "openai"), "--engine-set url=... is needed"),
        (("--engine-set", "speed=9"), "there is no setting speed; transformers has schedule, max_batch"),
        (("--engine-set", "kind=vllm"), "the engine is named by --engine"),
        (("--engine", "vllm", "--engine-set", "gpu_memory_fraction=2"), "gpu_memory_fraction"),
        (("--engine", "openai", "--engine-set", "url=http://127.0.0.1:9", "--engine-set", "retries=0"), "127.0.0.1:9"),
    ],
)
def test_an_engine_that_cannot_be_is_one_message(
    small_world: SmallWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    small_world.tokenizer.save_pretrained(tmp_path / "tokenizer")
    arguments = [str(tmp_path / "tokenizer"), *_arguments(small_world, tmp_path / "out")[1:], *options]
    assert _evaluate(arguments, monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out" / "evaluation.json").exists()


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_and_the_embedded_engine_give_greedy_episodes_alike(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [question.text for question in small_world.questions]
    sizes = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "initializer_range": 0.3}
    policy = build_tiny_policy(tmp_path / "policy", texts, protocol=small_world.protocol, **sizes)
    short = ["--max-new-tokens-per-turn", "12", "--max-turns", "2", "--max-trajectory-tokens", "600"]
    said = {}
    for engine in ("transformers", "vllm"):
        arguments = [str(policy), *_arguments(small_world, tmp_path / engine)[1:], *short, "--engine", engine]
        if engine == "vllm":
            arguments += ["--engine-set", "kv_cache_gb=0.1"]
        assert _evaluate(arguments, monkeypatch) == 0
        figures = json.loads((tmp_path / engine / "evaluation.json").read_text())
        assert figures["comparability"]["decoding"]["engine"]["kind"] == engine
        said[engine] = {
            read.trajectory.id: read.trajectory.token_ids.tolist()
            for read in read_trajectories(tmp_path / engine / "trajectories")
        }
    assert said["vllm"] == said["transformers"] and len(said["vllm"]) == 5
