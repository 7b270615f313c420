"""Two teams for all tests of cheats: everybody plays once, sixteen questions of a tiny world in three wordings each."""

from collections.abc import Iterator

import pytest

from agent.protocols.registry import load_protocol
from benchmarks.red_team.arena import open_arena
from benchmarks.red_team.matrix import RedTeam
from benchmarks.red_team.recipes import as_trained
from tests.envs.small_world import byte_tokenizer

WORLD = {"hops": 2, "seed": 4, "train_questions": 20, "dev_questions": 20, "test_questions": 60}


@pytest.fixture(scope="package")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedTeam]:
    """Honest and cheating episodes, scored by every reward."""
    arena = open_arena(
        tmp_path_factory.mktemp("arena"),
        protocol=load_protocol("waymark_stating"),
        tokenizer=byte_tokenizer(),
        num_questions=16,
        world=WORLD,
    )
    try:
        yield RedTeam(arena)
    finally:
        arena.index.close()


@pytest.fixture(scope="package")
def trained_team(team: RedTeam) -> RedTeam:
    """The same in episodes of as many turns as recipes are trained in."""
    return RedTeam(as_trained(team.arena))
