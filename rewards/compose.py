"""Several rewards side by side: built from a config, checked before a run, scored apart.

Components are not added up here, unless the config asks for their product (`rewards.combine`). The credit estimator
gets one `Scores` per name and the weights beside them, because estimators differ in where they add: before or after
normalising. On the way there each component passes its gate (`rewards.gates`), and its weight follows a schedule
(`rewards.schedule`) over the optimiser steps, which `advance` counts. What is added is care: NaN for outages even where
a user's reward forgets it, shapes checked, and a count of what a reward could not score.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from envs.question import Question
from rewards.annotation import MissingAnnotation, find_lacks, is_scorable, missing_fields, question_of
from rewards.combine import GATED_PRODUCT, GatedProduct
from rewards.gates import gate_states, gated
from rewards.reward import Questions, Reward, RewardContext, StatefulReward
from rewards.score import Scores
from rewards.term import RewardTerm, make_reward

__all__ = ["Composition", "RewardTerm", "ScoredUnit", "build_rewards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredUnit:
    """What the rewards said of a unit, whatever their weights are by the time that it is learnt from.

    raw: as the rewards gave it; behind_gates: what counts of that; gates: of each gated component 1 open, 0 closed, NaN
    where it cannot be told, `[num_trajectories]`.
    """

    raw: Mapping[str, Scores]
    behind_gates: Mapping[str, Scores]
    gates: Mapping[str, NDArray[np.float64]]


class Composition:
    """Named rewards with their gates, weights and schedules, and the rule that combines them.

    `missing[name]` counts the trajectories of which the reward said nothing at all, outages, cut candidates and failed
    verdicts left out: their question lacks an annotation, or the reward itself found that it does not apply. `step`
    counts the optimiser steps taken, on which the weights depend.

    Raises:
        ValueError: a schedule over a share of a run whose steps are not given, or a combining rule that does not fit.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        terms: Mapping[str, RewardTerm],
        *,
        rule: GatedProduct | None = None,
        total_steps: int | None = None,
    ) -> None:
        self.rewards = dict(rewards)
        self.terms = {name: terms[name] for name in self.rewards}
        self.rule = rule
        self.total_steps = total_steps
        self.step = 0
        self.missing = dict.fromkeys(self.rewards, 0)
        self._check_weights()

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each component in what credit adds up, after `step` optimiser steps.

        Under `gated_product` that is the product alone: its parts are handed on with weight 0, to be logged.
        """
        if self.rule:
            return {**dict.fromkeys(self.rewards, 0.0), GATED_PRODUCT: 1.0}
        return self.term_weights

    @property
    def term_weights(self) -> dict[str, float]:
        """Weight times schedule of each component, after `step` optimiser steps."""
        return {name: term.weight_at(self.step, self.total_steps) for name, term in self.terms.items()}

    @property
    def logged_weights(self) -> dict[str, float]:
        """The weights that figures are logged with: those of the parts, and 1 for their product."""
        return {**self.term_weights, GATED_PRODUCT: 1.0} if self.rule else self.term_weights

    @property
    def schedule_factors(self) -> dict[str, float]:
        """The factor of each component that has a schedule, after `step` optimiser steps."""
        terms = {name: term for name, term in self.terms.items() if term.schedule}
        return {name: term.factor_at(self.step, self.total_steps) for name, term in terms.items()}

    def advance(self) -> None:
        """An optimiser step has been taken."""
        self.step += 1

    def check(self, questions: Iterable[Question], *, source: str | None = None) -> None:
        """Refuse questions that lack what a reward or its gate needs; costs one pass, before anything is spent.

        `source` says in the message where the questions were read.

        With `allow_missing` a component is refused only where not a single question has what it needs.

        Raises:
            MissingAnnotation: names each reward, the dataset field, how many questions lack it, and the ways out.
        """
        questions = list(questions)
        problems: list[str] = []
        for name, reward in self.rewards.items():
            by_gate = self.terms[name].gate_needs - reward.needs
            for lack in find_lacks(questions, reward.needs | by_gate, reward=reward, source=source):
                by = f", behind gate {' and '.join(self.terms[name].gate)}," if lack.field in by_gate else ""
                if not self.terms[name].allow_missing:
                    problems.append(
                        f"reward {name!r}{by} needs the {lack}. Annotate them, leave the reward out, or set "
                        f"rewards.{name}.allow_missing: true to score them NaN."
                    )
                elif lack.count == lack.num_questions:
                    problems.append(f"reward {name!r}{by} needs the {lack}: it would score nothing; leave it out.")
        if problems:
            raise MissingAnnotation("\n".join(problems))

    def score(self, unit: Unit, questions: Questions) -> dict[str, Scores]:
        """What credit gets of one unit at the weights of now: every component behind its gate, kept apart by name.

        Raises:
            ValueError: a reward returned scores that do not fit the unit. What a reward raises passes through, with a
                note that names the reward and the unit.
        """
        return self.for_credit(self.score_apart(unit, questions))

    def score_apart(self, unit: Unit, questions: Questions) -> ScoredUnit:
        """Every component's scores of one unit, before and behind its gate. Raises as `score` does."""
        raw: dict[str, Scores] = {}
        behind: dict[str, Scores] = {}
        gates: dict[str, NDArray[np.float64]] = {}
        for name, reward in self.rewards.items():
            try:
                scores = reward(unit, questions)
            except ValueError as error:  # told to whoever wrote the reward, without the way there
                raise ValueError(f"reward {name!r}, scoring unit {unit.id!r}: {error}") from error
            except Exception as error:
                error.add_note(f"while reward {name!r} scored unit {unit.id!r}{_place_of(error)}")
                raise
            raw[name] = behind[name] = _without_outages(name, scores, unit)
            if gate := self.terms[name].gate:
                gates[name] = gate_states(gate, unit, questions)
                behind[name] = gated(raw[name], gates[name])
            needs = reward.needs | self.terms[name].gate_needs
            self.missing[name] += _count_missing(needs, behind[name], unit, questions)
        return ScoredUnit(raw=raw, behind_gates=behind, gates=gates)

    def for_credit(self, scored: ScoredUnit) -> dict[str, Scores]:
        """What credit gets of a scored unit at the weights of now; under `gated_product` the product is one more."""
        scores = dict(scored.behind_gates)
        if self.rule:
            scores[GATED_PRODUCT] = self.rule.combined(scored.behind_gates, self.term_weights)
        return scores

    @property
    def is_stateful(self) -> bool:
        """True if a reward keeps a state: what it says then depends on what it has scored before."""
        return any(isinstance(reward, StatefulReward) for reward in self.rewards.values())

    def state_dict(self) -> dict[str, Any]:
        """The optimiser steps, the counts, and the state of each reward that has one, as JSON values."""
        stateful = {name: r.state_dict() for name, r in self.rewards.items() if isinstance(r, StatefulReward)}
        return {"step": self.step, "missing": dict(self.missing), "rewards": stateful}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of other rewards.
        """
        stateful = {name: r for name, r in self.rewards.items() if isinstance(r, StatefulReward)}
        if set(state["missing"]) != set(self.rewards) or set(state["rewards"]) != set(stateful):
            raise ValueError(
                f"the checkpoint holds the rewards {sorted(state['missing'])}, of them with state "
                f"{sorted(state['rewards'])}; this config has {sorted(self.rewards)}, with state {sorted(stateful)}. "
                "Resume with the config that the run was started with"
            )
        self.step = int(state["step"])
        self.unscore(state)

    def unscore(self, state: Mapping[str, Any]) -> None:
        """Go back to counts and rewards' states as `state_dict` returned them; the steps taken stay as they are."""
        self.missing = {name: int(state["missing"][name]) for name in self.rewards}
        for name, reward in self.rewards.items():
            if isinstance(reward, StatefulReward):
                reward.load_state_dict(state["rewards"][name])

    def _check_weights(self) -> None:
        for name, term in self.terms.items():
            if term.schedule and term.schedule.needs_total_steps and self.total_steps is None:
                raise ValueError(f"rewards.{name}.schedule is over a share of the run, whose steps are not known here")
        if not self.rule:
            return
        if GATED_PRODUCT in self.terms:
            raise ValueError(f"a component is named {GATED_PRODUCT}, which is the name of the product; rename it")
        for name in self.rule.bottom_line:
            if name not in self.terms:
                raise ValueError(f"the bottom line names {name!r}, which is no reward; there are {sorted(self.terms)}")


