"""Scripted policies: the expert says only what its context holds, faults come at their rates, cheats cheat."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from agent.protocol import load_protocol, parse_action
from agent.trajectory import NOT_THE_POLICYS_FAULT
from envs.policies.cheats import CitationStuffer, QuerySpammer, QuestionCopier
from envs.policies.closed_book import ClosedBookPolicy, answers_of
from envs.policies.context import candidate_answers, names_in, occurs_in, seen_passages
from envs.policies.demonstrations import demonstration_specs, make_demonstrations
from envs.policies.expert import ExpertPolicy, ExpertSettings, fill_references, relation_words
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.registry import POLICIES, load_policy
from envs.question import Hop, Question
from envs.search_env import EpisodeLimits
from tests.envs.small_world import BRIDGE, COMPARISON, OverlapRetriever, byte_tokenizer, search_turn

TOKENIZER = byte_tokenizer()
WAYMARK = load_protocol("waymark")
SEARCH_R1 = load_protocol("search_r1")
LIMITS = EpisodeLimits(max_trajectory_tokens=8000, top_k=2, max_turns=6)


def play(policy, questions=(BRIDGE, COMPARISON), protocol=WAYMARK, limits=LIMITS, **options):
    return make_demonstrations(
        questions, policy, OverlapRetriever(), protocol=protocol, tokenizer=TOKENIZER, limits=limits, **options
    )


def act(policy, question, *turns, seed=0, protocol=WAYMARK):
    return parse_action(protocol, policy.act(question, 0, turns, random.Random(seed)))


def text_of(trajectory) -> str:
    return TOKENIZER.decode(trajectory.token_ids.tolist())


# The expert.


def test_the_expert_follows_the_hops_with_answers_filled_in_and_cites_what_it_read():
    bridge, comparison = play(ExpertPolicy(WAYMARK))
    queries = [c.argument for turn in bridge.turns for c in turn.calls]
    assert queries == ["Who founded Velmora?", "Where was Tarnek Osmi born?"]
    assert bridge.finish_reason == "answered" and bridge.final_answer == "Quillon"
    numbers = {s.passage_id: s.number for turn in bridge.turns for s in turn.shown}
    assert bridge.turns[-1].action.citations == (numbers["velmora"], numbers["tarnek"])
    assert [c.argument for turn in comparison.turns for c in turn.calls] == [h.question for h in COMPARISON.hops]
    assert comparison.final_answer == "Velmora" and len(comparison.turns[-1].action.citations) == 2


def test_every_word_of_the_experts_answer_stands_in_a_passage_that_was_shown():
    question = replace(BRIDGE, golden_answers=("Bay of Quillon", "Quillon Bay"))
    (t,) = play(ExpertPolicy(WAYMARK), [question])
    assert t.final_answer == "Quillon Bay", "the first golden answer stands nowhere in what was read"
    shown = [s.passage for s in seen_passages(t.turns).values()]
    assert occurs_in(t.final_answer, shown)


def test_the_wording_that_was_read_fills_the_next_sub_question():
    first = replace(BRIDGE.hops[0], answers=("T. Osmi", "Tarnek Osmi"))
    expert = ExpertPolicy(WAYMARK)
    action = act(expert, replace(BRIDGE, hops=(first, BRIDGE.hops[1])), search_turn("Who founded Velmora?", "velmora"))
    assert action.requests[0].argument == "Where was Tarnek Osmi born?"


def test_a_hop_that_was_not_found_is_asked_again_in_other_words_and_then_given_up():
    expert = ExpertPolicy(WAYMARK)
    first = search_turn("Who founded Velmora?", "torvane")
    assert act(expert, BRIDGE, first).requests[0].argument == "Velmora"
    second = search_turn("Velmora", "tarn")
    assert act(expert, BRIDGE, first, second).requests[0].argument == "Where was Tarnek Osmi born?"
    stubborn = ExpertPolicy(WAYMARK, ExpertSettings(max_queries_per_hop=3))
    assert act(stubborn, BRIDGE, first, second).requests[0].argument == "Velmora founded by"
    content = ExpertPolicy(WAYMARK, ExpertSettings(max_queries_per_hop=1))
    assert act(content, BRIDGE, first).requests[0].argument == "Where was Tarnek Osmi born?"


def test_hops_found_by_chance_are_skipped_only_where_the_settings_say_so():
    lucky = search_turn("Who founded Velmora?", "velmora", "tarnek")
    assert act(ExpertPolicy(WAYMARK), BRIDGE, lucky).kind == "call"
    assert act(ExpertPolicy(WAYMARK, ExpertSettings(skip_seen_hops=True)), BRIDGE, lucky).kind == "answer"


def test_queries_are_recognised_whatever_a_tokenizer_made_of_their_spaces():
    asked = search_turn("who founded Velmora ?", "velmora")
    assert act(ExpertPolicy(WAYMARK), BRIDGE, asked).requests[0].argument == "Where was Tarnek Osmi born?"


def test_hops_without_an_annotated_support_count_as_found_when_the_answer_was_shown():
    hops = tuple(replace(h, supporting_id=None, triple=None) for h in BRIDGE.hops)
    question = replace(BRIDGE, hops=hops)
    (t,) = play(ExpertPolicy(WAYMARK), [question])
    assert t.num_searches == 2 and t.turns[-1].action.citations == (1, 3), "falls back on Question.supporting_ids"


@pytest.mark.parametrize("thought", ["none", "brief", "full"])
def test_thoughts_come_in_styles(thought):
    t, _ = play(ExpertPolicy(WAYMARK, ExpertSettings(thought=thought)))
    thoughts = [turn.action.thought for turn in t.turns]
    assert {
        "none": thoughts == ["", "", ""],
        "brief": thoughts == ["find founded by", "find birth place", "found all"],
        "full": thoughts[0] == "I need to find out: Who founded Velmora?" and "so the answer is Quillon" in thoughts[2],
    }[thought]
    if thought == "none":
        assert WAYMARK.think[0] not in "".join(TOKENIZER.decode(list(turn.action_ids)) for turn in t.turns)


def test_brief_actions_are_short():
    for t in play(ExpertPolicy(WAYMARK)):
        for turn in t.turns:
            words = re.findall(r"</?\w+>|\w+|[^\w\s]", TOKENIZER.decode(list(turn.action_ids)))
            assert len(words) <= 25


def test_where_hops_stand_side_by_side_the_last_thought_says_what_is_compared():
    comparison = play(ExpertPolicy(WAYMARK))[1]
    assert comparison.turns[-1].action.thought == "found 1204 , 1350"


def test_a_thought_says_found_only_of_what_was_read():
    asked = [search_turn(q, "velmora") for q in ("When was Velmora founded?", "When was Torvane founded?")]
    last = act(ExpertPolicy(WAYMARK), COMPARISON, *asked)
    assert last.kind == "answer" and last.thought == "found 1204" and last.citations == (1,)


def test_relation_words_without_a_triple_are_the_questions_content_words():
    assert (
        relation_words(Hop(question="Who led the military expedition in #1?", answers=())) == "led military expedition"
    )


def test_the_expert_speaks_search_r1_too():
    t, _ = play(ExpertPolicy(SEARCH_R1), protocol=SEARCH_R1, limits=LIMITS)
    assert t.final_answer == "Quillon" and "[1]" not in TOKENIZER.decode(list(t.turns[-1].action_ids))


@pytest.mark.parametrize("thought", ["none", "brief", "full"])
def test_what_will_be_spoken_is_known_beforehand(thought):
    expert = ExpertPolicy(WAYMARK, ExpertSettings(thought=thought))
    said = {
        word
        for t in play(expert, [replace(BRIDGE, golden_answers=("Quillon Bay",))])
        for turn in t.turns
        for word in re.findall(r"\w+|\W", TOKENIZER.decode(list(turn.action_ids)))
    }
    expected = re.findall(r"\w+|\W", " ".join(expert.spoken(replace(BRIDGE, golden_answers=("Quillon Bay",)))))
    assert said - {"1", "2", "3"} <= {*expected, "Quillon", "Bay"}


def test_what_stands_between_tags_begins_with_a_space():
    for turn in play(ExpertPolicy(WAYMARK), [BRIDGE])[0].turns:
        text = TOKENIZER.decode(list(turn.action_ids))
        assert all(f"{tag[0]} " in text for tag in (WAYMARK.think, WAYMARK.search, WAYMARK.answer) if tag[0] in text)


def test_the_expert_needs_hops():
    with pytest.raises(ValueError, match=r"'bare' has no hops.*closed_book"):
        act(ExpertPolicy(WAYMARK), Question(id="bare", text="Who?", golden_answers=("x",)))


def test_references_are_filled_from_known_answers_only():
    assert fill_references("#1 or #2?", ["A", "B"]) == "A or B?"
    assert fill_references("#1 or #2?", ["A", None]) is None
    assert fill_references("#3?", ["A", "B"]) is None


# The noisy expert.


def actions(rates: dict[str, float], question, *turns, n=400):
    policy = NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(**rates))
    return [act(policy, question, *turns, seed=seed) for seed in range(n)]


def share(found, condition) -> float:
    return sum(map(condition, found)) / len(found)


FIRST = search_turn("Who founded Velmora?", "velmora", "torvane")
SECOND = search_turn("Where was Tarnek Osmi born?", "tarnek", "velmora")
GOLD_QUERY = "Where was Tarnek Osmi born?"


def test_without_rates_the_noisy_expert_is_the_expert():
    noisy = play(NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates()))
    assert [text_of(t) for t in noisy] == [text_of(t) for t in play(ExpertPolicy(WAYMARK))]


def test_wrong_queries_come_at_their_rate_and_ask_about_the_context():
    found = actions({"wrong_query": 0.3}, BRIDGE, FIRST)
    queries = Counter(a.requests[0].argument for a in found)
    assert 0.22 < 1 - queries.pop(GOLD_QUERY) / 400 < 0.38
    assert "Where was Torvane born?" in queries, "another entity of the context"
    assert "Who founded Tarnek Osmi?" in queries, "another hop's relation"
    assert all(set(names_in(q)) <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"} for q in queries)


def test_repeated_queries_come_at_their_rate_but_not_before_the_first():
    found = actions({"repeated_query": 0.5}, BRIDGE, FIRST)
    assert 0.42 < share(found, lambda a: a.requests[0].argument == "Who founded Velmora?") < 0.58
    assert (
        share(actions({"repeated_query": 1.0}, BRIDGE), lambda a: a.requests[0].argument == "Who founded Velmora?") == 1
    )


def test_early_answers_are_wrong_and_from_the_context():
    found = actions({"early_answer": 0.4}, BRIDGE, FIRST)
    early = [a for a in found if a.kind == "answer"]
    assert 0.32 < len(early) / 400 < 0.48
    assert {a.answer for a in early} <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"}
    assert {a.answer for a in actions({"early_answer": 1.0}, BRIDGE)} == {"Velmora"}, "only the question to draw from"


def test_wrong_answers_are_other_names_that_were_shown():
    found = actions({"wrong_answer": 0.4}, BRIDGE, FIRST, SECOND)
    wrong = [a.answer for a in found if a.answer != "Quillon"]
    assert 0.32 < len(wrong) / 400 < 0.48
    assert set(wrong) <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"}, "a golden alias is not a wrong answer"


def test_a_wrong_number_is_another_number():
    question = replace(COMPARISON, golden_answers=("1204",))
    asked = [search_turn(h.question, "velmora", "torvane") for h in COMPARISON.hops]
    assert {a.answer for a in actions({"wrong_answer": 1.0}, question, *asked, n=50)} == {"1350"}


def test_citations_are_skipped_and_wrong_at_their_rates():
    found = actions({"skipped_citation": 0.3, "wrong_citation": 0.3}, BRIDGE, FIRST, SECOND)
    counts = Counter(a.citations for a in found)
    assert all(a.answer == "Quillon" for a in found)
    assert 0.22 < counts[()] / 400 < 0.38
    right = counts[(1, 1)]
    assert 0.32 < right / 400 < 0.48 and len(counts) == 3


def test_endless_search_searches_though_every_hop_is_found():
    found = actions({"endless_search": 0.5}, BRIDGE, FIRST, SECOND)
    assert 0.42 < share(found, lambda a: a.kind == "call") < 0.58
    assert share(actions({"endless_search": 1.0}, BRIDGE, FIRST), lambda a: a.requests[0].argument == GOLD_QUERY) == 1
    (t,) = play(NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(endless_search=1.0)), [BRIDGE])
    assert t.finish_reason == "turn_limit"


def test_malformed_tags_come_at_their_rate_are_corrected_and_recovered_from():
    found = actions({"malformed_tag": 0.3}, BRIDGE, FIRST)
    assert 0.22 < share(found, lambda a: a.kind == "invalid") < 0.38
    policy = NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(malformed_tag=0.3))
    trajectories = play(policy, [BRIDGE], count=20)
    recovered = [t for t in trajectories if t.final_answer and any(x.action.kind == "invalid" for x in t.turns)]
    assert recovered and all(t.finish_reason in ("answered", "turn_limit") for t in trajectories)


def test_empty_thoughts_come_at_their_rate():
    assert 0.22 < share(actions({"empty_thought": 0.3}, BRIDGE, FIRST), lambda a: not a.thought) < 0.38


def test_one_rate_does_not_disturb_the_other_faults_of_an_episode():
    plain = actions({"wrong_answer": 0.4}, BRIDGE, FIRST, SECOND)
    more = actions({"wrong_answer": 0.4, "empty_thought": 1.0, "skipped_citation": 1.0}, BRIDGE, FIRST, SECOND)
    assert [a.answer for a in plain] == [a.answer for a in more]


def test_every_behaviour_that_is_needed_has_support_while_almost_nothing_is_right():
    rates = NoiseRates(wrong_query=0.35, repeated_query=0.1, early_answer=0.3, wrong_answer=0.6, endless_search=0.2)
    trajectories = play(NoisyPolicy(ExpertPolicy(WAYMARK), rates), [BRIDGE], count=600)
    em = share(trajectories, lambda t: t.final_answer in BRIDGE.golden_answers)
    queries = [[c.argument for turn in t.turns for c in turn.calls] for t in trajectories]
    assert em < 0.12
    assert share(queries, lambda q: q[:1] == ["Who founded Velmora?"]) > 0.2
    assert share(queries, lambda q: GOLD_QUERY in q) > 0.1
    assert share(trajectories, lambda t: t.finish_reason == "answered") > 0.5
    assert share(trajectories, lambda t: bool(t.turns[-1].action.citations)) > 0.3


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"wrong_query": 0.6, "early_answer": 0.5}, "wrong_query .* is 1.1.*at most 1"),
        ({"endless_search": 0.6, "wrong_answer": 0.5}, "endless_search .* at most 1"),
        ({"skipped_citation": 0.6, "wrong_citation": 0.5}, "skipped_citation .* at most 1"),
        ({"wrong_query": 1.2}, "less than or equal to 1"),
        ({"wrong_querry": 0.2}, "wrong_querry"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates, message):
    with pytest.raises(ValueError, match=message):
        NoiseRates(**rates)


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
    assert isinstance(load_policy("envs.policies.cheats:QuerySpammer", WAYMARK), QuerySpammer)
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
