"""ReSeek's reward of the judge action: is what was shown enough to answer, and does the policy say so."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedTurnReward, aggregated
from rewards.parameter import AGGREGATES, flag, one_of, opened_judge
from rewards.reading import answers_of, is_found, observed_turns, read_passages
from rewards.reward import RewardContext, finite_parameter, share_parameter
from rewards.wording import mentions

LABELS = {
    "enough": frozenset({"hops"}),
    "answer": frozenset({"golden_answers"}),
    "hop": frozenset({"hops", "golden_answers"}),
}
"""What makes "yes" right, and what has to be annotated for it."""


class JudgementReward(JudgedTurnReward):
    """Pays a turn for saying rightly whether the observation before it is enough to answer.

    Formula: at a turn that follows an observation o, j = `Action.judgement` and j* the label: `match` [0.3] if j = j*,
    -`false_accept` [0.6] if j says yes against j* = no, -`false_reject` [0.3] if it says no against yes; silence is the
    wrong judgement. With `aggregate: mean`, the default, each is divided by the number of such turns; with `sum`
    n searches pay n * `match`, more than an exact match from the fourth on. Every other turn is NaN.
    A trajectory that judges nothing is NaN whole, so that protocols without a judge tag can be scored; `required`
    counts its silence as wrong, and is for protocols that have the tag.

    j* by `label`: `enough` (default), yes if every hop is found in what was shown so far: its support, or its answer
    where no support is annotated. `answer`, as published: yes if o says a gold answer; useful intermediate hops and the
    entities of a comparison are then mislabelled. `hop`: yes if o says a gold answer, or an answer of a hop that no
    earlier observation said. With `judge` (criterion `relevance` of o to a gold answer, with `hop` also to a hop's; the
    best one counts) yes if above `threshold` [0.7], the source's for its reranker; the judge replaces the matching of
    words in `answer` and `hop`, and a failed verdict makes its turn NaN.

    Range: mean, sum over turns in [-max(false_accept, false_reject), match]; sum, that times the number of
    observations. Source: ReSeek (arXiv:2510.00568), whose labels come from a reranker and whose return is the sum of
    gamma^(t-1) r_t; here no turn is discounted (credit `turn` has a `discount`). Matching whole normalised words
    instead, the label `enough` and the mean are this project's. Needs: `hops` (label `enough`), `golden_answers`
    (`answer`), both (`hop`); without them NaN.
    """

    name = "judgement"
    may_abstain = True
    needs_of_protocol = frozenset({"judge"})

    def __init__(
        self,
        context: RewardContext,
        *,
        match: float = 0.3,
        false_accept: float = 0.6,
        false_reject: float = 0.3,
        label: str = "enough",
        aggregate: str = "mean",
        required: bool = False,
        judge: str | Mapping[str, Any] | Judge | None = None,
        threshold: float = 0.7,
    ) -> None:
        self._passage = context.passage
        self.match = finite_parameter(self.name, "match", match)
        self.false_accept = finite_parameter(self.name, "false_accept", false_accept)
        self.false_reject = finite_parameter(self.name, "false_reject", false_reject)
        self.label = one_of(self.name, "label", label, tuple(LABELS))
        self.aggregate = one_of(self.name, "aggregate", aggregate, AGGREGATES)
        self.required = flag(self.name, "required", required)
        self.threshold = share_parameter(self.name, "threshold", threshold)
        if judge is not None and label == "enough":
            raise ValueError(
                "reward judgement: label enough is read off the hops and asks no judge; set label to answer or hop, or "
                "leave the judge out"
            )
        self.needs = LABELS[self.label]
        self.judge = opened_judge(judge)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """The first turn has nothing to judge, and a trajectory may judge nothing."""
        most = min(max_turns - 1, 1) if self.aggregate == "mean" else max_turns - 1
        return Bounds(low=-max(self.false_accept, self.false_reject) * most, high=self.match * most)

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """Each observation against each gold answer."""
        return [
            JudgeRequest(
                criterion="relevance",
                fields={
                    "question": question.wording(trajectory.view),
                    "query": wanted,
                    "passages": [p.contents for p in read_passages(trajectory.turns[t - 1], self._passage)],
                },
            )
            for t in self._judged_turns(trajectory)
            for wanted in self._wanted(question)
        ]

    def turns(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> NDArray[np.float64]:
        """`[num_turns]`, NaN where there was nothing to judge."""
        values = np.full(trajectory.num_turns, np.nan)
        judged = self._judged_turns(trajectory)
        for t, is_yes in zip(judged, self._labels(trajectory, question, judged, verdicts), strict=True):
            if is_yes is not None:
                stated = trajectory.turns[t].action.judgement
                wrong = self.false_reject if is_yes else self.false_accept
                values[t] = self.match if stated is is_yes else -wrong
        return aggregated(values, self.aggregate)

    def _judged_turns(self, trajectory: Trajectory) -> list[int]:
        says_something = any(turn.action.judgement is not None for turn in trajectory.turns)
        return observed_turns(trajectory) if says_something or self.required else []

    def _wanted(self, question: Question) -> tuple[str, ...]:
        return question.golden_answers if self.label == "answer" else answers_of(question)

    def _labels(
        self, trajectory: Trajectory, question: Question, judged: Sequence[int], verdicts: Sequence[float]
    ) -> list[bool | None]:
        """True for yes, None where the judge failed, one for each judged turn."""
        if self.judge is not None:
            width = len(self._wanted(question))
            rows = [verdicts[i * width : (i + 1) * width] for i in range(len(judged))]
            return [None if np.isnan(row).any() else max(row) > self.threshold for row in rows]
        labels: list[bool | None] = []
        found: set[int] = set()
        for t in judged:
            passages = read_passages(trajectory.turns[t - 1], self._passage)
            texts = [passage.contents for passage in passages]
            before = set(found)
            if self.label == "enough":
                found |= {i for i, hop in enumerate(question.hops) if is_found(hop, passages)}
                labels.append(len(found) == len(question.hops))
                continue
            if self.label == "hop":
                said = {i for i, hop in enumerate(question.hops) if any(mentions(text, hop.answers) for text in texts)}
                found |= said
            labels.append(found > before or any(mentions(text, question.golden_answers) for text in texts))
        return labels
