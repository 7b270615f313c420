"""Scripted policies: guessers and cheats, what policies read, their names in a config, and their demonstrations."""

from dataclasses import replace

import pytest

from agent.trajectory import NOT_THE_POLICYS_FAULT
from envs.policies.cheats import CitationStuffer, QuestionCopier
from envs.policies.closed_book import ClosedBookPolicy, answers_of
from envs.policies.context import candidate_answers, names_in, occurs_in, seen_passages
from envs.policies.demonstrations import demonstration_specs
from envs.policies.expert import ExpertPolicy, bare
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.registry import CHEATS, POLICIES, load_policy
from envs.policies.search_cheats import QuerySpammer
from tests.envs.scripted_play import LIMITS, WAYMARK, play, text_of
from tests.envs.small_world import BRIDGE, COMPARISON, search_turn

# The closed-book guesser and the cheats.


def test_closed_book_answers_at_once_from_its_list():
    trajectories = play(ClosedBookPolicy(WAYMARK, answers_of([BRIDGE, COMPARISON])), count=20)
    assert {t.num_turns for t in trajectories} == {1}
    assert {t.final_answer for t in trajectories} == {"Quillon", "Velmora"}
    with pytest.raises(ValueError, match="needs answers"):
        ClosedBookPolicy(WAYMARK, [])


def test_the_citation_stuffer_cites_everything_three_times():
    t = play(CitationStuffer(WAYMARK))[0]
    assert t.turns[-1].action.citations == (1, 2) * 3 and t.final_answer not in BRIDGE.golden_answers


def test_the_query_spammer_never_answers():
    t = play(QuerySpammer(WAYMARK))[0]
    assert t.finish_reason == "turn_limit" and t.num_searches == LIMITS.max_turns - 1
    assert len({c.argument for turn in t.turns for c in turn.calls}) > 2


def test_the_question_copier_asks_and_answers_with_the_question():
    t = play(QuestionCopier(WAYMARK), [BRIDGE], views=[1])[0]
    assert {c.argument for turn in t.turns for c in turn.calls} == {BRIDGE.paraphrases[0]}
    assert t.final_answer == BRIDGE.paraphrases[0]


@pytest.mark.parametrize("name", sorted(set(CHEATS) - {"endless_searcher", "query_spammer"}))
def test_an_honest_cheat_searches_as_the_expert_does_and_a_lazy_one_needs_no_hops(name: str) -> None:
    (honest,) = play(load_policy(name, WAYMARK, honest=True), [BRIDGE])
    asked = {bare(call.argument).removeprefix("please") for turn in honest.turns for call in turn.calls}
    wanted = {bare("Who founded Velmora?"), bare("Where was Tarnek Osmi born?")}
    assert asked == (set() if name == "guesser" else wanted)
    (lazy,) = play(load_policy(name, WAYMARK), [replace(BRIDGE, hops=())])
    assert lazy.finish_reason == "answered"


# What they read.


def test_names_are_capitalised_phrases_without_function_words():
    text = "In which town was the founder of Dorel born? It is Quillon Bay. Tarnek Osmi's Velmora was later."
    assert names_in(text) == ["Dorel", "Quillon Bay", "Tarnek Osmi", "Velmora"]


def test_a_phrase_occurs_only_as_whole_words():
    (seen,) = seen_passages([search_turn("q", "velmic")]).values()
    assert occurs_in("Velmic", [seen.passage]) and occurs_in("Quillon Bay", [seen.passage])
    assert not any(occurs_in(part, [seen.passage]) for part in ("Velm", "elmic", "Bay Quillon", ""))


def test_passages_that_were_found_but_not_shown_are_not_seen():
    turn = search_turn("q", "velmora", "torvane")
    assert list(seen_passages([replace(turn, shown=turn.shown[:1])])) == ["velmora"]


def test_candidates_fall_back_from_numbers_to_names_to_the_question():
    seen = seen_passages([search_turn("q", "velmora")]).values()
    assert candidate_answers("Who?", seen, like="1350") == ["1204"]
    assert candidate_answers("Who founded Dorel?", seen, like="Ilsa") == ["Velmora", "Tarnek Osmi"]
    assert candidate_answers("Who founded Dorel?", [], like="1350") == ["Dorel"]


# Names in a config, and demonstrations.


def test_policies_are_loaded_by_name_or_reference():
    assert isinstance(load_policy("noisy", WAYMARK, rates={"wrong_query": 0.5}, thought="full"), NoisyPolicy)
    assert isinstance(load_policy("closed_book", WAYMARK, answers=["x"]), ClosedBookPolicy)
    assert isinstance(load_policy("envs.policies.search_cheats:QuerySpammer", WAYMARK), QuerySpammer)
    with pytest.raises(ValueError, match="expert"):
        load_policy("oracle", WAYMARK)
    with pytest.raises(ValueError, match=r"closed_book.*answers"):
        load_policy("closed_book", WAYMARK)
    with pytest.raises(ValueError, match="styl"):
        load_policy("expert", WAYMARK, styl="brief")
    assert {"expert", "noisy", "closed_book"} <= set(POLICIES)


def test_demonstrations_follow_from_seed_question_and_sample_alone():
    policy = NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(wrong_query=0.5, early_answer=0.2))
    ten = [text_of(t) for t in play(policy, count=10, seed=1)]
    assert ten == [text_of(t) for t in play(policy, count=10, seed=1, max_concurrent=1)]
    assert ten[:6] == [text_of(t) for t in play(policy, count=6, seed=1)]
    assert ten != [text_of(t) for t in play(policy, count=10, seed=2)]
    reversed_order = play(policy, [COMPARISON, BRIDGE], count=10, seed=1)
    assert sorted(ten) == sorted(text_of(t) for t in reversed_order)


def test_demonstrations_go_round_the_questions_and_the_wordings():
    specs = demonstration_specs([BRIDGE, COMPARISON], count=5, views=[0, 1])
    assert [(s.question.id, s.sample) for s in specs] == [
        ("bridge", 0),
        ("comparison", 0),
        ("bridge", 1),
        ("comparison", 1),
        ("bridge", 2),
    ]
    assert [s.view for s in specs] == [0, 0, 1, 0, 0], "the comparison has no second wording"
    assert len({s.id for s in specs}) == 5
    with pytest.raises(ValueError, match="0 questions"):
        demonstration_specs([])
    with pytest.raises(ValueError, match="'comparison' has 0 paraphrases"):
        demonstration_specs([COMPARISON], views=[1])


def test_demonstrations_report_progress_and_have_no_outages():
    ended = []
    trajectories = play(ExpertPolicy(WAYMARK), count=7, on_finish=ended.append)
    assert len(ended) == len(trajectories) == 7
    assert not {t.finish_reason for t in trajectories} & NOT_THE_POLICYS_FAULT
