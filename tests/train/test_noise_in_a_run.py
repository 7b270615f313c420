"""A unit's searches are as noisy as the step that takes it, in its opening and in every later round."""

import asyncio

import pytest

from agent.trajectory import Trajectory, Unit
from envs.episode import EpisodeSpec
from envs.question import Question
from envs.units import GroupSampler, UnitTask
from train.noise_config import NoiseConfig
from train.question_order import QuestionOrder
from train.rollouts import Rollouts
from train.unit_play import UnitPlay

QUESTIONS = [Question(id=str(i), text=f"q{i}", golden_answers=("a",)) for i in range(4)]


class AtOnce:
    """Ends every episode at once, and remembers what was asked for."""

    def __init__(self) -> None:
        self.specs: list[EpisodeSpec] = []

    def submit(self, specs):
        self.specs += specs
        futures = []
        for spec in specs:
            future = asyncio.get_running_loop().create_future()
            future.set_result(
                Trajectory(
                    id=spec.id,
                    question_id=spec.question.id,
                    unit_id=spec.unit_id,
                    group_id=spec.group_id,
                    sample=spec.sample,
                    prompt_ids=(1,),
                    turns=(),
                    finish_reason="no_answer",
                )
            )
            futures.append(future)
        return futures


async def test_the_share_follows_the_step_that_takes_the_unit() -> None:
    episodes, curriculum = AtOnce(), NoiseConfig(start=0.1, end=0.5, base=4.0)
    rollouts = Rollouts(
        order=QuestionOrder(QUESTIONS, seed=0),
        episodes=episodes,
        units_per_step=2,
        sampler=GroupSampler(samples=3),
        seed=0,
        noise=lambda step: curriculum.share(step, 3),
    )
    for step in range(3):
        rollouts.set_version(step)
        await rollouts.next_units(step)
    await rollouts.close()
    by_step = {step: {s.noise for s in episodes.specs if s.id.startswith(f"step{step:06d}")} for step in range(3)}
    assert by_step == {step: {curriculum.share(step, 3)} for step in range(3)}
    assert by_step[0] == {0.1} and by_step[0] != by_step[1] != by_step[2]


class TwoRounds(GroupSampler):
    """Asks for its opening twice."""

    async def complete(self, task, opened, episodes):
        futures = episodes.submit(self.opening(task))
        return Unit(kind="group", trajectories=(*opened, *(await asyncio.gather(*futures))))


async def test_later_rounds_of_a_unit_are_as_noisy_as_its_opening() -> None:
    episodes = AtOnce()
    task = UnitTask(id="u", question=QUESTIONS[0], key=(0,))
    play = UnitPlay(task, TwoRounds(samples=2), episodes, lambda *_, **__: None, noise=0.25)
    await play.play(episodes.submit(play.opening))
    assert [spec.noise for spec in episodes.specs] == [0.25] * 4


@pytest.mark.parametrize("noise", [0.0, 0.25])
async def test_without_a_curriculum_no_search_is_noisy(noise: float) -> None:
    episodes = AtOnce()
    options = {"noise": lambda step: noise} if noise else {}
    rollouts = Rollouts(
        order=QuestionOrder(QUESTIONS, seed=0),
        episodes=episodes,
        units_per_step=1,
        sampler=GroupSampler(samples=2),
        seed=0,
        **options,
    )
    await rollouts.next_units(0)
    await rollouts.close()
    assert {spec.noise for spec in episodes.specs} == {noise}
