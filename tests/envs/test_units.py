"""Units without branches, and what units cost in whole episodes."""

from dataclasses import replace

import pytest

from agent.trajectory import Unit
from envs.actor import stable_seed
from envs.episode import EpisodeSpec
from envs.units import GroupSampler, ParaphraseSetSampler, UnitTask, whole_episodes
from tests.envs.fake_engine import search_then_answer
from tests.envs.small_world import BRIDGE, COMPARISON
from tests.envs.unit_parts import TASK, Watched, sample
from tests.train.fakes import trajectory, turn


async def test_a_group_asks_the_question_as_it_is_with_seeds_from_its_key() -> None:
    episodes = Watched(search_then_answer)
    unit = await sample(GroupSampler(samples=3), episodes)
    assert unit.kind == "group" and [t.id for t in unit.trajectories] == [f"u0-sample0{i}" for i in range(3)]
    assert {t.group_id for t in unit.trajectories} == {"u0"} and {t.view for t in unit.trajectories} == {0}
    assert [spec.seed for spec in episodes.specs] == [stable_seed(1, 2, 3, i) for i in range(3)]


async def test_each_wording_is_a_group_of_its_own_that_searches_for_itself() -> None:
    def say(episode: str, turn: int) -> str:
        view = episode.split("-view")[1][:2]
        return "<answer>x</answer>" if turn else f"<search>{'Velmora' if view == '00' else 'Quillon Bay'}</search>"

    episodes = Watched(say)
    unit = await sample(ParaphraseSetSampler(wordings=2, samples=2), episodes)
    assert unit.kind == "paraphrase_set"
    assert [(t.view, t.sample, t.group_id) for t in unit.trajectories] == [
        (view, sample, f"u0-view{view}") for view in range(2) for sample in range(2)
    ]
    assert len({spec.seed for spec in episodes.specs}) == 4
    first, other = unit.trajectories[0], unit.trajectories[2]
    assert first.prompt_ids != other.prompt_ids, "the wording is what the policy reads"
    assert sorted(episodes.queries) == ["Quillon Bay"] * 2 + ["Velmora"] * 2
    shown = [{s.passage_id for turn in t.turns for s in turn.shown} for t in (first, other)]
    assert shown[0] != shown[1], "what a wording finds is its own"


@pytest.mark.parametrize(("question", "wordings"), [(BRIDGE, 2), (COMPARISON, 1)])
async def test_a_question_with_fewer_paraphrases_is_asked_in_those_that_it_has(question, wordings) -> None:
    task = UnitTask(id="u0", question=question, key=(0,))
    unit = await sample(ParaphraseSetSampler(wordings=6, samples=2), Watched(search_then_answer), task)
    assert sorted({t.view for t in unit.trajectories}) == list(range(wordings))


def cost(*members, discarded=()) -> float:
    """Of trajectories given as (turns, turns of the prefix, finish)."""
    sampled, kept = [], []
    for i, (turns, prefix, finish) in enumerate([*members, *discarded]):
        played = trajectory(f"t{i}", [turn((4,), (5,))] * turns, finish=finish)
        spec = EpisodeSpec(id=f"t{i}", question=BRIDGE, unit_id="u", group_id="g", prefix_turns=played.turns[:prefix])
        sampled.append((spec, played))
        if i < len(members):
            kept.append(played)
    return whole_episodes(Unit(kind="branch_tree", trajectories=tuple(kept)), sampled)


def test_a_plain_episode_counts_one_whatever_its_length_and_end() -> None:
    assert cost((4, 0, "answered"), (1, 0, "answered"), (0, 0, "engine_failure")) == 3


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_k_candidates_a_step_count_k_episodes_however_many_steps(steps) -> None:
    members = []
    for step in range(steps):
        members += [(step + 1, step, "answered"), (step + 1, step, "cut"), (step + 1, step, "malformed")]
    members[-2] = (steps, steps - 1, "answered")
    assert cost(*members) == pytest.approx(3)


def test_a_fork_counts_by_its_own_turns_and_what_was_sampled_for_nothing_counts_too() -> None:
    assert cost((4, 0, "answered"), (4, 2, "answered"), (2, 1, "turn_limit")) == 1 + 2 / 4 + 1 / 2
    assert cost((4, 0, "answered"), discarded=[(2, 1, "cut")]) == 1 + 1 / 4


def test_reading_what_a_winner_asked_for_samples_nothing_and_costs_nothing() -> None:
    assert cost((1, 0, "cut"), (2, 1, "answered"), discarded=[(1, 1, "cut")]) == 1


def test_seeds_follow_from_the_key_and_not_from_the_id() -> None:
    again = replace(TASK, id="u0-again1")
    assert [s.seed for s in GroupSampler(samples=2).opening(TASK)] == [
        s.seed for s in GroupSampler(samples=2).opening(again)
    ]
