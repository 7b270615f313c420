"""What an action says of what it read: parsed from the protocol's tags, kept on disk, and said truly by the expert."""

from dataclasses import replace

import pytest

from agent.protocol import parse_action
from agent.protocols.registry import load_protocol
from agent.protocols.waymark import WAYMARK, WAYMARK_STATING
from agent.trajectory import Trajectory, Turn
from evaluation.trajectory_record import trajectory_from_record, trajectory_record

SEARCH = "<think>next</think><search>Tarnek born</search>"


def test_statements_are_read_from_the_text_before_the_action() -> None:
    action = parse_action(
        WAYMARK_STATING, f"<judge> No.</judge><reflect>TRUE</reflect><goal> birth place</goal>{SEARCH}"
    )
    assert (action.judgement, action.reflection, action.goal) == (False, True, "birth place")
    assert (action.kind, action.thought, action.requests[0].argument) == ("call", "next", "Tarnek born")
    answer = parse_action(WAYMARK_STATING, "<judge>yes</judge><answer>Oskel [1]</answer>")
    assert (answer.judgement, answer.reflection, answer.goal, answer.citations) == (True, None, None, (1,))


@pytest.mark.parametrize(
    "text",
    [
        f"{SEARCH}<judge>yes</judge>",
        f"<judge>perhaps</judge><goal> </goal>{SEARCH}",
        f"<judge>yes{SEARCH}",
        SEARCH,
    ],
)
def test_what_follows_the_action_or_is_no_statement_says_nothing(text: str) -> None:
    action = parse_action(WAYMARK_STATING, text)
    assert (action.kind, action.judgement, action.goal) == ("call", None, None)


def test_the_first_statement_counts() -> None:
    assert parse_action(WAYMARK_STATING, f"<judge>no</judge><judge>yes</judge>{SEARCH}").judgement is False


def test_a_protocol_without_the_tags_reads_none() -> None:
    action = parse_action(WAYMARK, f"<judge>no</judge><goal>x</goal>{SEARCH}")
    assert (action.judgement, action.goal, action.reflection) == (None, None, None)


def test_json_calls_have_no_place_for_statements() -> None:
    with pytest.raises(ValueError, match="JSON calls have no place for"):
        load_protocol("hermes", judge=["<judge>", "</judge>"])


def test_the_tags_are_single_tokens_and_reserved_in_documents() -> None:
    assert {"<judge>", "</goal>", "<reflect>"} <= set(WAYMARK_STATING.tags)
    assert "<judge>" not in WAYMARK.tags


def test_statements_survive_the_way_to_disk_and_their_absence_takes_no_space() -> None:
    action = parse_action(WAYMARK_STATING, f"<judge>no</judge><reflect>false</reflect><goal>born</goal>{SEARCH}")
    turn = Turn(action_ids=(1,), action_logprobs=(0.0,), action_versions=(0,), action=action)
    told = Trajectory(
        id="t", question_id="q", unit_id="u", group_id="u", prompt_ids=(1,), turns=(turn,), finish_reason="turn_limit"
    )
    assert trajectory_from_record(trajectory_record(told)) == told
    silent = replace(told, turns=(replace(turn, action=parse_action(WAYMARK, SEARCH)),))
    assert "judgement" not in trajectory_record(silent)["turns"][0]["action"]
    assert trajectory_from_record(trajectory_record(silent)) == silent
