"""What the sampler asks for as one unit: `rollout.unit`, one section for each kind.

    unit: group                                             samples_per_question episodes of the question
    unit: {kind: paraphrase_set, wordings: 6, samples_per_wording: 4}
    unit: {kind: branch, candidates: 5}                     SLATE's candidates of each turn
    unit: {kind: refine, component: hop_relevance}          SmartSearch's regeneration of bad queries
    unit: {kind: tree, leaves: 8}                           trajectories that fork from each other

docs/units.md says what each costs.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from envs.branching import BranchSampler, RefineSampler, Retrieve
from envs.question import Question
from envs.tree_sampling import Fork, TreeSampler
from envs.units import GroupSampler, ParaphraseSetSampler, Scorer, UnitSampler
from rewards.placing import scores_trajectories_alone
from rewards.registry import load_reward
from rewards.reward import Reward
from train.config_file import ConfigError, Section

MASKS_PREFIXES = {"branch": ("branch",), "refine": ("branch", "tree"), "tree": ("branch", "tree")}
"""By kind of unit the built-in credit estimators that fit: those that train on a branch's own turns alone, and, for
`tree`, trajectories that share one group.
"""

READS_RESULTS = frozenset(
    {
        "answerability",
        "biased_relevance",
        "coverage",
        "document_relevance",
        "hop_potential",
        "hop_relevance",
        "information_gain",
        "nuggets",
        "query_diversity",
        "query_quality",
        "step_quality",
        "sufficiency",
    }
)
"""Built-in rewards that pay a search for what it found."""


class GroupUnit(Section):
    """`rollout.samples_per_question` episodes that ask the question as it is."""

    kind: Literal["group"] = "group"

    def most_trajectories(self, samples_per_question: int, max_turns: int) -> int:
        """Most trajectories that a unit has."""
        return samples_per_question

    def sampler(self, samples_per_question: int, scorer: Scorer) -> UnitSampler:
        """What samples such units."""
        return GroupSampler(samples=samples_per_question)


class ParaphraseSetUnit(Section):
    """Several wordings of a question, each with its own searches and its own baseline (Con-RAG)."""

    kind: Literal["paraphrase_set"] = "paraphrase_set"
    wordings: int = Field(6, ge=2, description="Wordings asked, the question itself included; 6 is Con-RAG's.")
    samples_per_wording: int = Field(4, ge=2, description="Trajectories of each wording, which share a baseline.")
    allow_fewer: bool = Field(
        False, description="Ask a question with fewer paraphrases in the wordings that it has, instead of refusing it."
    )

    def most_trajectories(self, samples_per_question: int, max_turns: int) -> int:
        """Most trajectories that a unit has."""
        return self.wordings * self.samples_per_wording

    def sampler(self, samples_per_question: int, scorer: Scorer) -> UnitSampler:
        """What samples such units."""
        return ParaphraseSetSampler(wordings=self.wordings, samples=self.samples_per_wording)


class BranchUnit(Section):
    """At every turn several candidates from one prefix, one of which goes on (SLATE)."""

    kind: Literal["branch"] = "branch"
    candidates: int = Field(5, ge=2, description="Candidates of each turn (k); they share a baseline. 5 is SLATE's.")
    eta: float = Field(
        0.7, gt=0, description="The winner is drawn by softmax of advantage over eta; towards 0 the best always wins."
    )
    retrieve: Retrieve = Field(
        "all",
        description="Whose searches are run: every candidate's, so that rewards see what they found, or the winner's.",
    )

    def most_trajectories(self, samples_per_question: int, max_turns: int) -> int:
        """Most trajectories that a unit has; each is one turn long beyond its prefix."""
        return self.candidates * max_turns

    def sampler(self, samples_per_question: int, scorer: Scorer) -> UnitSampler:
        """What samples such units."""
        return BranchSampler(candidates=self.candidates, eta=self.eta, retrieve=self.retrieve, scorer=scorer)


class RefineUnit(Section):
    """Trajectories, and those in which the policy samples a bad query once more (SmartSearch)."""

    kind: Literal["refine"] = "refine"
    component: str = Field(description="Reward of this run whose turn scores say which queries are bad.")
    bad_below: float = Field(
        0.5, description="A query is bad whose turn score is below this; 0.5 suits scores 0 and 1."
    )
    seeds: int = Field(4, ge=1, description="Trajectories sampled whole.")
    per_seed: int = Field(2, ge=1, description="Bad queries of each that are sampled once more, the first ones (M).")
    tries: int = Field(3, ge=1, description="Samples of a turn until its calls differ; after them nothing is added.")

    def most_trajectories(self, samples_per_question: int, max_turns: int) -> int:
        """Most trajectories that a unit has."""
        return self.seeds * (1 + self.per_seed)

    def sampler(self, samples_per_question: int, scorer: Scorer) -> UnitSampler:
        """What samples such units."""
        return RefineSampler(
            seeds=self.seeds,
            per_seed=self.per_seed,
            tries=self.tries,
            component=self.component,
            bad_below=self.bad_below,
            scorer=scorer,
        )


class TreeUnit(Section):
    """Whole trajectories that fork from each other."""

    kind: Literal["tree"] = "tree"
    leaves: int = Field(8, ge=2, description="Trajectories of a question.")
    roots: int = Field(2, ge=1, description="Those of them that begin at the prompt; the others are forks.")
    branching: int = Field(2, ge=2, description="Children of a turn that is forked, the first going-on included.")
    fork: Fork = Field("random", description="Forks at turns drawn at random, or at every turn, earlier leaves first.")

    @model_validator(mode="after")
    def _check_roots(self) -> "TreeUnit":
        if self.roots > self.leaves:
            raise ValueError(
                f"roots is {self.roots} and leaves {self.leaves}: a root is a leaf; set roots to at most that"
            )
        return self

    def most_trajectories(self, samples_per_question: int, max_turns: int) -> int:
        """Most trajectories that a unit has."""
        return self.leaves

    def sampler(self, samples_per_question: int, scorer: Scorer) -> UnitSampler:
        """What samples such units."""
        return TreeSampler(leaves=self.leaves, roots=self.roots, branching=self.branching, fork=self.fork)


def _by_name(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


AnyUnit = GroupUnit | ParaphraseSetUnit | BranchUnit | RefineUnit | TreeUnit
UnitSettings = Annotated[Annotated[AnyUnit, Discriminator("kind")], BeforeValidator(_by_name)]
"""A field of a config: a unit's kind, or a mapping with `kind` and its settings."""


