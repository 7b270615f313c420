"""Where a reward pays: at turns, or for a trajectory as a whole."""

from rewards.adapters import TRLReward
from rewards.agreement import AgreementReward
from rewards.citation_rubric import CitationRubricReward
from rewards.consistency import ConsistencyReward
from rewards.encoder_similarity import EncoderSimilarityReward
from rewards.failed_attempt import FailedAttemptReward
from rewards.judged import JudgedOutcomeReward
from rewards.per_trajectory import OutcomeReward

_OF_TRAJECTORIES = (
    OutcomeReward,
    JudgedOutcomeReward,
    FailedAttemptReward,
    AgreementReward,
    CitationRubricReward,
    ConsistencyReward,
    EncoderSimilarityReward,
    TRLReward,
)


def scores_trajectories_alone(reward: object) -> bool:
    """True if the reward is known to give no turn a score; of a user's own class that may not be known."""
    return isinstance(reward, _OF_TRAJECTORIES) or getattr(reward, "placed", None) == "outcome"
