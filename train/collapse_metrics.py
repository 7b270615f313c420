"""What a step's trajectories say about a policy that is falling apart, before its reward does.

The thinking goes first: right answers become less likely under the policy that gave them, thoughts grow, shrink or
repeat themselves, queries come again, and answers stay out. All of it is read off the trajectories; nothing is run.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from agent.tools import SEARCH
from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, normalize_answer

NGRAM = 4
"""Length of the n-grams whose repetition is counted."""


def collapse_metrics(trajectories: Sequence[Trajectory], questions: Mapping[str, Question]) -> dict[str, float]:
    """The figures of a step that `train.watch` looks at, by the names of `metrics.jsonl`.

    Args:
        trajectories: of the step, without those that an outage ended.
        questions: by id, with the answers that tell a correct trajectory.

    Returns:
        `logprob/mean`, `logprob/correct`: mean of the engine's logprobs over sampled tokens, in nats, of all and of
        correct trajectories; `logprob/num_correct`: how many those are.
        `thoughts/words`, `thoughts/repetition`: words of a turn's thought, and `repetition` of them; means over turns.
        `actions/repetition`: the same of a turn's sampled tokens, whether they can be read or not.
        `duplicate_query_rate`: share of the searches that repeat an earlier query of their trajectory.
        `answer_rate`: share that ended with an answer, of those that the sampler did not cut.
        What has nothing to be taken over is left out.

        The likelihood of correct trajectories is watched after the Lazy Likelihood Displacement of "On GRPO Collapse in
        Search-R1" (Deng et al. 2025).
    """
    correct = [t for t in trajectories if exact_match(t.final_answer, questions[t.question_id].golden_answers) == 1.0]
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    values: dict[str, float] = {"logprob/num_correct": float(len(correct))}
    for name, chosen in (("mean", trajectories), ("correct", correct)):
        logprobs = np.array([value for t in chosen for turn in t.turns for value in turn.action_logprobs])
        logprobs = logprobs[np.isfinite(logprobs)]
        if len(logprobs):
            values[f"logprob/{name}"] = float(logprobs.mean())
    if turns:
        thoughts = [turn.action.thought.split() for turn in turns]
        values["thoughts/words"] = float(np.mean([len(words) for words in thoughts]))
        values["thoughts/repetition"] = float(np.mean([repetition(words) for words in thoughts]))
        values["actions/repetition"] = float(np.mean([repetition(turn.action_ids) for turn in turns]))
    queries = [queries_of(t) for t in trajectories]
    if asked := sum(map(len, queries)):
        values["duplicate_query_rate"] = sum(len(own) - len(set(own)) for own in queries) / asked
    ended = [t for t in trajectories if t.finish_reason != "cut"]
    if ended:
        values["answer_rate"] = sum(t.finish_reason == "answered" for t in ended) / len(ended)
    return values


def repetition(words: Sequence[Hashable], n: int = NGRAM) -> float:
    """1 - distinct n-grams / n-grams, 0 where there is no n-gram (seq-rep-n of Welleck et al. 2020, arXiv:1908.04319).

    >>> repetition("to be or not to be or not to be or not".split())
    0.5555555555555556
    """
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def queries_of(trajectory: Trajectory) -> list[str]:
    """The queries that were searched, in order, so that two which differ in case, articles or punctuation are equal."""
    return [normalize_answer(call.argument) for turn in trajectory.turns for call in turn.calls if call.tool == SEARCH]
