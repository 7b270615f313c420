"""`engine` and `runtime` of a config: by name or with settings, and what does not go together is refused."""

from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from agent.engines.opening import TransformersSpec, VLLMSpec
from envs.crew_settings import CrewHealth
from envs.engine_server import EngineHealth
from tests.train.test_config import MINIMAL
from train.config import check_config
from train.config_file import ConfigError, apply_override
from train.ray_runtime import no_engine
from train.runtime_config import LocalSettings, RaySettings

AHEAD = {"rollout": {"max_staleness": 1}, "learner": {"importance_weight_cap": 2.0}}


def config(*overrides: str, **sections: Any) -> Any:
    data = {**MINIMAL, **sections}
    for override in overrides:
        apply_override(data, override)
    return check_config(data)


def test_a_name_is_enough_and_a_section_sets_more() -> None:
    plain = config()
    assert plain.engine == TransformersSpec()
    assert plain.runtime == LocalSettings()
    other = config(engine="vllm", runtime={"kind": "ray", "workers": 7})
    assert other.engine == VLLMSpec()
    assert other.runtime == RaySettings(workers=7)


def test_overrides_name_settings_of_what_was_chosen() -> None:
    chosen = config("runtime=ray", "runtime.workers=5", "engine=vllm", "engine.max_num_seqs=8")
    assert (chosen.runtime.kind, chosen.runtime.workers) == ("ray", 5)
    assert (chosen.engine.kind, chosen.engine.max_num_seqs) == ("vllm", 8)
    assert config("engine.max_batch=8").engine == TransformersSpec(max_batch=8)


def test_batches_depend_on_ids_alone_only_where_everything_waits_in_one_process() -> None:
    for sections, expected in (({}, "deterministic"), ({"runtime": "ray"}, "eager"), (AHEAD, "eager")):
        made = config(**sections)
        assert made.engine.chosen_schedule(in_step=made.in_step) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "sglang"}, ["engine", "'sglang'", "transformers", "vllm"]),
        ({"engine": {"kind": "vllm", "max_seqs": 3}}, ["engine.max_seqs", "'max_num_seqs'"]),
        ({"runtime": {"kind": "ray", "worker": 3}}, ["runtime.worker", "'workers'"]),
        ({"runtime": {"workers": 0}}, ["runtime.workers"]),
        (
            {"engine": {"kind": "openai", "url": "http://127.0.0.1:1"}},
            ["weights cannot be updated", "waymark evaluate"],
        ),
        ({"engine": {"schedule": "deterministic"}, "runtime": "ray"}, ["runtime is ray", "engine.schedule: auto"]),
        ({"engine": {"schedule": "deterministic"}, **AHEAD}, ["rollout.max_staleness is 1", "max_staleness: 0"]),
        ({"rollout": {"max_staleness": 1}}, ["set learner.importance_weight_cap"]),
        ({"runtime": {"layout": "colocated"}}, ["only vllm can sleep"]),
        ({"runtime": {"layout": "colocated"}, "engine": "vllm", **AHEAD}, ["max_staleness: 0, or layout"]),
        (
            {"runtime": {"engine_silence_s": 100, "action_timeout_s": 50}},
            ["engine_silence_s is 100", "action_timeout_s 50", "the smaller"],
        ),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_way_out(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**change)
    for word in words:
        assert word in str(caught.value)


def test_no_engine_that_answers_is_an_outage_in_words() -> None:
    alive = EngineHealth(version=1, running=0, finished=3, silent_s=0.0)
    gone = ActorUnavailableError("The actor is being started again.\nmore", None)
    assert no_engine(CrewHealth(engines=(gone, alive, None), retrievers=(), workers=())) is None
    said = no_engine(CrewHealth(engines=(None, gone), retrievers=(), workers=()))
    assert said is not None and said.startswith("none of 2 engines answers: ") and "\n" not in said
    assert no_engine(CrewHealth(engines=(None,), retrievers=(), workers=())) == "none of 1 engines answers"
