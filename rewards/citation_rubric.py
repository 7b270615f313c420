"""CaRR's reward: which claims behind the answer were named, cited, supported, and connected to it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from retrieval.passage import Passage
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.citation import resolve_citations
from rewards.judge.judge import Judge, JudgeRequest
from rewards.parameter import opened_judge
from rewards.reward import Questions, RewardContext, share_parameter, whole_parameter
from rewards.rubric import ANSWER, Claim, Rubric, connected, rubric_of_hops
from rewards.rubric_file import read_rubrics
from rewards.score import Scores
from rewards.sub_question import key_word_counts, key_word_recall
from rewards.wording import named_in

IdentifyIn = Literal["answer", "episode"]
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One answered trajectory: its rubric, the names that it gave to entities, what it cites, how much that counts."""

    rubric: Rubric
    names: dict[int, str]
    cited: tuple[Passage, ...]
    dilution: float

    @property
    def claims(self) -> list[int]:
        """The claims whose entities are all identified, where there is something to cite for them."""
        identified = set(self.names)
        return [i for i, claim in enumerate(self.rubric.claims) if claim.entities <= identified and self.cited]


class CitationRubricReward:
    """Share of a question's rubrics that the episode named, cited and connected to its answer.

    Formula: outcome = dilution * #{rubrics supported and reachable} / #{rubrics}, every rubric counted below, by four
    steps. Identify: an entity is identified where one of its names stands, as whole words, in the final answer (E0,
    the answer itself), or (the hidden ones) in what the policy wrote, with `identify_in: episode` its thoughts, queries
    and answer, with `answer` the answer alone as in CaRR. Fill: a rubric with an entity that is not identified is 0.
    Cite: the first `max_citations` distinct passages that the answer cites and that were shown; a filled rubric is
    supported by one that is its gold passage, or has a name of every entity of it beside the names that the question
    gives or `min_recall` of the key words of the gold sentence (of the claim, where the gold passage is not known).
    Connect: breadth-first from E0 over supported rubrics; those not reached are 0. dilution = min(1, (n + `slack`) / m)
    for n rubrics and m distinct citations; `slack: null` leaves it out, as CaRR does. 0 where nothing was answered.
    With `only_if_correct` (the default), 0 where the answer is not an exact match. With `normalise`, divided by the
    largest in the trajectory's group, unless that is 0. Range: [0, 1].
    Source: CaRR (THUDM), whose four steps are judged by an LLM; these are deterministic. Entities of a
    question that nothing leads to from E0 but the question itself, as in a comparison, count as joined with it.
    With `judge`, that judge says whether the cited passages support a filled rubric (criterion `supports`); a verdict
    that failed makes the trajectory NaN. Needs: `golden_answers`, and `hops`, with answers, unless `file` names
    rubrics; without them, or for a question that the file does not have, NaN.

    A policy that never writes a hidden entity down (the years of a comparison, say) earns nothing for its claims.
    Wrong answers are paid nothing by default: an answer that copies a passage names everything. C-GRPO's mix pays right
    answers alone by itself and divides by the largest of the whole group, wrong ones included: give it the raw rubric,
    `only_if_correct: false`. Even so, where E0 is not named nothing is reached.

    Raises (when scoring):
        ValueError: a passage was shown that the corpus does not have, so the context belongs to another index.
    """

    name = "citation_rubric"
    needs_of_protocol = frozenset({"citations"})

    def __init__(
        self,
        context: RewardContext,
        *,
        file: str | Path | None = None,
        identify_in: IdentifyIn = "episode",
        normalise: bool = False,
        only_if_correct: bool = True,
        max_citations: int = 20,
        min_recall: float = 0.6,
        slack: int | None = 1,
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        for parameter, value in (("normalise", normalise), ("only_if_correct", only_if_correct)):
            if not isinstance(value, bool):
                raise ValueError(f"reward {self.name}: {parameter} must be true or false, got {value!r}")
        if identify_in not in get_args(IdentifyIn):
            raise ValueError(
                f"reward {self.name}: identify_in must be one of {get_args(IdentifyIn)}, got {identify_in!r}"
            )
        self.identify_in = identify_in
        self.normalise = normalise
        self.only_if_correct = only_if_correct
        self.max_citations = whole_parameter(self.name, "max_citations", max_citations, minimum=1)
        self.min_recall = share_parameter(self.name, "min_recall", min_recall)
        self.slack = None if slack is None else whole_parameter(self.name, "slack", slack)
        if not isinstance(file, str | Path | None):
            raise ValueError(f"reward {self.name}: file must be the path of a file of rubrics, got {file!r}")
        self.file = file
        self.rubrics = None if file is None else read_rubrics(file)
        self.needs = frozenset({"golden_answers"} | ({"hops"} if file is None else set()))
        self.judge = opened_judge(judge)
        self._passage = context.passage
        self._key_words = lru_cache(maxsize=50_000)(key_word_counts)

    def rubric_of(self, question: Question) -> Rubric | None:
        """The question's rubric, with the gold answers as the names of E0; None where it is not annotated."""
        if self.rubrics is None:
            return rubric_of_hops(question)
        rubric = self.rubrics.get(question.id)
        return rubric and replace(rubric, aliases={**rubric.aliases, ANSWER: question.golden_answers})

    def lacking(self, question: Question) -> str | None:
        """Rubrics, or answers to make them of."""
        if self.rubric_of(question) is not None:
            return None
        return "answers of every hop" if self.file is None else f"rubrics in {self.file}"

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every trajectory of a unit: outcome `[num_trajectories]`, every turn NaN."""
        values = np.full(len(unit.trajectories), np.nan)
        failed = np.zeros(len(unit.trajectories), dtype=bool)
        cases: dict[int, _Case] = {}
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            applies = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if not applies or missing_fields(question, self.needs):
                continue
            rubric = self.rubric_of(question)
            if rubric is None:
                continue
            values[i] = 0.0
            right = exact_match(trajectory.final_answer, question.golden_answers) == 1.0
            if has_answer(trajectory) and (right or not self.only_if_correct):
                cases[i] = self._case(trajectory, rubric)
        for i, supported in self._supported(cases).items():
            values[i] = _score(cases[i], supported)
            failed[i] = np.isnan(values[i])
        return Scores.of_outcome(unit, self._normalised(unit, values) if self.normalise else values, failed=failed)

    def _case(self, trajectory: Trajectory, rubric: Rubric) -> _Case:
        answer = trajectory.final_answer or ""
        said = "\n".join(_own_words(trajectory)) if self.identify_in == "episode" else answer
        found = {e: named_in(answer if e == ANSWER else said, names) for e, names in rubric.aliases.items()}
        citations = resolve_citations(trajectory)
        cited = tuple(self._cited(p, trajectory) for p in citations.passage_ids[: self.max_citations])
        dilution = 1.0
        if self.slack is not None and len(citations):
            dilution = min(1.0, (len(rubric.claims) + self.slack) / len(citations))
        names = {entity: name for entity, name in found.items() if name is not None}
        return _Case(rubric=rubric, names=names, cited=cited, dilution=dilution)

    def _cited(self, passage_id: str, trajectory: Trajectory) -> Passage:
        try:
            return self._passage(passage_id)
        except KeyError:
            raise ValueError(
                f"trajectory {trajectory.id} cites passage {passage_id!r}, which the reward's corpus does not have; "
                "build the reward's context from the index that the episodes search"
            ) from None

    def _supported(self, cases: Mapping[int, _Case]) -> dict[int, list[float]]:
        """For each case, of each claim: 1.0 supported, 0.0 not, NaN where the judge failed."""
        asked = [(i, c) for i, case in cases.items() for c in case.claims]
        if self.judge is None:
            said = [float(self._supports(cases[i], cases[i].rubric.claims[c])) for i, c in asked]
        else:
            verdicts = self.judge.ask([_request(cases[i], c) for i, c in asked]) if asked else []
            said = [v.score if np.isnan(v.score) else float(v.score >= 0.5) for v in verdicts]
        supported = {i: [0.0] * len(case.rubric.claims) for i, case in cases.items()}
        for (i, c), verdict in zip(asked, said, strict=True):
            supported[i][c] = verdict
        return supported

    def _supports(self, case: _Case, claim: Claim) -> bool:
        names = [case.rubric.aliases[entity] for entity in claim.entities]
        for passage in case.cited:
            if passage.id == claim.supporting_id:
                return True
            if not all(named_in(passage.contents, aliases) for aliases in names):
                continue
            both_ends = len(names) + len(claim.mentions) > 1
            if both_ends and all(named_in(passage.contents, (mention,)) for mention in claim.mentions):
                return True
            evidence = self._gold_sentence(case, claim) or claim.filled(case.names)
            if key_word_recall(self._key_words(evidence), self._key_words(passage.contents)) >= self.min_recall:
                return True
        return False

    def _gold_sentence(self, case: _Case, claim: Claim) -> str | None:
        """The first sentence of the gold passage that names an entity of the claim, if the passage is known."""
        if claim.supporting_id is None:
            return None
        try:
            text = self._passage(claim.supporting_id).text
        except KeyError:
            return None
        aliases = [alias for entity in claim.entities for alias in case.rubric.aliases[entity]]
        return next((sentence for sentence in _SENTENCE.split(text) if named_in(sentence, aliases)), None)

    def _normalised(self, unit: Unit, values: np.ndarray) -> np.ndarray:
        groups = np.array([trajectory.group_id for trajectory in unit.trajectories])
        largest = np.array([np.nanmax([*values[groups == group], 0.0]) for group in groups])
        return np.where(largest > 0.0, values / np.where(largest > 0.0, largest, 1.0), values)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1]; 0 where nothing could be read before the answer, and for wrong answers with `only_if_correct`."""
        can_earn = max_turns > 1 and (correct or not self.only_if_correct)
        return Bounds(low=0.0, high=float(can_earn))


def _own_words(trajectory: Trajectory) -> Sequence[str]:
    """What the policy itself said: thoughts, requests and the answer, never what it was shown."""
    said: list[str] = []
    for turn in trajectory.turns:
        said += [turn.action.thought, *(r.argument for r in turn.action.requests), turn.action.answer or ""]
    return said


def _request(case: _Case, index: int) -> JudgeRequest:
    claim = case.rubric.claims[index].filled(case.names)
    return JudgeRequest(criterion="supports", fields={"claim": claim, "passages": [p.contents for p in case.cited]})


def _score(case: _Case, supported: Sequence[float]) -> float:
    if ANSWER not in case.names:
        return 0.0  # nothing is reached, whatever a judge would say
    if np.isnan(supported).any():
        return float("nan")
    entities = [claim.entities for claim in case.rubric.claims]
    joined = case.rubric.joined & set(case.names)  # a comparison of what was not named joins nothing
    reached = connected(entities, [verdict == 1.0 for verdict in supported], joined)
    return case.dilution * sum(reached) / len(entities)
