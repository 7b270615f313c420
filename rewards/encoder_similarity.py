"""Is the explanation of a right answer near to the gold evidence, in its own words."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.reward import Questions, RewardContext, whole_parameter
from rewards.score import Scores
from rewards.text_space import open_text_space
from rewards.tfidf import words

TEXTS = ("explanation", "answer")


def copied_share(text: str, sources: list[str], order: int) -> float:
    """Share of the text's word n-grams of this order that stand in a source, in [0, 1]; 0 for a shorter text."""
    grams = _grams(text, order)
    known = frozenset[tuple[str, ...]]().union(*(_distinct_grams(source, order) for source in sources))
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def min_max(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(v - min) / (max - min) over the numbers, NaN kept; all 0 where the numbers are equal or there is one."""
    present = values[~np.isnan(values)]
    if not len(present):
        return values
    spread = present.max() - present.min()
    return (values - present.min()) / spread if spread > 0 else np.where(np.isnan(values), np.nan, 0.0)


class EncoderSimilarityReward:
    """Cosine of what an episode says with a reference, paid only with a right answer.

    Formula: s = max(E(text) . E(reference), 0) * (1 - copied); outcome = s where the answer is an exact match, else 0;
    with `min_max` [false], s of the right answers of a group is first replaced by (s - min) / (max - min), and by 0
    where they are all equal or there is only one. `text: explanation` [the default] is the thought of the answering
    turn, its reference the contents of the gold supports; copied = share of its word 5-grams that stand in a gold
    support or a shown passage. `text: answer` compares the answer with the best gold answer, copied = 0, and says
    something only with `only_if_correct: false`. E is TF-IDF with the corpus's IDF, or the sentence encoder `model`.
    Range: [0, 1]. Source: "Shaping Explanations" (abstract); the copying term is this project's. Needs:
    `golden_answers`, and `supporting_ids` for explanations; without them, and where no support is in the corpus, NaN.

    The words of a passage in another order are no copy, and TF-IDF sees no order: without a `model` they earn nearly 1.

    An encoder's cosines lie close together; `min_max` spreads them over the group. Then the least similar right answer
    is worth no more here than a wrong one, so keep an answer reward beside it.
    """

    name = "encoder_similarity"
    needs = frozenset({"golden_answers", "supporting_ids"})

    def __init__(
        self,
        context: RewardContext,
        *,
        model: str | None = None,
        text: str = "explanation",
        only_if_correct: bool = True,
        min_max: bool = False,
        copied_words: int = 5,
        max_fit_passages: int = 50_000,
    ) -> None:
        if text not in TEXTS:
            raise ValueError(f"reward {self.name}: text must be one of {TEXTS}, got {text!r}")
        for parameter, value in (("only_if_correct", only_if_correct), ("min_max", min_max)):
            if not isinstance(value, bool):
                raise ValueError(f"reward {self.name}: {parameter} must be true or false, got {value!r}")
        self.text, self.only_if_correct, self.with_min_max = text, only_if_correct, min_max
        self.copied_words = whole_parameter(self.name, "copied_words", copied_words, minimum=1)
        self.needs = frozenset({"golden_answers"} | ({"supporting_ids"} if text == "explanation" else set()))
        self.space = open_text_space(context, reward=self.name, model=model, max_fit_passages=max_fit_passages)
        self._passage = context.passage

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score a unit: outcome `[num_trajectories]`, every turn NaN; `min_max` looks at one `group_id` at a time."""
        values = np.full(len(unit.trajectories), np.nan)
        similar = np.full(len(unit.trajectories), np.nan)
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            applies = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if not applies or missing_fields(question, self.needs):
                continue
            references = self._references(question)
            if not references:
                continue
            values[i] = 0.0
            if has_answer(trajectory) and (not self.only_if_correct or _is_right(trajectory, question)):
                similar[i] = self._similarity(trajectory, references)
        if self.with_min_max:
            groups = np.array([trajectory.group_id for trajectory in unit.trajectories])
            for group in dict.fromkeys(groups.tolist()):
                similar[groups == group] = min_max(similar[groups == group])
        return Scores.of_outcome(unit, np.where(np.isnan(similar), values, similar))

    def _references(self, question: Question) -> list[str]:
        if self.text == "answer":
            return list(question.golden_answers)
        found = [self._contents(support) for support in dict.fromkeys(question.supporting_ids)]
        return [text for text in found if text]

    def _similarity(self, trajectory: Trajectory, references: list[str]) -> float:
        action = trajectory.turns[-1].action
        if self.text == "answer":
            return float(np.clip(self.space.cosines([action.answer or "", *references])[0, 1:], 0.0, 1.0).max())
        if not action.thought.strip():
            return 0.0
        cosine = float(np.clip(self.space.cosines([action.thought, "\n".join(references)])[0, 1], 0.0, 1.0))
        shown = dict.fromkeys(s.passage_id for turn in trajectory.turns for s in turn.shown)
        sources = [*references, *filter(None, map(self._contents, shown))]
        return cosine * (1.0 - copied_share(action.thought, sources, self.copied_words))

    def _contents(self, passage_id: str) -> str:
        """The passage's text, "" where the corpus does not have it."""
        try:
            return self._passage(passage_id).contents
        except KeyError:
            return ""

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1] for a right answer; 0 for a wrong one, unless all answers are compared."""
        del max_turns
        return Bounds(low=0.0, high=1.0 if correct or not self.only_if_correct else 0.0)


def _is_right(trajectory: Trajectory, question: Question) -> bool:
    return exact_match(trajectory.final_answer, question.golden_answers) == 1.0


@lru_cache(maxsize=20_000)
def _distinct_grams(text: str, order: int) -> frozenset[tuple[str, ...]]:
    """Of a passage, which the samples of a group read again and again."""
    return frozenset(_grams(text, order))


def _grams(text: str, order: int) -> list[tuple[str, ...]]:
    tokens = words(text)
    return [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
