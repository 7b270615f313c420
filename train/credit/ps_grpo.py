"""PS-GRPO: the baseline is per wording, the reward is across wordings (Con-RAG, arXiv:2510.04392).

`A_ij = (r_ij - mean_i) / (std_i + 1e-4)`, mean and deviation over the samples j of the SAME wording i. What compares
the wordings is the reward, `r_ij = alpha * consistency_ij + gamma * F1_ij`: give `consistency` and an answer reward,
alpha and gamma are their weights. A baseline over the whole set would pay a wording for being easy.
"""

from collections.abc import Mapping

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.group import check_unit
from train.credit.outcome import Outcome
from train.credit.row import Row


def check_wordings(unit: Unit) -> None:
    """Refuse a unit whose groups are not its wordings.

    Raises:
        ValueError: it is no paraphrase set, a group mixes wordings, or a wording is split over groups.
    """
    check_unit("ps_grpo", unit, "paraphrase_set")
    pairs = {(t.group_id, t.view) for t in unit.trajectories}
    groups, views = {group for group, _ in pairs}, {view for _, view in pairs}
    if not len(groups) == len(views) == len(pairs):
        raise ValueError(
            f"credit ps_grpo needs one group_id per wording, but unit {unit.id!r} has wordings {sorted(views)} in "
            f"groups {sorted(groups)}: sample it as a paraphrase set"
        )


class PsGrpo(Outcome):
    """`ps_grpo`: GRPO in each wording of a paraphrase set. Takes no parameters."""

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with the same advantage on all its sampled tokens."""
        check_wordings(unit)
        return super().__call__(unit, scores, weights)
