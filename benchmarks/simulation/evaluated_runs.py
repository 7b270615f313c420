"""Evaluations as `waymark evaluate` leaves them, of policies that are right by chance, so often as their settings say.

Two policies share each question's difficulty, as two checkpoints of one model do: they are wrong on much the same
questions. Texts have the length of real ones: passages of about 100 words, thoughts of a sentence.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.action import Action, ToolRequest
from agent.trajectory import Shown, ToolCall, Trajectory, Turn
from envs.question import Hop, Question
from evaluation.evaluation_file import FORMAT
from evaluation.metrics import evaluate_trajectories
from evaluation.question_columns import question_columns
from evaluation.trajectory_store import TrajectoryWriter
from retrieval.passage import Hit, Passage

_HEADS = ("Val", "Mor", "Kes", "Tar", "Lin", "Or", "Bel", "Dru", "Fen", "Hal", "Ister", "Quen", "Ros", "Sel", "Ulm")
_TAILS = ("dria", "mont", "wick", "gard", "holm", "ven", "stad", "burg", "mere", "ford", "nia", "thal", "port", "by")
_RELATIONS = (
    ("the river that flows through", "flows through"),
    ("the founder of", "was founded by"),
    ("the capital of", "has its capital in"),
    ("the composer of the anthem of", "has an anthem by"),
    ("the architect of the bridge at", "has a bridge by"),
)
_FILLER = (
    "The place is known from charters of the twelfth century and grew with the salt trade. Its market was moved twice, "
    "after the floods, and the old walls were taken down to pave the road to the harbour. Two schools and a mill stand "
    "by the square, and the local paper has appeared every week since the railway came. A museum in the former customs "
    "house shows maps, tools and a collection of glass that a merchant left to the town."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPolicy:
    """How often a policy is right on an easy two-hop question, what each further hop costs, and how it searches."""

    accuracy: float = 0.62
    loss_a_hop: float = 0.12
    extra_searches: float = 0.2
    no_answer: float = 0.05
    thought: str = "I have to find"


def make_questions(count: int, *, seed: int = 0) -> list[Question]:
    """Questions of two to four hops and three types, each with names of its own."""
    rng = random.Random(seed)
    return [_question(i, rng) for i in range(count)]


def write_evaluation(
    folder: Path, questions: Sequence[Question], policy: SimulatedPolicy, *, seed: int, top_k: int = 3
) -> None:
    """Play every question by chance and write `evaluation.json` and `trajectories/`."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    trajectories = []
    for i, question in enumerate(questions):
        difficulty = random.Random(i).random()  # the same for every policy
        trajectories.append(_episode(question, policy, 0.75 * difficulty + 0.25 * rng.random(), rng, top_k))
    evaluation = evaluate_trajectories(trajectories, questions)
    with TrajectoryWriter(folder / "trajectories") as writer:
        writer.append(0, trajectories)
    record = {
        "format": FORMAT,
        **evaluation.summary,
        "controls": {},
        "comparability": {
            "model": {"name": folder.name, "weights_sha256": f"{seed:064x}"},
            "index": {"backend": "bm25s", "index_hash": "5e" * 32, "corpus_hash": "c0" * 32, "num_passages": 100_000},
            "encoder": [],
            "top_k": top_k,
            "protocol": {"name": "waymark", "sha256": "7a" * 32},
            "passage_format": {"passage": "[{number}] {title}\n{text}\n"},
            "chat_template": {"sha256": None},
            "limits": {"max_turns": 6, "top_k": top_k, "max_trajectory_tokens": 4096},
            "decoding": {"temperature": 0.0, "samples": 1},
            "seeds": {"sampling": 0},
            "questions": {"name": "questions.test.jsonl", "sha256": "9b" * 32},
            "metric_version": 1,
            "deviations": [],
            "packages": {"waymark": "0.1.0"},
            "python": "3.11",
            "hardware": {"cpu": "simulated", "gpus": []},
            "commit": None,
        },
        "per_question": {
            **evaluation.record()["per_question"],
            **question_columns(evaluation.question_ids, questions, trajectories),
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def _name(rng: random.Random) -> str:
    return f"{rng.choice(_HEADS)}{rng.choice(_TAILS)}"


def _question(i: int, rng: random.Random) -> Question:
    num_hops = rng.choices((2, 3, 4), weights=(5, 3, 2))[0]
    names = [_name(rng) for _ in range(num_hops + 1)]
    relations = [rng.choice(_RELATIONS) for _ in range(num_hops)]
    about = names[0]
    for words, _ in relations:
        about = f"{words} {about}"
    return Question(
        id=f"q{i:05d}",
        text=f"What is the name of {about}?",
        golden_answers=(names[-1],),
        kind=rng.choices(("bridge", "comparison", "intersection"), weights=(6, 3, 1))[0],
        supporting_ids=tuple(f"p{i}-{hop}" for hop in range(num_hops)),
        hops=tuple(
            Hop(
                question=f"What is {words} {names[0] if hop == 0 else f'#{hop}'}?",
                answers=(names[hop + 1],),
                supporting_id=f"p{i}-{hop}",
                depends_on=(hop - 1,) if hop else (),
                triple=(names[hop], verb, names[hop + 1]),
            )
            for hop, (words, verb) in enumerate(relations)
        ),
    )


def _support(question: Question, hop: int) -> Passage:
    triple = question.hops[hop].triple
    assert triple is not None
    return Passage(
        id=question.supporting_ids[hop], title=triple[0], text=f"{triple[0]} {triple[1]} {triple[2]}. {_FILLER}"
    )


def _episode(
    question: Question, policy: SimulatedPolicy, difficulty: float, rng: random.Random, top_k: int
) -> Trajectory:
    hops = len(question.hops)
    right = difficulty < policy.accuracy - policy.loss_a_hop * (hops - 2)
    silent = not right and rng.random() < policy.no_answer
    found = hops if right else rng.randint(0, hops - 1)
    turns, number, cited = [], 0, []
    for hop in range(hops if not silent else 6):
        reaches = hop < found
        passages = [_support(question, hop)] if reaches else []
        while len(passages) < top_k:
            name = _name(rng)
            passages.append(Passage(id=f"n{rng.randrange(10**6)}", title=name, text=f"{name} lies inland. {_FILLER}"))
        rng.shuffle(passages)
        numbers = range(number + 1, number + 1 + top_k)
        cited += [n for n, passage in zip(numbers, passages, strict=True) if passage.id in question.supporting_ids]
        number += top_k
        step = question.hops[min(hop, hops - 1)]
        turns.append(_search(step.question, passages, numbers, f"{policy.thought}: {step.question}", rng))
        if rng.random() < policy.extra_searches:
            turns.append(_search(step.question, passages, numbers, "That may not be all; I look again.", rng))
    if not silent:
        near = f"{question.golden_answers[0]} Bridge" if rng.random() < 0.3 else _name(rng)
        answer = question.golden_answers[0] if right else near
        thought = f"The passages lead to {answer}."
        action = Action(kind="answer", thought=thought, answer=answer, citations=tuple(cited))
        turns.append(_turn(action, rng))
    return Trajectory(
        id=f"eval-{question.id}-0",
        question_id=question.id,
        unit_id=f"eval-{question.id}",
        group_id=f"eval-{question.id}",
        prompt_ids=tuple(range(150)),
        turns=tuple(turns),
        finish_reason="turn_limit" if silent else "answered",
    )


def _search(query: str, passages: Sequence[Passage], numbers: Sequence[int], thought: str, rng: random.Random) -> Turn:
    hits = tuple(Hit(passage=p, score=1.0 / rank, rank=rank) for rank, p in enumerate(passages, start=1))
    return _turn(
        Action(kind="call", thought=thought, requests=(ToolRequest(tool="search", argument=query),)),
        rng,
        calls=(ToolCall(tool="search", argument=query, hits=hits, status="ok", latency_s=0.01 + rng.random() / 50),),
        shown=tuple(Shown(number=n, passage_id=p.id) for n, p in zip(numbers, passages, strict=True)),
        observed=120 * len(passages),
    )


def _turn(
    action: Action,
    rng: random.Random,
    *,
    calls: tuple[ToolCall, ...] = (),
    shown: tuple[Shown, ...] = (),
    observed: int = 0,
) -> Turn:
    size = rng.randint(20, 60)
    return Turn(
        action_ids=tuple(range(size)),
        action_logprobs=tuple(-0.25 for _ in range(size)),
        action_versions=tuple(0 for _ in range(size)),
        action=action,
        calls=calls,
        shown=shown,
        observation_ids=tuple(range(observed)),
    )
