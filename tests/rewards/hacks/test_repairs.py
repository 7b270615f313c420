"""Repairs put known cheats below the bar and pay them no more than honest failures, and one that does not is seen."""

import pytest

from benchmarks.red_team.known import KNOWN, REPAIRS, known_repairs
from benchmarks.red_team.matrix import RedTeam, record_of, table_of, unexpected
from envs.policies.registry import CHEATS

KNOWN_PAIRS = known_repairs()


@pytest.mark.parametrize(("reward", "cheat"), sorted(KNOWN_PAIRS))
def test_a_known_pair_does_fail_and_its_repair_repairs_it(team: RedTeam, reward: str, cheat: str) -> None:
    assert not team.margin(reward, cheat).is_below, "no longer known: take it out of KNOWN"
    standing = team.repaired(reward, cheat, KNOWN_PAIRS[reward, cheat])
    assert standing.is_stopped, standing


@pytest.mark.parametrize(
    ("reward", "cheat", "repair"),
    [
        ("consistency", "generic_answerer", "beside"),
        ("consistency", "generic_answerer", "answered"),
        ("citation_precision", "query_repeater", "answered"),
        ("information_gain", "endless_searcher", "answered"),
        ("format", "query_repeater", "answered"),
    ],
)
def test_a_wrong_repair_is_recognised_though_every_wrong_cheat_is_below_right_episodes(
    team: RedTeam, reward: str, cheat: str, repair: str
) -> None:
    standing = team.repaired(reward, cheat, repair)
    assert standing.margin.is_below and standing.favour.is_favoured and not standing.is_stopped
    assert standing.is_repaired_by(repair) == REPAIRS[repair].keeps_order_only


def test_what_keeps_the_order_only_is_left_to_rewards_that_no_gate_could_serve() -> None:
    """A price for silence behind a gate that silence closes costs nothing; a sum of 0 is 0 behind all of them."""
    assert {name for name, repair in REPAIRS.items() if repair.keeps_order_only} == {"beside"}
    assert {row.reward for row in KNOWN if row.repair == "beside"} == {"never_answering", "hop_potential"}


@pytest.mark.parametrize("repair", ["correct", "bottom_line"])
def test_a_repair_that_asks_for_a_right_answer_pays_no_wrong_cheat(team: RedTeam, repair: str) -> None:
    for reward in ("consistency", "hop_relevance", "citation_precision"):
        for cheat in CHEATS:
            assert not team.cheats[cheat].is_correct.any()
            assert team.repaired(reward, cheat, repair).favour.earned == 0.0


def test_the_matrix_of_the_tests_world_is_all_as_known(team: RedTeam) -> None:
    cells = team.cells()
    assert unexpected(cells) == []
    assert "50*" in table_of(cells) and "!" not in table_of(cells)
    record = record_of(cells)
    assert record["rewards"]["exact_match"]["guesser"] == [0.0, 1.0, 0.0]
    assert record["repairs"]["consistency"]["forger"] == ["correct", 0.0, 1.375, 0.0, True]
    assert {(r, c) for r, row in record["repairs"].items() if r != "columns" for c in row} == set(KNOWN_PAIRS)