def build_rewards(
    terms: Mapping[str, RewardTerm],
    context: RewardContext,
    *,
    rule: GatedProduct | None = None,
    total_steps: int | None = None,
) -> Composition:
    """Build every component of a config's `rewards` section.

    Raises:
        ValueError: no components, an unknown name, parameters that the reward does not take, a schedule over a share of
            a run whose steps are not given, or a combining rule that does not fit.
    """
    if not terms:
        raise ValueError("the config names no rewards; give at least one, for example rewards: {exact_match: {}}")
    rewards = {name: make_reward(name, term, context) for name, term in terms.items()}
    return Composition(rewards, terms, rule=rule, total_steps=total_steps)


def _place_of(error: BaseException) -> str:
    """File and line where it was raised, of code that is not an installed package's, as ` (own.py:23)`."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _count_missing(needs: frozenset[str], scores: Scores, unit: Unit, questions: Questions) -> int:
    count = 0
    for i, (trajectory, turns, outcome) in enumerate(zip(unit.trajectories, scores.turn, scores.outcome, strict=True)):
        is_told = not np.isnan(outcome) or not np.isnan(turns).all() or scores.has_failed[i]
        if is_told or not is_scorable(trajectory) or trajectory.finish_reason == "cut":
            continue
        if len(turns) or missing_fields(question_of(trajectory, questions), needs):
            count += 1
    return count


def _without_outages(name: str, scores: Scores, unit: Unit) -> Scores:
    """The same scores, checked against the unit's shape, with NaN for episodes that are not the policy's fault."""
    if not isinstance(scores, Scores):
        raise ValueError(f"reward {name!r} returned a {type(scores).__name__}; it has to return Scores")
    shape = [len(turns) for turns in scores.turn]
    wanted = [trajectory.num_turns for trajectory in unit.trajectories]
    if shape != wanted:
        raise ValueError(f"reward {name!r} scored turns {shape} of unit {unit.id!r}, whose trajectories have {wanted}")
    lost = np.array([not is_scorable(trajectory) for trajectory in unit.trajectories], dtype=bool)
    if not lost.any():
        return scores
    return Scores(
        turn=tuple(
            np.full_like(turns, np.nan) if gone else turns for turns, gone in zip(scores.turn, lost, strict=True)
        ),
        outcome=np.where(lost, np.nan, scores.outcome),
        failed=scores.has_failed & ~lost,
    )
