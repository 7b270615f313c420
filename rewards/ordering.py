"""The guarantee that no wrong episode earns as much as a correct one, whatever else it does.

It follows from what the rewards say of themselves (`rewards.bounds`), their gates, weights and schedules, and the
longest episode that the limits allow. Compared is the sum of one whole trajectory, before any normalising: it holds for
estimators that add raw values. Those that compare turns see what is left to earn from a turn on (`to_go`), which can be
in another order than the whole. Schedules weigh both alike, so every step is looked at on its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations

from rewards.bounds import Bounds, bounds_of, bounds_to_go_of
from rewards.combine import GATED_PRODUCT, GatedProduct
from rewards.compose import Composition
from rewards.gates import bounds_behind


class OrderingViolated(ValueError):
    """A wrong episode could earn as much as a correct one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The worst case of a composition at one step: what each component adds, weighted.

    wrong: the most that an episode without an exact match can have of it; correct: the least that one with it has.
    """

    step: int
    wrong: Mapping[str, float]
    correct: Mapping[str, float]

    @property
    def margin(self) -> float:
        """Worst correct less best wrong; the guarantee asks for more than 0. -inf where a component has no bounds."""
        margins = [self.correct[name] - self.wrong[name] for name in self.correct]
        return sum(margins) if -math.inf not in margins else -math.inf


def check_ordering(composition: Composition, *, max_turns: int, to_go: bool = False) -> Case:
    """See that the worst correct episode earns more than the best wrong one at every step; returns the tightest case.

    `to_go`: so does what it earns from any turn on, for credit that compares that.

    Raises:
        OrderingViolated: it does not; the message has the case, component by component, and the ways out.
    """
    case = worst_case(composition, max_turns=max_turns, to_go=to_go)
    if not case.margin > 0:
        raise OrderingViolated(_explain(composition, case, max_turns, to_go))
    return case


def worst_case(composition: Composition, *, max_turns: int, to_go: bool = False) -> Case:
    """The step, of all in the run, at which a wrong episode comes nearest to a correct one, or farthest above it."""
    bounds = {correct: _bounds(composition, correct, max_turns, to_go) for correct in (True, False)}
    cases: dict[tuple[float, ...], Case] = {}
    for step in _steps(composition):
        weights = {name: term.weight_at(step, composition.total_steps) for name, term in composition.terms.items()}
        key = tuple(weights.values())
        if key not in cases:
            cases[key] = _case(composition, bounds[True], bounds[False], weights, step)
    return min(cases.values(), key=lambda case: case.margin)


def may_be_missing(composition: Composition) -> frozenset[str]:
    """Components that can be NaN in one episode and not in the next of the same question.

    They say so with `may_abstain`: some episodes give them nothing to speak of. A judge that fails is no such case: its
    trajectory is not compared with any other.
    """
    return frozenset(name for name, one in composition.rewards.items() if getattr(one, "may_abstain", False))


def _bounds(composition: Composition, correct: bool, max_turns: int, to_go: bool) -> dict[str, Bounds]:
    """Bounds of each component behind its gates, before its weight. A product is an outcome, and due at every turn."""
    stated = bounds_to_go_of if to_go and not composition.rule else bounds_of
    found = {}
    for name, reward in composition.rewards.items():
        own = stated(reward, correct=correct, max_turns=max_turns)
        found[name] = bounds_behind(composition.terms[name].gate, own, correct=correct)
    return found


def _steps(composition: Composition) -> range:
    """The steps at which weights can differ."""
    schedules = [term.schedule for term in composition.terms.values() if term.schedule]
    moving = [one for one in schedules if one.kind != "constant"]
    if not moving:
        return range(1)
    last = max(math.ceil(one.length(composition.total_steps)) for one in moving) + 1
    return range(last if composition.total_steps is None else min(last, composition.total_steps))


def _case(
    composition: Composition,
    of_correct: Mapping[str, Bounds],
    of_wrong: Mapping[str, Bounds],
    weights: Mapping[str, float],
    step: int,
) -> Case:
    lacking = may_be_missing(composition)
    if composition.rule:
        return _case_of_product(composition, composition.rule, of_correct, of_wrong, weights, step)
    wrong, correct = {}, {}
    for name, weight in weights.items():
        most, least = _weighted(of_wrong[name], weight).high, _weighted(of_correct[name], weight).low
        if name in lacking:
            most, least = max(most, 0.0), min(least, 0.0)
        elif _is_missing_for_some_questions(composition, name) and least > most:
            most = least = 0.0
        wrong[name], correct[name] = most, least
    return Case(step=step, wrong=wrong, correct=correct)


def _case_of_product(
    composition: Composition,
    rule: GatedProduct,
    of_correct: Mapping[str, Bounds],
    of_wrong: Mapping[str, Bounds],
    weights: Mapping[str, float],
    step: int,
) -> Case:
    """Parts that whole questions lack leave the product of the others there, right and wrong alike: each choice of such
    parts is a case of its own. Where no bottom line or no utility is left, nothing is learnt or out of order.
    """
    lacking = may_be_missing(composition)
    optional = [name for name in of_correct if _is_missing_for_some_questions(composition, name)]
    cases = []
    for gone in chain.from_iterable(combinations(optional, size) for size in range(len(optional) + 1)):
        left = [name for name in of_correct if name not in gone]
        bottom_line = tuple(name for name in rule.bottom_line if name in left)
        utilities = [name for name in left if name not in rule.bottom_line and weights[name] > 0]
        if gone and not (bottom_line and utilities):
            continue
        part = replace(rule, bottom_line=bottom_line)
        of_left = [{name: bounds[name] for name in left} for bounds in (of_correct, of_wrong)]
        least, most = part.bounds(of_left[0], weights, lacking).low, part.bounds(of_left[1], weights, lacking).high
        cases.append(Case(step=step, wrong={GATED_PRODUCT: most}, correct={GATED_PRODUCT: least}))
    return min(cases, key=lambda case: case.margin)


def _is_missing_for_some_questions(composition: Composition, name: str) -> bool:
    """True if a whole group can be without this component, so that it sets no episode above another there. Without gold
    answers nothing is correct, so a component that needs them alone is always there where it matters.
    """
    needs = composition.rewards[name].needs | composition.terms[name].gate_needs
    return composition.terms[name].allow_missing and bool(needs - {"golden_answers"})


def _weighted(bounds: Bounds, weight: float) -> Bounds:
    if weight == 0.0:
        return Bounds(low=0.0, high=0.0)
    ends = (weight * bounds.low + 0.0, weight * bounds.high + 0.0)  # which makes of -0.0 a plain 0
    return Bounds(low=min(ends), high=max(ends))


def _explain(composition: Composition, case: Case, max_turns: int, to_go: bool) -> str:
    parts = case.correct
    unbounded = [name for name in parts if not math.isfinite(case.correct[name] - case.wrong[name])]
    at = f" at step {case.step} of the schedule" if any(t.schedule for t in composition.terms.values()) else ""
    at += ", from some turn on (which is what this credit compares)" if to_go else ""
    lines = [
        f"composition.ordering is correct_above_wrong, but within {max_turns} turns (limits.max_turns) a wrong episode "
        f"can earn {sum(case.wrong.values()):.4g} and a correct one as little as {sum(case.correct.values()):.4g}{at}:"
    ]
    for name in parts:
        lines.append(f"  {name}: wrong up to {case.wrong[name]:.4g}, correct down to {case.correct[name]:.4g}")
        if not composition.rule and (words := _settings_in_words(composition, name, case.step)):
            lines[-1] += f" ({words})"
    if composition.rule:
        bounds = {correct: _bounds(composition, correct, max_turns, to_go) for correct in (True, False)}
        ways = _ways_out_of_a_product(composition, composition.rule, bounds[True], bounds[False], case.step)
    else:
        ways = _ways_out(case, unbounded)
    lines.append("Ways out: " + "; ".join(ways))
    return "\n".join(lines)


def _settings_in_words(composition: Composition, name: str, step: int) -> str:
    term = composition.terms[name]
    words = [f"weight {term.weight_at(step, composition.total_steps):.4g}"]
    words += [f"gate {' and '.join(term.gate)}"] if term.gate else []
    words += ["can be NaN"] if name in may_be_missing(composition) else []
    return ", ".join(words)


def _ways_out_of_a_product(
    composition: Composition,
    rule: GatedProduct,
    of_correct: Mapping[str, Bounds],
    of_wrong: Mapping[str, Bounds],
    step: int,
) -> list[str]:
    """What of the product is at fault: a bottom line that wrong answers keep, or utilities that can all be 0."""
    weights = {name: term.weight_at(step, composition.total_steps) for name, term in composition.terms.items()}
    utilities = [name for name in of_correct if name not in rule.bottom_line and weights[name] > 0]
    ways = []
    kept_by_correct = [name for name in rule.bottom_line if of_wrong[name].high <= 0 < of_correct[name].low]
    if not kept_by_correct:
        ways.append("put a component that only correct answers earn (exact_match) into composition.bottom_line")
    broken_by_correct = [name for name in rule.bottom_line if of_correct[name].low <= 0]
    if broken_by_correct:
        ways.append(
            f"{', '.join(broken_by_correct)} in composition.bottom_line can be 0 in a correct episode: make it a "
            "utility"
        )
    if all(of_correct[name].low <= 0 for name in utilities):
        ways.append(
            f"{'each' if len(utilities) > 1 else 'the'} utility ({', '.join(utilities)}) can be 0 in a correct "
            "episode, and with it the product, whatever the bottom line: add one that every correct answer earns, such "
            "as a component of its own with `use: exact_match`"
        )
    elif not ways:
        ways.append("lower composition.smoothing, or give the utilities that correct answers earn more weight")
    return [*ways, "use composition.combine: sum", "leave composition.ordering out"]


def _ways_out(case: Case, unbounded: list[str]) -> list[str]:
    if unbounded:
        return [
            f"nothing bounds {', '.join(unbounded)}: choose parameters that do (`normalise: true` where a reward has "
            "it), or give a reward of your own a method bounds(*, correct, max_turns)",
            "set its weight to 0",
            "leave composition.ordering out",
        ]
    margins = {name: case.correct[name] - case.wrong[name] for name in case.correct}
    gain = sum(margin for margin in margins.values() if margin > 0)
    against = {name: -margin for name, margin in margins.items() if margin < 0}
    if gain == 0:
        return ["give a component that correct answers alone earn, such as exact_match, a weight above 0"]
    worst = max(against, key=against.__getitem__) if against else ""
    scale = gain / sum(against.values()) if against else math.inf
    return [
        f"multiply the weights of {', '.join(against)} by less than {scale:.4g}, or raise those of the others",
        f"set rewards.{worst}.gate: {_gate_against(case, worst)}",
        "take parameters that pay less (`normalise: true` where a reward has it), or fewer limits.max_turns",
        "leave composition.ordering out",
    ]


def _gate_against(case: Case, name: str) -> str:
    if case.wrong[name] > 0:
        return "correct, so that a wrong episode has nothing of it"
    return "em_first, so that a right answer pays nothing for it"
