"""Engines that share the learner's GPU sleep while it steps, and have new weights before they sample again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from envs.engine_server import EngineServer
from tests.envs.ray_parts import SleepingEngine
from tests.train.conftest import run_settings
from tests.train.scripted_runtime import ScriptedRuntime, learn_alone
from train.assembly import assemble
from train.config import check_config
from train.config_file import ConfigError
from train.learner import Learner
from train.progress import Progress
from train.testbed import Testbed

REWARDS = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}}
COLOCATED = {"kind": "ray", "layout": "colocated", "engine_gpus": 0.5, "learner_gpus": 0.5}


class Recording(ScriptedRuntime):
    """Writes down what it is asked."""

    def __init__(self, vocabulary: int, calls: list[str]) -> None:
        super().__init__(vocabulary)
        self._calls = calls

    def submit(self, specs: Sequence[Any]) -> Sequence[Any]:
        self._calls.append(specs[0].id.split("-")[0])
        return super().submit(specs)

    async def update_weights(self, named: Any, version: int) -> None:
        self._calls.append(f"weights {version}")

    async def pause(self) -> None:
        self._calls.append("sleep")

    async def resume(self) -> None:
        self._calls.append("wake")


@pytest.mark.parametrize(
    "given", [{"runtime": COLOCATED, "engine": "vllm"}, {"engine": {"kind": "vllm", "sleep": True}}, {}]
)
def test_the_engine_sleeps_while_the_learner_steps(
    testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    settings = run_settings(testbed, rewards=REWARDS, cold_start=None, steps=2, evaluate_every=2, **given)
    config = check_config(settings)
    assert config.engine_sleeps == bool(given)
    assert getattr(config.engine_opened, "sleep", False) == bool(given)
    calls: list[str] = []
    update = Learner.update

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append("learn")
        return update(*args, **kwargs)

    async def open_recording(config: Any, parts: Any, model: str, **_: Any) -> Recording:
        return Recording(len(parts.tokenizer), calls)

    monkeypatch.setattr(Learner, "update", recorded)
    with assemble(config) as parts:
        learn_alone(config, parts, tmp_path / "run", Progress(), open_recording)
    learn = ["sleep", "learn", "wake"] if given else ["learn"]
    expected = ["weights 0", "eval000000", "step000000", *learn, "weights 1", "step000001", *learn, "weights 2"]
    assert calls == [*expected, "eval000002"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": {"kind": "vllm", "sleep": True}}, "engine.sleep: false"),
        ({"engine": "vllm", "runtime": COLOCATED}, "layout: disaggregated"),
    ],
)
def test_an_engine_that_sleeps_cannot_run_ahead(testbed: Testbed, given: dict[str, Any], said: str) -> None:
    ahead = {"questions_per_step": 3, "samples_per_question": 4, "max_staleness": 1}
    learner = {"importance_weight_cap": 2.0}
    with pytest.raises(ConfigError, match=said):
        check_config(run_settings(testbed, rewards=REWARDS, rollout=ahead, learner=learner, **given))


class Drowsy(SleepingEngine):
    def __init__(self) -> None:
        super().__init__(0)
        self.calls: list[str] = []

    def sleep(self) -> None:
        self.calls.append("sleep")

    def wake(self) -> None:
        self.calls.append("wake")


async def test_a_server_wakes_only_an_engine_that_it_put_to_sleep() -> None:
    engine = Drowsy()
    server = EngineServer(lambda: engine)
    await server.wake()
    assert engine.calls == [], "this process was started after the others had fallen asleep"
    await server.sleep()
    await server.wake()
    await server.wake()
    assert engine.calls == ["sleep", "wake"]
    with pytest.raises(TypeError, match="cannot sleep; set engine: vllm"):
        await EngineServer(lambda: SleepingEngine(0)).sleep()
