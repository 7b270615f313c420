"""Do the passages that a sub-query brought speak of what it asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.failed_attempt import FailedAttemptReward
from rewards.reward import RewardContext, whole_parameter
from rewards.text_space import open_text_space


class AnswerabilityReward(FailedAttemptReward):
    """A failed episode is paid for sub-queries whose passages match them, less and less as training goes on.

    Formula: r = mean over search turns t, mean over sub-queries j of t, mean over the first `first_k` [3] passages d
    that j brought and that were shown, of max(E(j) . E(d), 0); outcome = share [0.5] * beta_t * (r * (1 - EM) + EM).
    beta_t falls from 0.2 to 0.02 and is gated by a moving average of EM (`rewards.failure_shaping`; `schedule` holds
    its settings). E is TF-IDF with the corpus's IDF, or the sentence encoder `model`. A sub-query is one search call;
    one that brought nothing has 0, and so has an episode that did not search. Range: [0, share * beta]. Source:
    SubSearch's code. Needs: `golden_answers`; without them NaN.

    Three repairs: a passage that was shown before counts 0 (`pay_repeats: true` counts it, as the source does), because
    otherwise asking the easiest query again, or asking with the words of a passage just read, is as good as going on;
    a negative cosine counts 0, so that searching never pays less than not searching; and a right answer gets the
    constant share * beta_t, so that failing never pays more (`pay_right: false` gives it 0, the source's term alone:
    then add this to an answer reward before anything is normalised).
    """

    name = "answerability"

    def __init__(
        self,
        context: RewardContext,
        *,
        model: str | None = None,
        share: float = 0.5,
        pay_right: bool = True,
        first_k: int = 3,
        pay_repeats: bool = False,
        schedule: Mapping[str, Any] | None = None,
        max_fit_passages: int = 50_000,
    ) -> None:
        super().__init__(share=share, pay_right=pay_right, schedule=schedule)
        if not isinstance(pay_repeats, bool):
            raise ValueError(f"reward {self.name}: pay_repeats must be true or false, got {pay_repeats!r}")
        self.pay_repeats = pay_repeats
        self.first_k = whole_parameter(self.name, "first_k", first_k, minimum=1)
        self.space = open_text_space(context, reward=self.name, model=model, max_fit_passages=max_fit_passages)

    def quality(self, trajectory: Trajectory, question: Question) -> float:
        """Mean match of sub-queries and passages, in [0, 1]."""
        by_turn: list[float] = []
        seen: set[str] = set()
        for turn in trajectory.turns:
            shown = {s.passage_id for s in turn.shown}
            by_query: list[float] = []
            for call in turn.calls:
                if call.tool != "search":
                    continue
                passages = [hit.passage for hit in call.hits if hit.passage.id in shown][: self.first_k]
                by_query.append(0.0)
                if passages:
                    row = self.space.cosines([call.argument, *(p.contents for p in passages)])[0, 1:]
                    counts = [self.pay_repeats or p.id not in seen for p in passages]
                    by_query[-1] = float(np.mean(np.where(counts, np.clip(row, 0.0, 1.0), 0.0)))
                seen.update(p.id for p in passages)
            if by_query:
                by_turn.append(sum(by_query) / len(by_query))
            seen |= shown
        return sum(by_turn) / len(by_turn) if by_turn else 0.0
