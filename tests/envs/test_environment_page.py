"""docs/environment.md names every finish reason, limit, fault and policy there is, and its example runs."""

import re
from pathlib import Path

import pytest

from agent.trajectory import FINISH_REASONS
from envs.policies.noisy import NoiseRates
from envs.policies.registry import POLICIES
from envs.search_env import EpisodeLimits
from tests.envs.small_world import BRIDGE, COMPARISON, OverlapRetriever, byte_tokenizer

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "environment.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*FINISH_REASONS, *NoiseRates.model_fields, *POLICIES, *EpisodeLimits.model_fields])
def test_the_page_names_it(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", EpisodeLimits.model_fields)
def test_the_page_has_the_default(name):
    default = EpisodeLimits.model_fields[name].default
    assert f"| `{name}` | {'none' if default is None else default} |" in PAGE


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "environment.md", "exec"), names)
    trajectories = names["play"]([BRIDGE, COMPARISON], OverlapRetriever(), byte_tokenizer())  # type: ignore[operator]
    assert [t.final_answer for t in trajectories] == ["Quillon", "Velmora"]
