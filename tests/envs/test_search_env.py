"""What a completion leads to: every row of the table in docs/environment.md, budgets, numbers, and exact tokens."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine import Completion
from agent.observation import check_observation_budget
from agent.protocols.registry import load_protocol
from envs.search_env import EpisodeLimits, Finished, Pending, SearchEnv
from tests.envs.small_env import (
    ANSWER,
    INVALID,
    PROMPT,
    QUESTION,
    SEARCH,
    SEARCH_R1,
    TOKENIZER,
    WAYMARK,
    env,
    say,
    text_of,
)
from tests.envs.small_world import PASSAGES, result


def test_a_search_is_pending_and_its_observation_follows():
    e = env()
    step = e.act(say(SEARCH))
    assert isinstance(step, Pending) and [c.argument for c in step.calls] == ["Who founded Velmora?"]
    ids = e.observe([result("Who founded Velmora?", "velmora", "torvane")])
    assert "[1] Velmora: " in text_of(ids) and "[2] Torvane: " in text_of(ids)
    turn = e.turns[0]
    assert turn.observation_ids == ids and [s.number for s in turn.shown] == [1, 2]
    assert turn.action_logprobs == (-0.5,) * len(turn.action_ids) and set(turn.action_versions) == {3}
    assert e.token_ids == e.prompt_ids + turn.action_ids + ids
    assert e.finish_reason is None


def test_passage_numbers_are_stable_over_the_trajectory():
    e = env()
    e.act(say(SEARCH))
    e.observe([result("q", "velmora", "torvane")])
    e.act(say(SEARCH))
    e.observe([result("q", "tarnek", "velmora")])
    assert [(s.passage_id, s.number) for s in e.turns[1].shown] == [("tarnek", 3), ("velmora", 1)]
    e.reset(QUESTION)
    e.act(say(SEARCH))
    e.observe([result("q", "tarnek")])
    assert [s.number for s in e.turns[0].shown] == [1], "reset must forget the numbers of the last episode"


# The rows of the table, in its order.


def test_row_answered():
    e = env()
    assert e.act(say(ANSWER)) == Finished(reason="answered")
    assert e.turns[0].action.answer == "Quillon Bay" and e.turns[0].action.citations == (1,)


def test_row_answered_in_the_last_turn_and_at_the_token_cap():
    assert env(max_turns=1).act(say(ANSWER)) == Finished(reason="answered")
    assert env(max_new_tokens_per_turn=len(ANSWER)).act(say(ANSWER, "length")) == Finished(reason="answered")


def test_row_cut_by_the_trajectory_limit():
    e = env(max_trajectory_tokens=PROMPT + 50, max_new_tokens_per_turn=60, max_observation_tokens=80)
    assert e.max_new_tokens == 50
    assert e.act(say("x" * 50, "length")) == Finished(reason="token_limit")


@pytest.mark.parametrize("on_invalid", ["correct", "end"])
def test_row_no_answer_when_the_text_ends(on_invalid):
    e = env(replace(WAYMARK, on_invalid=on_invalid))
    assert e.act(say("I do not know", "eos")) == Finished(reason="no_answer")
    assert e.turns[0].action_ids[-1] == TOKENIZER.eos_token_id, "the sampled end token stays in the trajectory"


def test_row_malformed_where_the_protocol_ends_on_invalid_actions():
    e = env(replace(WAYMARK, on_invalid="end"))
    assert e.act(say(INVALID)) == Finished(reason="malformed")
    assert e.turns[0].action.kind == "invalid" and not e.turns[0].observation_ids


@pytest.mark.parametrize(
    "text",
    [INVALID, "<search>Velmora</answer>", "<search></search>", "<information>x</information><answer>y</answer>"],
)
def test_row_invalid_actions_are_corrected_and_cost_a_turn(text):
    e = env(max_turns=2)
    assert e.act(say(text)) == Pending(calls=())
    ids = e.observe([])
    assert text_of(ids) == WAYMARK.correction and e.turns[0].observation_ids == ids
    assert e.act(say(text)) == Finished(reason="turn_limit")


def test_row_a_completion_cut_by_the_turn_cap_is_invalid():
    e = env(max_new_tokens_per_turn=20)
    assert e.act(say(SEARCH[:20], "length")) == Pending(calls=())
    assert e.observe([])
    assert e.turns[0].action.kind == "invalid"


def test_row_a_search_in_the_last_turn_is_not_run():
    e = env(max_turns=1)
    assert e.act(say(SEARCH)) == Finished(reason="turn_limit")
    assert e.turns[0].calls == () and e.turns[0].action.kind == "call"


def test_row_no_room_for_an_observation_and_an_action():
    wrapper = check_observation_budget(WAYMARK, TOKENIZER, 200)
    tight = PROMPT + len(SEARCH) + wrapper - 1 + 100
    e = env(max_new_tokens_per_turn=100, max_trajectory_tokens=tight, max_observation_tokens=200)
    assert e.act(say(SEARCH)) == Finished(reason="token_limit"), "known before the search, so it is not run"
    assert e.turns[0].calls == ()


def test_row_no_room_for_a_word_of_a_passage():
    wrapper = check_observation_budget(WAYMARK, TOKENIZER, 200)
    tight = PROMPT + len(SEARCH) + wrapper + 2 + 100
    e = env(max_new_tokens_per_turn=100, max_trajectory_tokens=tight, max_observation_tokens=200)
    assert isinstance(e.act(say(SEARCH)), Pending)
    assert e.observe([result("q", "velmora")]) == ()
    assert e.finish_reason == "token_limit"
    assert len(e.turns) == 1 and len(e.turns[0].calls) == 1 and not e.turns[0].shown


def test_row_no_room_for_a_correction():
    tight = PROMPT + len(INVALID) + len(WAYMARK.correction) - 1 + 100
    e = env(max_new_tokens_per_turn=100, max_trajectory_tokens=tight)
    e.act(say(INVALID))
    assert e.observe([]) == () and e.finish_reason == "token_limit"
    e = env(max_new_tokens_per_turn=100, max_trajectory_tokens=tight + 1)
    e.act(say(INVALID))
    assert e.observe([]) and e.finish_reason is None


def test_rows_outages_keep_the_calls_that_were_made():
    e = env()
    e.act(say(SEARCH))
    failed = replace(result("q"), status="error")
    e.abandon("retrieval_outage", [failed])
    assert e.finish_reason == "retrieval_outage" and e.turns[0].calls == (failed,)
    e = env()
    e.abandon("engine_failure")
    assert e.finish_reason == "engine_failure" and e.turns == ()


# Limits.


def test_the_observation_is_shortened_so_that_the_next_action_has_all_its_tokens():
    e = env(max_new_tokens_per_turn=100, max_trajectory_tokens=PROMPT + len(SEARCH) + 80 + 100)
    e.act(say(SEARCH))
    ids = e.observe([result("q", "velmora", "torvane")])
    assert 0 < len(ids) <= 80 and text_of(ids).endswith("</information>\n")
    assert e.turns[0].shown[-1].truncated and e.max_new_tokens == 100


def test_observations_keep_to_max_observation_tokens():
    e = env(max_observation_tokens=90)
    e.act(say(SEARCH))
    assert len(e.observe([result("q", "velmora", "torvane", "tarnek")])) <= 90


def test_searches_above_max_searches_find_nothing():
    e = env(max_searches=1)
    assert len(e.act(say(SEARCH)).calls) == 1
    e.observe([result("q", "velmora")])
    assert e.act(say(SEARCH)) == Pending(calls=())
    assert WAYMARK.nothing_found in text_of(e.observe([]))
    assert e.turns[1].calls == () and e.turns[1].action.kind == "call"


def test_max_searches_zero_never_searches():
    assert env(max_searches=0).act(say(SEARCH)) == Pending(calls=())


QUERIES = "<search>query 0\n query 1 \n\nquery 2</search>"


def test_the_lines_of_a_search_are_queries_and_more_than_allowed_are_an_invalid_action():
    step = env(max_queries_per_turn=3).act(say(QUERIES))
    assert [(c.tool, c.argument) for c in step.calls] == [("search", f"query {i}") for i in range(3)]
    e = env(max_queries_per_turn=2)
    assert e.act(say(QUERIES)) == Pending(calls=())
    e.observe([])
    assert "3 calls in one turn; at most 2" in e.turns[0].action.error


def test_search_r1_asks_one_query_unless_it_is_told_otherwise():
    (call,) = env(SEARCH_R1).act(say(QUERIES)).calls
    assert call.argument == "query 0\n query 1 \n\nquery 2"
    assert len(env(load_protocol("search_r1", parallel=True)).act(say(QUERIES)).calls) == 3


def test_several_queries_share_max_searches():
    e = env(max_searches=2)
    assert [c.argument for c in e.act(say(QUERIES)).calls] == ["query 0", "query 1"]
    ids = e.observe([result("query 0", "velmora", "torvane"), result("query 1", "torvane", "osmi")])
    assert len(e.turns[0].calls) == 2 and text_of(ids).count("Torvane:") == 1
    assert [(s.number, s.passage_id) for s in e.turns[0].shown] == [(1, "velmora"), (2, "torvane"), (3, "osmi")]
    assert e.act(say(QUERIES)) == Pending(calls=())
    assert WAYMARK.nothing_found in text_of(e.observe([]))


# Bad input.


def test_a_prompt_longer_than_the_trajectory_limit_is_refused():
    with pytest.raises(ValueError, match=rf"prompt has {PROMPT} tokens.*max_trajectory_tokens is {PROMPT}"):
        env(max_trajectory_tokens=PROMPT, max_new_tokens_per_turn=10)
    env(max_trajectory_tokens=PROMPT + 1, max_new_tokens_per_turn=10)


def test_a_prompt_longer_than_the_models_window_is_refused():
    with pytest.raises(ValueError, match=rf"prompt has {PROMPT} tokens.*context window is 64.*longer window"):
        env(context_window=64)


def test_the_models_window_bounds_the_trajectory():
    e = env(context_window=PROMPT + 30, max_new_tokens_per_turn=100)
    assert e.max_new_tokens == 30
    assert e.act(say("x" * 30, "length")) == Finished(reason="token_limit")


def test_an_observation_budget_below_the_wrapper_is_refused():
    with pytest.raises(ValueError, match="max_observation_tokens is 5"):
        env(max_observation_tokens=5)


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="max_new_tokens_per_turn=500 leaves no token for the prompt"):
        EpisodeLimits(max_trajectory_tokens=500)
    with pytest.raises(ValueError, match="max_turn"):
        EpisodeLimits(max_turn=3)


def test_calls_out_of_order_are_refused():
    e = env()
    with pytest.raises(RuntimeError, match="follows an act"):
        e.observe([])
    e.act(say(SEARCH))
    with pytest.raises(RuntimeError, match="observed"):
        e.act(say(SEARCH))
    with pytest.raises(ValueError, match="1 calls are pending and 0 results"):
        e.observe([])
    e = SearchEnv(WAYMARK, TOKENIZER, EpisodeLimits())
    with pytest.raises(RuntimeError, match="reset"):
        e.act(say(SEARCH))


# Exact tokens, whatever the policy says.

TAGS = [tag for pair in (WAYMARK.search, WAYMARK.answer, WAYMARK.think) for tag in pair]
PIECES = st.sampled_from([*TAGS, "<information>", "Velmora", " [1]", "é", "\n"])


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(st.tuples(st.lists(PIECES, max_size=8), st.sampled_from(["stop", "eos", "length"])), max_size=6),
    limits=st.fixed_dictionaries(
        {
            "max_turns": st.integers(1, 5),
            "max_new_tokens_per_turn": st.integers(5, 80),
            "max_trajectory_tokens": st.integers(PROMPT + 1, PROMPT + 500),
            "max_observation_tokens": st.integers(40, 200),
        }
    ),
    protocol=st.sampled_from([WAYMARK, replace(WAYMARK, on_invalid="end")]),
)
def test_nothing_sampled_is_changed_and_no_limit_is_passed(actions, limits, protocol):
    e = env(protocol, **limits)
    expected = list(e.prompt_ids)
    for pieces, finish in actions:
        if e.finish_reason is not None:
            break
        assert e.max_new_tokens >= 1
        sampled = say("".join(pieces), finish)
        cut = min(e.max_new_tokens, len(sampled.token_ids))
        sampled = Completion(
            token_ids=sampled.token_ids[:cut],
            logprobs=sampled.logprobs[:cut],
            versions=sampled.versions[:cut],
            finish="length" if cut < len(sampled.token_ids) else sampled.finish,
        )
        expected.extend(sampled.token_ids)
        step = e.act(sampled)
        if isinstance(step, Pending):
            expected.extend(e.observe([result(call.argument, *[p.id for p in PASSAGES[:3]]) for call in step.calls]))
        assert list(e.token_ids) == expected, "ids are appended, never re-encoded"
        assert len(expected) <= limits["max_trajectory_tokens"]
        assert len(e.turns) <= limits["max_turns"]
    assert e.finish_reason is not None or len(e.turns) < limits["max_turns"]


def test_search_r1_corrects_in_its_own_words():
    e = env(SEARCH_R1)
    e.act(say(INVALID))
    assert text_of(e.observe([])).startswith("\nMy previous action is invalid.")
