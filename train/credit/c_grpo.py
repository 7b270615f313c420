"""C-GRPO: correct trajectories earn a share for their citation rubrics, wrong ones earn nothing (CaRR, THUDM).

`R_i = (1 - alpha) R_o,i + alpha R_o,i Rhat_r,i` with `Rhat_r,i = R_r,i / max_j R_r,j`, the maximum over the WHOLE
group, wrong trajectories included; where it is 0 the rubric is used raw. Then GRPO's z-score. This is the formula of
the method's figure. Its published training code computes the normalised rubric and then mixes the raw one, which is
`normalise=False` here; under the z-score the two differ as soon as some trajectories of the group are wrong.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.compose import Composition
from rewards.score import Scores
from train.credit.baseline import without_nan
from train.credit.group import Group, to_rows
from train.credit.outcome import outcome_advantages
from train.credit.parameters import reward_name, share, switch
from train.credit.reading import largest_weight, refuse_product
from train.credit.row import Row


def c_grpo_returns(
    outcome: NDArray[np.float64], rubric: NDArray[np.float64], *, alpha: float = 0.3, normalise: bool = True
) -> NDArray[np.float64]:
    """`(1 - alpha) R_o + alpha R_o Rhat_r` over a group.

    outcome and rubric: `[num_trajectories]`, NaN where they do not apply; returns the same shape. NaN in `outcome`
    stays NaN. A rubric of NaN leaves a wrong trajectory at its 0, which no rubric could change, and takes one with an
    outcome out of the group. Where no trajectory with an outcome other than 0 has a rubric (the
    question has none), the outcome stands alone.

    >>> c_grpo_returns(np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.25, 0.5]))
    array([1.  , 0.85, 0.  ])
    """
    paid = ~np.isnan(outcome) & (outcome != 0.0)
    if np.isnan(rubric[paid]).all():
        return outcome.copy()
    highest = float(np.nanmax(rubric))
    scaled = rubric / highest if normalise and highest > 0.0 else rubric
    return np.where(paid, (1.0 - alpha) * outcome + alpha * outcome * scaled, outcome)


class CGrpo:
    """`c_grpo`. `outcome` and `rubric` name rewards of the config, `alpha` in [0, 1] is the rubric's share.

    The weight of the rubric scales `alpha` (a weight of 1 leaves it, 0 is GRPO on the outcome alone), the weight of the
    outcome scales the whole mix. Other rewards are added as they are, with their weights.
    """

    def __init__(
        self,
        *,
        outcome: str = "exact_match",
        rubric: str = "citation_rubric",
        alpha: float = 0.3,
        normalise: bool = True,
    ) -> None:
        self.outcome = reward_name("outcome", outcome)
        self.rubric = reward_name("rubric", rubric)
        self.alpha = share("alpha", alpha)
        self.normalise = switch("normalise", normalise)
        self.reads = {"outcome": self.outcome, "rubric": self.rubric}

    def check_rewards(self, rewards: Composition) -> None:
        """Refuse a product, a share above 1, and an outcome that weighs nothing. Raises ValueError."""
        refuse_product("c_grpo", rewards)
        if rewards.terms[self.outcome].weight == 0:
            raise ValueError(
                f"credit.params.outcome is {self.outcome!r}, whose weight is 0, and c_grpo multiplies outcome and "
                "rubric by it: nothing would be learned from either; give it a weight"
            )
        for weight in (largest_weight(self.rubric, rewards), rewards.terms[self.rubric].weight):
            self._share(weight)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with the same advantage on all its sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        outcome = group.component(self.outcome, role="outcome")
        rubric = group.component(self.rubric, role="rubric")
        mixed = c_grpo_returns(outcome.total, rubric.total, alpha=self._share(rubric.weight), normalise=self.normalise)
        others = without_nan(group.without(self.outcome, self.rubric).returns)
        advantages = outcome_advantages(outcome.weight * mixed + others)
        return np.repeat(advantages[:, None], group.num_turns.max(), axis=1)

    def _share(self, weight: float) -> float:
        return share(f"credit.params.alpha times the weight of {self.rubric!r}", self.alpha * weight)