def unit_problems(unit: AnyUnit, *, estimator: str, rewards: Mapping[str, str]) -> list[str]:
    """What of a config does not fit its units, in words. `rewards`: the reward used, by its component's name."""
    problems = []
    if fitting := MASKS_PREFIXES.get(unit.kind):
        if ":" not in estimator and estimator not in fitting:
            problems.append(
                f"rollout.unit is {unit.kind} and credit.estimator {estimator}, which does not know such branches: "
                f"turns that they share would be learnt from once for each; use {' or '.join(fitting)}, or unit: group"
            )
    elif estimator in ("branch", "tree"):
        problems.append(
            f"credit.estimator is {estimator}, which needs branches, and rollout.unit is {unit.kind}: use unit: "
            "branch, refine or tree"
        )
    if estimator == "ps_grpo" and not isinstance(unit, ParaphraseSetUnit):
        problems.append(
            f"credit.estimator is ps_grpo, a baseline for each wording, and rollout.unit is {unit.kind}: use unit: "
            "paraphrase_set"
        )
    if isinstance(unit, RefineUnit) and unit.component not in rewards:
        problems.append(
            f"rollout.unit.component is {unit.component!r}, and the rewards are {sorted(rewards)}: name one of them, "
            "or add it with weight 0"
        )
    if isinstance(unit, BranchUnit) and unit.retrieve == "winner":
        blind = sorted(name for name, used in rewards.items() if used in READS_RESULTS)
        if blind:
            problems.append(
                f"rollout.unit.retrieve is winner, so only winners have results, and rewards.{blind[0]} pays for what "
                "a search found: every winner would be paid for having won; set retrieve: all"
            )
    return problems


def refuse_blind_refinement(unit: AnyUnit, rewards: Mapping[str, Reward]) -> None:
    """See that the component which says what queries are bad scores turns: else none is, and nothing is refined.

    Raises:
        ConfigError: it scores whole trajectories alone.
    """
    if not isinstance(unit, RefineUnit):
        return
    reward = rewards[unit.component]
    if scores_trajectories_alone(reward):
        raise ConfigError(
            f"rollout.unit.component is {unit.component!r}, which scores whole trajectories, so that no turn would be "
            "bad and nothing refined: name a reward of turns, such as hop_relevance with params {value: 1.0} and "
            "weight 0, which is below bad_below where a search shows no new gold passage"
        )


def check_paraphrases(
    unit: AnyUnit, questions: Sequence[Question], *, source: str, rewards: Mapping[str, str] | None = None
) -> None:
    """Refuse questions with fewer paraphrases than a unit asks for.

    rewards: the reward used, by its component's name.

    Raises:
        ConfigError: names the dataset, the rewards that compare wordings, how many questions lack some, and the ways
            out.
    """
    if not isinstance(unit, ParaphraseSetUnit):
        return
    needed = unit.wordings - 1
    fewer = [question for question in questions if len(question.paraphrases) < needed]
    if not fewer:
        return
    most = max(len(question.paraphrases) for question in questions)
    comparing = " and ".join(
        f"rewards.{name}"
        for name, used in (rewards or {}).items()
        if unit.kind in getattr(load_reward(used), "unit_kinds", ())
    )
    told = (
        f"rollout.unit asks {unit.wordings} wordings{f' for {comparing}' if comparing else ''}, and {len(fewer)} of "
        f"{len(questions)} questions of {source} have fewer than {needed} paraphrases (first: {fewer[0].id} with "
        f"{len(fewer[0].paraphrases)})"
    )
    if most == 0:
        without = f" without {comparing}" if comparing else ""
        raise ConfigError(f"{told}; none has any: annotate them, or set unit: group{without}")
    if not unit.allow_fewer:
        raise ConfigError(
            f"{told}: annotate them, lower rollout.unit.wordings (the most that a question has is {most + 1}), or set "
            "rollout.unit.allow_fewer: true"
        )
