"""What a changed word, noise and not searching come to, on hand-counted episodes; and the changes themselves."""

import random
from dataclasses import replace

import pytest

from agent.protocols.registry import load_protocol
from agent.trajectory import ToolCall
from envs.actor import ScriptedActor
from envs.episode_pool import run_episodes
from envs.perturbation import PERTURBATIONS, perturbed, perturbed_search
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.abstention import abstains
from evaluation.episode_cost import duplicate_searches, latency_summary
from evaluation.several_samples import pass_at, sample_summary
from evaluation.studies import knowledge_boundary, noise_row, outcomes, perturbed_specs, robustness
from evaluation.turn_recall import recall_by_turn
from tests.evaluation.conftest import SmallWorld
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory, search_turn, trajectory

OTHER = Question(id="q2", text="Which city?", golden_answers=("Bergen",), supporting_ids=("p3",))
QUESTIONS = {"q1": QUESTION, "q2": OTHER}


def said(answer: str, question_id: str = "q1", *, searched: bool = True, sample: int = 0):
    turns = (search_turn("Oslo", [(1, "p1")]),) if searched else ()
    return trajectory(*turns, answer_turn(answer), id=f"{question_id}-{sample}", question_id=question_id, sample=sample)


def test_a_changed_word_differs_in_one_word_and_comes_again() -> None:
    query = "When was the director of the film Casablanca born?"
    words = query.split()
    for seed in range(50):
        dropped = perturbed(query, "drop", seed).split()
        assert len(dropped) == len(words) - 1 and not {"the", "of"} - set(dropped)
        added = perturbed(query, "add", seed).split()
        assert len(added) == len(words) + 1 and set(words) <= set(added)
        swapped = perturbed(query, "swap", seed).split()
        assert len(swapped) == len(words) and sum(a != b for a, b in zip(swapped, words, strict=True)) == 1
    assert len({perturbed(query, "swap", seed) for seed in range(50)}) > 2
    assert perturbed(query, "add", 3) == perturbed(query, "add", 3)
    assert perturbed("Casablanca", "drop", 0) == "Casablanca" and perturbed("Casablanca", "swap", 0) == "Casablancas"
    with pytest.raises(ValueError, match="there are drop, add, swap"):
        perturbed(query, "shuffle", 0)


async def test_a_long_query_does_not_grow_beyond_what_a_server_takes() -> None:
    asked: list[str] = []

    async def search(query: str, k: int) -> list:
        asked.append(query)
        return []

    await perturbed_search(search, "add", 0)("x " * 3000, 3)
    assert asked == ["x " * 3000]


class OpensThenSearches:
    """Opens a document, searches twice with the question, and answers."""

    def act(self, question, view, turns, rng):
        if not turns:
            return "<open>Oslo</open>"
        return "<answer>nobody</answer>" if len(turns) == 3 else f"<search>{question.text}</search>"


async def test_the_first_search_is_changed_also_where_a_document_is_opened_before(small_world: SmallWorld) -> None:
    asked: list[str] = []

    async def search(query: str, k: int) -> list:
        asked.append(query)
        return []

    async def documents(name: str) -> list:
        return []

    await run_episodes(
        perturbed_specs(small_world.questions[:1], "add", samples=1, seed=0),
        actor=ScriptedActor(OpensThenSearches(), small_world.tokenizer),
        search=search,
        documents=documents,
        protocol=load_protocol("waymark_open"),
        tokenizer=small_world.tokenizer,
        limits=EpisodeLimits(max_turns=4),
    )
    changed, same = asked
    text = small_world.questions[0].text
    assert len(changed.split()) == len(text.split()) + 1 and same == text


def test_robustness_counts_right_answers_lost_sample_by_sample() -> None:
    plain = [said("Harald"), said("Bergen", "q2"), said("no", "q2", sample=1)]
    changed = {
        "drop": [said("Carl"), said("Bergen", "q2"), said("Bergen", "q2", sample=1)],
        "add": [said("Harald"), said("Bergen", "q2"), said("no", "q2", sample=1)],
    }
    before = outcomes(plain, QUESTIONS)
    found = robustness(before, {name: outcomes(played, QUESTIONS) for name, played in changed.items()})
    assert found["drop"]["lost"] == 0.5 and found["drop"]["num_right"] == 2 and found["drop"]["gained"] == 1.0
    assert found["add"]["lost"] == 0.0
    assert found["any"]["lost"] == 0.5
    lost = trajectory(id="x", finish_reason="retrieval_outage")
    assert robustness(before, {"drop": outcomes([lost, *changed["drop"][1:]], QUESTIONS)})["drop"]["num_right"] == 1


