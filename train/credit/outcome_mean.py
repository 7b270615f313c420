"""`outcome` without the division by the group's standard deviation.

Dividing weighs questions that are nearly solved, or nearly hopeless, more than those in between; leaving it out is the
correction of Dr. GRPO (Liu et al. 2025, arXiv:2503.20783).
"""

from train.credit.outcome import Outcome


class OutcomeMean(Outcome):
    """`outcome_mean`: what a trajectory earned less its group's mean. Takes no parameters."""

    scale = False
