"""What honest episodes each reward is measured against, which cheats it cannot stop by design, and what repairs that.

`KNOWN` is the one list of pairs that fail. Each names a repair, a composition in which the same cheat falls below the
bar again, and is worth no more than an honest failure; tests hold that no entry is stale and that each repair does what
it says. What recipes cannot stop is in `benchmarks.red_team.known_recipes`.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.combine import GatedProduct
from rewards.compose import Composition, RewardTerm, build_rewards
from rewards.reward import RewardContext

PAYS_ANY_ANSWER: frozenset[str] = frozenset(
    {
        "format",
        "hop_relevance",
        "information_gain",
        "never_answering",
        "judgement",
        "reflection",
        "principles",
        "step_quality",
        "citation_precision",
        "citation_recall",
        "consistency",
        "hop_potential",
        "keyword",
        "coverage",
        "sufficiency",
    }
)
"""Rewards that pay right and wrong episodes alike: measured against all honest ones, the others against right ones."""

REWARD = "{reward}"
"""Where a repair has the reward that it repairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A composition around a reward: `terms` and `composition` as a config has them, with `REWARD` for its name.

    A cheat that is wrong lacks exact match, and is below every right episode wherever exact match weighs most. So that
    is not asked alone: a repair promises, besides, to pay a cheat no more than honest episodes of its own correctness
    (`margins.favour_of`), or else failing groups, which have nothing but the rest to compare, still learn the cheat.
    With `keeps_order_only` it promises nothing of the kind.
    """

    summary: str
    terms: Mapping[str, Mapping[str, Any]]
    composition: Mapping[str, Any] = field(default_factory=dict)
    keeps_order_only: bool = False

    def rewards(self, reward: str, params: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """The section `rewards` of a config.

        Raises:
            ValueError: the reward is a part of the repair itself.
        """
        if reward in self.terms:
            raise ValueError(f"{reward} is what the gate puts beside a reward; it needs no repair by itself")
        named = {reward if name == REWARD else name: copy.deepcopy(dict(term)) for name, term in self.terms.items()}
        if params:
            named[reward]["params"] = dict(params)
        return named

    def section(self, reward: str) -> dict[str, Any]:
        """The section `composition` of a config; empty where components are added."""
        section = dict(self.composition)
        if "bottom_line" in section:
            section["bottom_line"] = [reward if name == REWARD else name for name in section["bottom_line"]]
        return section

    def build(self, reward: str, context: RewardContext) -> Composition:
        """The composition itself."""
        section = self.section(reward)
        rule = GatedProduct(bottom_line=tuple(section["bottom_line"])) if section else None
        terms = {name: RewardTerm(**term) for name, term in self.rewards(reward).items()}
        return build_rewards(terms, context, rule=rule)


REPAIRS: dict[str, Repair] = {
    "beside": Repair(
        summary="exact match beside it, five times as heavy: right stays above wrong, no more is promised",
        terms={"exact_match": {"weight": 1.0}, REWARD: {"weight": 0.2}},
        keeps_order_only=True,
    ),
    "correct": Repair(
        summary="exact match, and the reward only in right episodes (gate correct)",
        terms={"exact_match": {"weight": 1.0}, REWARD: {"weight": 0.5, "gate": "correct"}},
    ),
    "answered": Repair(
        summary="exact match, and the reward only in episodes that answer (gate answered)",
        terms={"exact_match": {"weight": 1.0}, REWARD: {"weight": 0.5, "gate": "answered"}},
    ),
    "bottom_line": Repair(
        summary="the reward as the bottom line of a gated product whose utility is exact match",
        terms={REWARD: {}, "exact_match": {"weight": 1.0}},
        composition={"combine": "gated_product", "bottom_line": [REWARD]},
    ),
}
"""Compositions for a reward, by name. Their largest part is exact match, so right episodes are the bar; what the rest
may not do is in `Repair`. `correct` and `bottom_line` pay no wrong cheat at all. `answered` pays those that answer, so
it repairs nothing for a reward that they can earn by answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Cheats that a reward alone cannot put below the bar, why, and the repair that does."""

    reward: str
    cheats: tuple[str, ...]
    reason: str
    repair: str


_ANSWERS_AT_ALL = (
    *("always_true", "always_yes", "citation_stuffer", "empty_thinker", "generic_answerer", "guesser"),
    *("near_duplicator", "query_repeater", "question_copier", "refuser", "unread_citer"),
)
_REPEATS = ("near_duplicator", "query_repeater")

KNOWN: tuple[Known, ...] = (
    Known(
        reward="format",
        cheats=_ANSWERS_AT_ALL,
        reason="it speaks of form alone, and whatever is written in good form has all of it",
        repair="bottom_line",
    ),
    Known(
        reward="never_answering",
        cheats=(*_ANSWERS_AT_ALL, "forger", "passage_copier"),
        reason="it is a price for silence, and every cheat that answers avoids it",
        repair="beside",
    ),
    Known(
        reward="hop_potential",
        cheats=(*_ANSWERS_AT_ALL, "forger", "passage_copier", "endless_searcher", "query_spammer"),
        reason="its sum over a finished episode is 0 for all: it moves credit between turns and ranks no episodes",
        repair="beside",
    ),
    Known(
        reward="hop_relevance",
        cheats=("endless_searcher", "query_spammer"),
        reason="it pays what was found, and takes no view of whether the episode ever answers",
        repair="answered",
    ),
    Known(
        reward="keyword",
        cheats=("endless_searcher",),
        reason="it reads queries alone: those of the hops were asked, and what came after them costs nothing",
        repair="answered",
    ),
    Known(
        reward="information_gain",
        cheats=("endless_searcher", "query_spammer"),
        reason="at so many turns honest episodes are those that searched again, and a repeat costs more than a new, "
        "useless passage",
        repair="correct",
    ),
    Known(
        reward="judgement",
        cheats=_REPEATS,
        reason="'no' before each further search is right where searches are useless, and outweighs the last 'yes'",
        repair="correct",
    ),
    Known(
        reward="judgement",
        cheats=("guesser", "forger"),
        reason="without an observation there is nothing to judge, which costs nothing and is worth as much as judging "
        "half wrong",
        repair="correct",
    ),
    Known(
        reward="reflection",
        cheats=("endless_searcher", "query_spammer"),
        reason="always 'false' is half right (labels count alike), as an honest episode with one wrong reflection is",
        repair="correct",
    ),
    Known(
        reward="principles",
        cheats=_REPEATS,
        reason="a search is needed as long as a support is missing, so searching in vain keeps that principle; none of "
        "the six looks at repeats",
        repair="correct",
    ),
    Known(
        reward="citation_precision",
        cheats=_REPEATS,
        reason="the names of the question find the first support, and one good citation is perfectly precise",
        repair="correct",
    ),
    Known(
        reward="coverage",
        cheats=_REPEATS,
        reason="the best turn of an honest episode shows one support of two as well, and wrong answers are paid",
        repair="correct",
    ),
    Known(
        reward="consistency",
        cheats=(*(c for c in _ANSWERS_AT_ALL if c not in ("refuser", "question_copier")), "forger"),
        reason="the same wrong answer to all wordings is as consistent as the right one",
        repair="correct",
    ),
)
"""Pairs that fail by design. `tests/rewards/hacks` sees that each fails, that all others do not, and the repairs."""


def known_repairs() -> dict[tuple[str, str], str]:
    """The repair of each known pair, by (reward, cheat)."""
    return {(row.reward, cheat): row.repair for row in KNOWN for cheat in row.cheats}


_NO_ANSWER = ("generic_answerer", "passage_copier", "question_copier", "refuser")
_CITES_BADLY = ("citation_stuffer", "unread_citer", "passage_copier", "forger")

_PAYS_THE_ANSWER = (
    *("exact_match", "f1", "nuggets", "judged_answer", "agreement", "biased_relevance", "efficiency"),
    *("document_relevance", "query_quality", "query_diversity", "answerability", "splittability"),
)

VICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PAYS_THE_ANSWER, _NO_ANSWER),
    "format": ("passage_copier", "forger"),
    "formatted_match": (*_NO_ANSWER, "forger"),
    "boundary": (*_NO_ANSWER, "unread_citer", "forger"),
    "citation_precision": _CITES_BADLY,
    "citation_recall": _CITES_BADLY,
    "citation_rubric": (*_CITES_BADLY, "generic_answerer", "question_copier", "refuser"),
    "consistency": ("refuser", "question_copier"),
    "judgement": ("always_yes",),
    "principles": ("empty_thinker",),
    "step_quality": ("empty_thinker", "forger"),
    "encoder_similarity": (*_NO_ANSWER, "empty_thinker"),
    "information_gain": _REPEATS,
}
"""By reward, the vices that it has to see in an expert without any other fault (a cheat with `honest=True`)."""
