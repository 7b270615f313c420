"""The built-in rewards by name. A reward of a user's own is named `module:object` in the config instead."""

from agent.extension import load_object
from rewards.answer import ExactMatchReward, F1Reward
from rewards.citation import CitationPrecisionReward, CitationRecallReward
from rewards.format import FormatReward
from rewards.information_gain import InformationGainReward
from rewards.never_answering import NeverAnsweringReward
from rewards.relevance import HopRelevanceReward
from rewards.reward import RewardFactory

REWARDS: dict[str, RewardFactory] = {
    "exact_match": ExactMatchReward,
    "f1": F1Reward,
    "format": FormatReward,
    "hop_relevance": HopRelevanceReward,
    "information_gain": InformationGainReward,
    "never_answering": NeverAnsweringReward,
    "citation_precision": CitationPrecisionReward,
    "citation_recall": CitationRecallReward,
}


def load_reward(reference: str) -> RewardFactory:
    """The factory that a name or a `module:object` reference stands for.

    Raises:
        ValueError: neither; the message lists the names.
    """
    return load_object(reference, kind="reward", builtins=REWARDS)
