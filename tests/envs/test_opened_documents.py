"""Documents that a policy opens: windows that follow each other, numbers that stay, budgets, and exact tokens."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol import encode_prompt
from agent.protocols.registry import load_protocol
from agent.trajectory import ToolCall
from envs.search_env import Pending
from retrieval.passage import Hit, Passage
from tests.envs.small_env import QUESTION, SEARCH, TOKENIZER, WAYMARK, env, say, text_of
from tests.envs.small_world import PASSAGES, result

OPENS = load_protocol("waymark_open")
LONG = [Passage(id=f"l{i}", title="Long", text=" ".join(f"w{i}.{j};" for j in range(12))) for i in range(3)]


def opened(argument: str, *passages: Passage) -> ToolCall:
    hits = tuple(Hit(passage=p, score=0.0, rank=i) for i, p in enumerate(passages, 1))
    return ToolCall(tool="open", argument=argument, hits=hits, status="ok" if hits else "empty", latency_s=0.0)


def test_a_document_is_read_in_windows_that_follow_each_other():
    e = env(OPENS, max_open_tokens=60, max_observation_tokens=200, max_turns=9)
    read, number, windows = "", 1, 1
    while number <= windows:
        step = e.act(say(f"<open>Long | {number}</open>"))
        assert [(c.tool, c.argument) for c in step.calls] == [("open", f"Long | {number}")]
        text = text_of(e.observe([opened(f"Long | {number}", *LONG)]))
        windows = int(text.split(f"window {number} of ")[1].split("\n")[0])
        read += text
        turn = e.turns[-1]
        assert [h.passage.id for h in turn.calls[0].hits] == [s.passage_id for s in turn.shown]
        assert turn.calls[0].status == "ok" and len(turn.observation_ids) <= 200
        number += 1
    assert windows > 2
    assert all(read.count(f"w{i}.{j};") == 1 for i in range(3) for j in range(12))
    numbers = {s.passage_id: s.number for turn in e.turns for s in turn.shown}
    assert numbers == {"l0": 1, "l1": 2, "l2": 3}, "a passage keeps its number from window to window"
    assert any(s.truncated for turn in e.turns for s in turn.shown)


def test_an_opened_passage_has_the_number_that_a_search_gave_it():
    e = env(OPENS)
    e.act(say(SEARCH))
    e.observe([result("q", "velmora", "torvane")])
    e.act(say("<open>Torvane</open>"))
    assert "window 1 of 1\n[2] Torvane: " in text_of(e.observe([opened("Torvane", PASSAGES[4])]))
    assert [(s.number, s.truncated) for s in e.turns[1].shown] == [(2, False)]


@pytest.mark.parametrize(
    ("action", "found", "said"),
    [
        ("<open>Nowhere</open>", (), "no document Nowhere"),
        ("<open>Torvane | 3</open>", (PASSAGES[4],), "no window 3 of Torvane, it has 1"),
        ("<open>Torvane | 0</open>", (PASSAGES[4],), "no window 0 of Torvane, it has 1"),
    ],
)
def test_what_is_not_there_is_said_and_kept_as_empty(action, found, said):
    e = env(OPENS)
    e.act(say(action))
    assert said in text_of(e.observe([opened("x", *found)]))
    assert [(c.status, c.hits) for c in e.turns[0].calls] == [("empty", ())] and e.turns[0].shown == ()


def test_documents_above_max_opens_are_refused_and_searches_are_not():
    e = env(OPENS, max_opens=1, max_searches=1)
    assert len(e.act(say("<open>Torvane\nVelmora</open>")).calls) == 1
    text = text_of(e.observe([opened("Torvane", PASSAGES[4])]))
    assert "[1] Torvane: " in text and OPENS.opens_used_up.strip() in text
    assert len(e.act(say(SEARCH)).calls) == 1
    e.observe([result("q", "velmora")])
    assert e.act(say("<open>Velmora</open>")) == Pending(calls=())
    assert OPENS.opens_used_up.strip() in text_of(e.observe([]))
    assert [len(turn.calls) for turn in e.turns] == [1, 1, 0] and e.turns[2].action.kind == "call"


def test_limits_that_no_window_fits_are_refused():
    with pytest.raises(ValueError, match="max_open_tokens is 500 and max_observation_tokens 100, but"):
        env(OPENS, max_open_tokens=500, max_observation_tokens=100)
    with pytest.raises(ValueError, match="leave 'open' out of the protocol's tools"):
        env(OPENS, max_observation_tokens=40)
    env(WAYMARK, max_open_tokens=500, max_observation_tokens=100)  # not offered, so of no matter


OPEN_PIECES = ["<open>", "</open>", "<search>", "</search>", "Long", " | 2", "\n", "<answer>x</answer>"]


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(OPEN_PIECES), max_size=8),
    room=st.integers(120, 600),
    max_open_tokens=st.none() | st.integers(1, 30),
)
def test_opening_changes_nothing_sampled_and_passes_no_limit(pieces, room, max_open_tokens):
    prompt = len(encode_prompt(OPENS, QUESTION, TOKENIZER))
    e = env(
        OPENS,
        max_open_tokens=max_open_tokens,
        max_observation_tokens=130,
        max_new_tokens_per_turn=90,
        max_trajectory_tokens=prompt + room,
    )
    expected = list(e.prompt_ids)
    while e.finish_reason is None:
        sampled = say("".join(pieces), "length")
        cut = min(e.max_new_tokens, len(sampled.token_ids))
        sampled = replace(
            sampled,
            token_ids=sampled.token_ids[:cut],
            logprobs=sampled.logprobs[:cut],
            versions=sampled.versions[:cut],
        )
        expected.extend(sampled.token_ids)
        step = e.act(sampled)
        if isinstance(step, Pending):
            found = [opened(c.argument, *LONG) if c.tool == "open" else result(c.argument, "osmi") for c in step.calls]
            expected.extend(e.observe(found))
        assert list(e.token_ids) == expected and len(expected) <= prompt + room