def test_a_point_of_the_noise_curve_tells_accuracy_and_what_was_found() -> None:
    blind = trajectory(search_turn("x", [(1, "p3")]), answer_turn("no"))
    clean = noise_row(0.0, [good_trajectory()], {"q1": QUESTION}, citations=True)
    noisy = noise_row(1.0, [blind], {"q1": QUESTION}, citations=True)
    assert (clean["share"], clean["em"], clean["without_support"]) == (0.0, 1.0, 0.0)
    assert (noisy["share"], noisy["em"], noisy["without_support"]) == (1.0, 0.0, 1.0)


def test_the_boundary_is_the_f1_of_not_searching_what_is_known() -> None:
    closed = [said("Harald", searched=False), said("no", "q2", searched=False)]
    played = [said("Harald", searched=False), said("Bergen", "q2", searched=False)]
    found = knowledge_boundary(played, closed, QUESTIONS)
    assert (found["boundary_precision"], found["boundary_recall"]) == (0.5, 1.0)
    assert found["boundary_f1"] == pytest.approx(2 / 3) and found["boundary_known"] == 0.5
    always = knowledge_boundary([said("Harald"), said("Bergen", "q2")], closed, QUESTIONS)
    assert always["boundary_f1"] == 0.0, "who always searches knows nothing of what it knows"
    assert knowledge_boundary(played, [said("no", "q1"), said("no", "q2")], QUESTIONS)["boundary_f1"] is None


def test_recall_by_turn_keeps_what_was_seen_and_ends_at_the_whole() -> None:
    short = trajectory(answer_turn("x"), id="s", question_id="q2")
    first, second = recall_by_turn([good_trajectory(), short], QUESTIONS)
    assert (first["turn"], first["recall"], first["new"], first["searching"]) == (1, 0.25, 0.25, 0.5)
    assert (second["recall"], second["new"]) == (0.5, 0.25)
    assert recall_by_turn([said("x")], {"q1": replace(QUESTION, supporting_ids=())}) == []


@pytest.mark.parametrize(("n", "right"), [(5, 2), (8, 0), (8, 8), (4, 1)])
def test_pass_at_k_is_the_chance_of_a_right_one_among_k(n: int, right: int) -> None:
    rng = random.Random(0)
    for k in range(1, n + 1):
        draws = [any(i < right for i in rng.sample(range(n), k)) for _ in range(4000)]
        assert pass_at(k, n, right) == pytest.approx(sum(draws) / len(draws), abs=0.03)
    with pytest.raises(ValueError, match="at most the samples"):
        pass_at(n + 1, n, right)


def test_several_samples_have_pass_and_mean() -> None:
    episodes = [said("Harald" if i == 0 else "no", sample=i) for i in range(4)]
    episodes += [said("no", "q2", sample=i) for i in range(4)]
    found = sample_summary(episodes, QUESTIONS)
    assert (found["pass@1"], found["pass@2"], found["pass@4"], found["mean@4"]) == (0.125, 0.25, 0.5, 0.125)
    assert found["pass@4_low"] <= 0.5 <= found["pass@4_high"]
    assert sample_summary(episodes[:1], QUESTIONS) == {}


def test_abstention_is_declining_or_stopping_and_not_running_out() -> None:
    assert abstains(said("I don't know.")) and abstains(trajectory(finish_reason="no_answer"))
    assert not abstains(said("no")) and not abstains(said("Harald"))
    assert not abstains(trajectory(finish_reason="turn_limit"))


def test_costs_are_counted() -> None:
    turns = [search_turn(query, [(1, "p1")]) for query in ("King of Norway?", "the king of norway", "Oslo")]
    episode = trajectory(*turns, answer_turn("x"))
    assert duplicate_searches(episode) == 1
    slow = replace(turns[0], calls=(ToolCall(tool="search", argument="a", hits=(), status="ok", latency_s=9.0),))
    seconds = latency_summary([episode, trajectory(slow, id="t2")], {"t1": 1.0})
    assert seconds["search_s_p50"] == pytest.approx(0.01) and seconds["search_s_p99"] > 8
    assert seconds["episode_s_p50"] == pytest.approx(1.03)
    assert latency_summary([], {})["search_s_p50"] is None


def test_every_kind_of_change_has_a_name() -> None:
    assert list(PERTURBATIONS) == ["drop", "add", "swap"]
