"""Search-Gen-V's reward: which facts, called nuggets, does a text support."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judge.rules_evidence import nugget_label
from rewards.judge.wording import is_negated, sentences
from rewards.judged import JudgedOutcomeReward
from rewards.parameter import flag, one_of, opened_judge
from rewards.reading import answers_of, read_texts
from rewards.reward import RewardContext, finite_parameter, whole_parameter
from rewards.wording import content_words, mentions

LABELS = {"support": 1.0, "partial_support": 0.5, "not_support": 0.0}
SUPPORT = LABELS["support"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nugget:
    """One fact in one or several wordings, of which the best supported counts, and its weight."""

    wordings: tuple[str, ...]
    weight: float = 1.0


def label_of(nugget: str, text: str) -> float:
    """1 for support, 0.5 for partial support, 0 for none: what a text says of one wording of a nugget, by rules.

    Supported: equal texts, normalised as answers are ("no" is supported by nothing else), and a wording that stands
    whole in a sentence of the same polarity, which is how short answers are said. All else is told by the rules judge's
    `nugget_label`: content recall of at least 0.8 in a sentence, with names, numbers and polarity.
    """
    if normalize_answer(nugget) == normalize_answer(text):
        return SUPPORT
    said = (sentence for sentence in sentences(text) if mentions(sentence, (nugget,)))
    if content_words(nugget) and any(is_negated(sentence) == is_negated(nugget) for sentence in said):
        return SUPPORT
    return LABELS[nugget_label(text, nugget)]


def read_nuggets(path: str | Path) -> dict[str, tuple[Nugget, ...]]:
    """Nuggets by question id, from lines `{"question_id": ..., "nuggets": [{"text": ..., "weight": ...}, ...]}`.

    `text` is one wording or a list of them, `weight` is 1 where left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line of another form, a question twice, a weight that is no finite number above 0.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"the file of nuggets {path} does not exist; without a file there are answer and sentences"
        )
    found: dict[str, tuple[Nugget, ...]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            question_id, nuggets = str(entry["question_id"]), tuple(_nugget(item) for item in entry["nuggets"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} holds no nuggets ({error!r}); the form is "
                '{"question_id": "...", "nuggets": [{"text": "...", "weight": 1.0}]}'
            ) from error
        if question_id in found:
            raise ValueError(f"{path}, line {number}: question {question_id!r} stands there twice")
        found[question_id] = nuggets
    return found


class NuggetsReward(JudgedOutcomeReward):
    """Weighted share of a question's nuggets that a text supports.

    Formula: outcome = d * sum_i w_i v_i / sum_i w_i with v_i = 1 for support, 0.5 for partial support (`strict`: 0), 0
    for none. d = min(1, (n + `slack` [5]) / m) dilutes an answer of m words where all nuggets together have n (the
    longest wording of each), so that copying passages into it does not pay; d = 1 for the text `shown`. Support is told
    by `label_of`: recall of content words, names, numbers, negation; or by `judge` (criterion `nugget`), where a failed
    verdict makes the outcome NaN.

    `nuggets`: `answer` (default), one nugget, the gold answer in all its wordings; `sentences`, that and each sentence
    of a gold passage that says an answer of the question or of a hop, for protocols with long answers; or the path of a
    file (`read_nuggets`), where questions that it lacks are NaN. `text`: what is judged, the final `answer` (default; 0
    without one), what was `shown`, or `both`, the mean of the two.

    Range: [0, 1]; 1 for an exact match where answers are judged against the default nugget. Source: Search-Gen-V
    (linyue-ma/Search-Gen-V) for labels and weights; its aggregation was not recovered: the weighted mean, the dilution
    and the rules are this project's. Needs: `golden_answers` (`answer`), `supporting_ids` too (`sentences`), nothing
    with a file; without them NaN.
    """

    name = "nuggets"

    def __init__(
        self,
        context: RewardContext,
        *,
        nuggets: str = "answer",
        text: str = "answer",
        strict: bool = False,
        slack: int = 5,
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self._passage = context.passage
        if not isinstance(nuggets, str | Path):
            raise ValueError(
                f"reward {self.name}: nuggets must be answer, sentences or the path of a file, got {nuggets!r}"
            )
        self.source = nuggets
        self._by_question = None if nuggets in ("answer", "sentences") else read_nuggets(nuggets)
        self.text = one_of(self.name, "text", text, ("answer", "shown", "both"))
        self.strict = flag(self.name, "strict", strict)
        self.slack = whole_parameter(self.name, "slack", slack)
        self.judge = opened_judge(judge)
        needs = {"answer": {"golden_answers"}, "sentences": {"golden_answers", "supporting_ids"}}
        self.needs = frozenset(needs.get(nuggets, ()))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """An exact match supports the nugget that it is."""
        is_certain = correct and self.source == "answer" and self.text == "answer" and self.judge is None
        return Bounds(low=1.0 if is_certain else 0.0, high=1.0)

    def lacking(self, question: Question) -> str | None:
        """Nuggets in the file."""
        return None if self._nuggets(question) else f"nuggets in {self.source}"

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """Each text against every wording of each nugget; an empty text needs no judge."""
        return [
            JudgeRequest(criterion="nugget", fields={"text": text, "nugget": wording})
            for text in self._texts(trajectory)
            for nugget in self._nuggets(question)
            for wording in (nugget.wordings if text.strip() else ())
        ]

    def outcome(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> float:
        """In [0, 1]; NaN without nuggets."""
        nuggets = self._nuggets(question)
        if not nuggets:
            return float("nan")
        scores = iter(verdicts)
        values: list[float] = []
        for i, text in enumerate(self._texts(trajectory)):
            total = 0.0
            for nugget in nuggets:
                if not text.strip():
                    continue
                if self.judge is None:
                    labels = [label_of(wording, text) for wording in nugget.wordings]
                else:
                    labels = [next(scores) for _ in nugget.wordings]
                # max() would pass a NaN over.
                best = float("nan") if any(label != label for label in labels) else max(labels)
                total += nugget.weight * (float(best == SUPPORT) if self.strict and best == best else best)
            is_answer = i == 0 and self.text != "shown"
            values.append(
                total / sum(n.weight for n in nuggets) * (self._dilution(text, nuggets) if is_answer else 1.0)
            )
        return sum(values) / len(values)

    def _texts(self, trajectory: Trajectory) -> list[str]:
        answer = (trajectory.final_answer or "") if has_answer(trajectory) else ""
        if self.text == "answer":
            return [answer]
        shown = "\n".join(read_texts(trajectory.turns, self._passage))
        return [shown] if self.text == "shown" else [answer, shown]

    def _dilution(self, text: str, nuggets: Sequence[Nugget]) -> float:
        num_wanted = sum(max(_num_words(wording) for wording in nugget.wordings) for nugget in nuggets)
        return min(1.0, (num_wanted + self.slack) / max(_num_words(text), 1))

    def _nuggets(self, question: Question) -> tuple[Nugget, ...]:
        if self._by_question is not None:
            return self._by_question.get(question.id, ())
        answer = Nugget(wordings=question.golden_answers)
        if self.source == "answer":
            return (answer,)
        said = dict.fromkeys(
            sentence
            for support in dict.fromkeys(question.supporting_ids)
            for sentence in self._sentences(support)
            if mentions(sentence, answers_of(question))
        )
        return (answer, *(Nugget(wordings=(sentence,)) for sentence in said))

    def _sentences(self, passage_id: str) -> list[str]:
        try:
            return sentences(self._passage(passage_id).text)
        except KeyError:
            return []


def _num_words(text: str) -> int:
    return len(normalize_answer(text).split())


def _nugget(item: Any) -> Nugget:
    wordings = (item["text"],) if isinstance(item["text"], str) else tuple(item["text"])
    if not wordings or not all(isinstance(wording, str) and wording.strip() for wording in wordings):
        raise ValueError(f"a nugget's text is one wording or a list of them, got {item['text']!r}")
    weight = finite_parameter("nuggets", "weight", item.get("weight", 1.0))
    if weight == 0.0:
        raise ValueError("a nugget's weight is above 0")
    return Nugget(wordings=wordings, weight=weight)
