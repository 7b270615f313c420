"""A judge without a model: aliases, token recall, names, numbers and negation, and a sentence encoder if one is named.

It is deterministic and costs no money, so tests and runs without an endpoint can use every reward that asks a judge. It
reads words, not meaning: paraphrases beyond its small table of relation words are judged wrong. `docs/judge.md` has its
balanced accuracy on cases written after it was finished.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.judge.counts import JudgeCounts
from rewards.judge.judge import JudgeRequest, Verdict
from rewards.judge.rules_answer import answer_is_right
from rewards.judge.rules_evidence import (
    GOAL_RECALL,
    OTHER_ENTITY,
    SUPPORT_RECALL,
    gives_gold,
    has_names,
    nugget_label,
    relevance,
    supports,
)
from rewards.judge.rules_step import query_score, thought_score
from rewards.judge.settings import RulesSettings

_NUGGET_SCORES = {"support": 1.0, "partial_support": 0.5, "not_support": 0.0}
Fields = Mapping[str, Any]


class RulesJudge(JudgeCounts):
    """Judges all criteria by rules; implements `rewards.judge.judge.Judge`. It never fails and costs nothing.

    Args:
        settings: with `encoder`, relevance is the larger of the words' score and the cosine between query and passage,
            each at most `OTHER_ENTITY` where a name of the query is missing from the passage.
        embeddings: texts to unit vectors, instead of loading `encoder`.

    Raises:
        ImportError: an encoder is named and sentence-transformers is not installed.
    """

    name = "rules"

    def __init__(self, settings: RulesSettings | None = None, embeddings: Any = None) -> None:
        super().__init__()
        self.settings = settings or RulesSettings()
        if embeddings is None and self.settings.encoder is not None:
            from rewards.text_space import shared_embeddings

            embeddings = shared_embeddings(self.settings.encoder)
        self._embeddings = embeddings
        self._rules: dict[str, Callable[[Fields], Verdict]] = {
            "answer": lambda f: _binary(
                answer_is_right(f["question"], f["answer"], f["golds"]), "correct", "incorrect"
            ),
            "supports": lambda f: _binary(supports(f["claim"], f["passages"]), "supported", "not_supported"),
            "relevance": lambda f: Verdict(score=self._relevance(f["query"], f["passages"])),
            "usefulness": lambda f: _binary(
                gives_gold(f["query"], f["passages"], f["golds"], SUPPORT_RECALL), "useful", "not_useful"
            ),
            "goal_met": lambda f: _binary(
                gives_gold(f["goal"], f["passages"], f["golds"], GOAL_RECALL), "met", "not_met"
            ),
            "nugget": lambda f: _nugget(f["text"], f["nugget"]),
            "thought": lambda f: Verdict(score=thought_score(f["question"], f["thought"], f["context"])),
            "query": lambda f: Verdict(score=query_score(f["question"], f["thought"], f["query"], f["context"])),
        }

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request, in order."""
        verdicts = [self._rules[request.criterion](request.fields) for request in requests]
        self.count(asked=len(verdicts))
        return verdicts

    def close(self) -> None:
        """Nothing to give back."""

    def _relevance(self, query: str, passages: Sequence[str]) -> float:
        score = relevance(query, passages)
        if self._embeddings is None or not query.strip():
            return score
        for passage in filter(str.strip, passages):
            cosine = min(1.0, max(0.0, float(self._embeddings.cosine(query, passage))))
            score = max(score, cosine if has_names(query, passage) else OTHER_ENTITY * cosine)
        return score


def _binary(holds: bool, yes: str, no: str) -> Verdict:
    return Verdict(score=1.0, label=yes) if holds else Verdict(score=0.0, label=no)


def _nugget(text: str, nugget: str) -> Verdict:
    label = nugget_label(text, nugget)
    return Verdict(score=_NUGGET_SCORES[label], label=label)
