"""RE-Searcher's reward of reflection: did the last search meet its goal, and does the policy say so."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedOutcomeReward
from rewards.parameter import flag, one_of, opened_judge
from rewards.reading import answers_of, is_found, observed_turns, read_passages
from rewards.reward import RewardContext, share_parameter
from rewards.wording import content_words, mentions, recall

_JUDGED_TRUE = 0.5


class ReflectionReward(JudgedOutcomeReward):
    """Share of the reflections that are right, each class of label counted alike.

    Formula: at each turn that follows an observation o, r = `Action.reflection` and the label r* in {true, false};
    outcome = mean over the labels that occur of the share of r = r* among the turns of that label (`balanced`, the
    default: balanced accuracy), or the plain mean of 1[r = r*]. Silence is wrong; a trajectory without an observation
    is NaN, and so is one that reflects on nothing, unless `required` (for protocols that have the tag). Plain, "always
    true" earns as much as an honest reflection with one mistake where three of four searches meet their goal, 0.75;
    balanced it earns 0.5 wherever both labels occur.

    r* by `label`: `hops` (default), true if o finds a hop that no observation before it was credited with (one hop an
    observation, in the question's order; found: its support is shown, or its answer said where no support is
    annotated). `words`: true if o says an answer of the question or of a hop, or if its first passage has at least
    `goal_recall` [0.6] of the content words of the last goal; the policy writes the goal, so it has a hand in that
    label. With `judge` (criterion `goal_met`) true from a score of 0.5 up, in place of both; a failed verdict is left
    out of the mean, which is NaN where all failed.

    Range: [0, 1]; the source weighs it 0.1. Source: RE-Searcher (arXiv:2509.26048), whose equations were not recovered:
    mean in place of sum, balance and both labels are choices of this project; label `words` is the usual substitute of
    its judge. Needs: `hops` (label `hops`), `golden_answers` (label `words` and with a judge); without them NaN.
    """

    name = "reflection"
    may_abstain = True
    needs_of_protocol = frozenset({"goal", "reflect"})

    def __init__(
        self,
        context: RewardContext,
        *,
        balanced: bool = True,
        label: str = "hops",
        goal_recall: float = 0.6,
        required: bool = False,
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self._passage = context.passage
        self.balanced = flag(self.name, "balanced", balanced)
        self.label = one_of(self.name, "label", label, ("hops", "words"))
        self.goal_recall = share_parameter(self.name, "goal_recall", goal_recall)
        self.required = flag(self.name, "required", required)
        self.judge = opened_judge(judge)
        by_hops = self.label == "hops" and self.judge is None
        self.needs = frozenset({"hops"} if by_hops else {"golden_answers"})

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """The first turn has nothing to reflect on."""
        return Bounds(low=0.0, high=1.0 if max_turns > 1 else 0.0)

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """Each observation with the last goal before it; the query stands in where none was stated."""
        return [
            JudgeRequest(
                criterion="goal_met",
                fields={
                    "goal": last_goal(trajectory, t) or " ".join(c.argument for c in trajectory.turns[t - 1].calls),
                    "passages": [p.contents for p in read_passages(trajectory.turns[t - 1], self._passage)],
                    "golds": answers_of(question),
                },
            )
            for t in self._reflecting_turns(trajectory)
        ]

    def outcome(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> float:
        """In [0, 1], NaN where nothing was to be reflected on."""
        turns = self._reflecting_turns(trajectory)
        if self.judge is not None:
            labels = [None if np.isnan(score) else score >= _JUDGED_TRUE for score in verdicts]
        else:
            labels = list(self._labels(trajectory, question, turns))
        right: dict[bool, list[bool]] = {}
        for t, label in zip(turns, labels, strict=True):
            if label is not None:
                group = label if self.balanced else True
                right.setdefault(group, []).append(trajectory.turns[t].action.reflection is label)
        return float(np.mean([np.mean(hits) for hits in right.values()])) if right else float("nan")

    def _reflecting_turns(self, trajectory: Trajectory) -> list[int]:
        says_something = any(turn.action.reflection is not None for turn in trajectory.turns)
        return observed_turns(trajectory) if says_something or self.required else []

    def _labels(self, trajectory: Trajectory, question: Question, turns: Sequence[int]) -> list[bool]:
        observations = [read_passages(trajectory.turns[t - 1], self._passage) for t in turns]
        if self.label == "hops":
            open_hops = list(question.hops)
            labels = []
            for passages in observations:
                met = next((hop for hop in open_hops if is_found(hop, passages)), None)
                labels.append(met is not None)
                if met is not None:
                    open_hops.remove(met)
            return labels
        answers = answers_of(question)
        labels = []
        for t, passages in zip(turns, observations, strict=True):
            goal = last_goal(trajectory, t)
            wanted = content_words(goal) if goal else frozenset[str]()
            top = content_words(passages[0].contents) if passages else frozenset[str]()
            is_said = any(mentions(passage.contents, answers) for passage in passages)
            labels.append(is_said or (bool(wanted) and recall(wanted, top) >= self.goal_recall))
        return labels


def last_goal(trajectory: Trajectory, turn: int) -> str | None:
    """The last goal stated before a turn: a search that follows a failed one may leave it standing."""
    return next((t.action.goal for t in reversed(trajectory.turns[:turn]) if t.action.goal), None)
