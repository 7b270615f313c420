"""The built-in rewards by name. A reward of a user's own is named `module:object` in the config instead."""

from agent.extension import load_object
from rewards.agreement import AgreementReward
from rewards.answer import ExactMatchReward, F1Reward
from rewards.answerability import AnswerabilityReward
from rewards.biased_relevance import BiasedRelevanceReward
from rewards.boundary import BoundaryReward
from rewards.citation import CitationPrecisionReward, CitationRecallReward
from rewards.citation_rubric import CitationRubricReward
from rewards.consistency import ConsistencyReward
from rewards.coverage import CoverageReward
from rewards.document_relevance import DocumentRelevanceReward
from rewards.efficiency import EfficiencyReward
from rewards.encoder_similarity import EncoderSimilarityReward
from rewards.format import FormatReward
from rewards.formatted_match import FormattedMatchReward
from rewards.hop_potential import HopPotentialReward
from rewards.information_gain import InformationGainReward
from rewards.judged_answer import JudgedAnswerReward
from rewards.judgement import JudgementReward
from rewards.keyword import KeywordReward
from rewards.never_answering import NeverAnsweringReward
from rewards.nuggets import NuggetsReward
from rewards.principles import PrinciplesReward
from rewards.query_diversity import QueryDiversityReward
from rewards.query_quality import QueryQualityReward
from rewards.reflection import ReflectionReward
from rewards.relevance import HopRelevanceReward
from rewards.reward import RewardFactory
from rewards.splittability import SplittabilityReward
from rewards.step_quality import StepQualityReward
from rewards.sufficiency import SufficiencyReward

REWARDS: dict[str, RewardFactory] = {
    "exact_match": ExactMatchReward,
    "f1": F1Reward,
    "format": FormatReward,
    "hop_relevance": HopRelevanceReward,
    "information_gain": InformationGainReward,
    "never_answering": NeverAnsweringReward,
    "judgement": JudgementReward,
    "reflection": ReflectionReward,
    "formatted_match": FormattedMatchReward,
    "boundary": BoundaryReward,
    "document_relevance": DocumentRelevanceReward,
    "nuggets": NuggetsReward,
    "principles": PrinciplesReward,
    "step_quality": StepQualityReward,
    "judged_answer": JudgedAnswerReward,
    "citation_precision": CitationPrecisionReward,
    "citation_recall": CitationRecallReward,
    "citation_rubric": CitationRubricReward,
    "consistency": ConsistencyReward,
    "hop_potential": HopPotentialReward,
    "keyword": KeywordReward,
    "query_quality": QueryQualityReward,
    "answerability": AnswerabilityReward,
    "splittability": SplittabilityReward,
    "coverage": CoverageReward,
    "agreement": AgreementReward,
    "sufficiency": SufficiencyReward,
    "efficiency": EfficiencyReward,
    "query_diversity": QueryDiversityReward,
    "biased_relevance": BiasedRelevanceReward,
    "encoder_similarity": EncoderSimilarityReward,
}


def load_reward(reference: str) -> RewardFactory:
    """The factory that a name or a `module:object` reference stands for.

    Raises:
        ValueError: neither; the message lists the names.
    """
    return load_object(reference, kind="reward", builtins=REWARDS)
