"""Small run folders as training leaves them, written by hand: groups, paraphrases, branches, hostile text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agent.action import Action, ToolRequest
from agent.trajectory import Shown, ToolCall, Trajectory, Turn
from envs.datasets import question_row
from envs.question import Question
from evaluation.trajectory_store import TrajectoryWriter
from retrieval.passage import Hit, Passage
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory, search_turn, trajectory

NASTY = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\"'&\u202e"
PARAPHRASED = replace(QUESTION, paraphrases=("Oslo is a capital; who reigns there?", "Name the king over Oslo."))


def extra_of(one: Trajectory, reward: float = 1.0) -> dict[str, Any]:
    """What training stores beside a trajectory."""
    turns = [round(0.5 - 0.25 * i, 2) for i in range(one.num_turns)]
    return {
        "reward": reward,
        "rewards": {
            "exact_match": {"turn": [None] * one.num_turns, "outcome": reward},
            "hop_relevance": {"turn": turns, "outcome": None},
        },
        "advantages": [reward - 0.5 * (i + 1) for i in range(one.num_turns)],
    }


def bad_trajectory(id: str = "t2") -> Trajectory:
    """Asks twice, never finds the second support, cites a number that stood for nothing."""
    return trajectory(
        search_turn("Oslo capital", [(1, "p1"), (2, "p3")], thought="Find the country."),
        search_turn("oslo  Capital", [(1, "p1")], thought="Find the country."),
        answer_turn("Bergen", [2, 9]),
        id=id,
        sample=1,
    )


def samples() -> list[Trajectory]:
    """A group of two: one right, one wrong."""
    return [good_trajectory("g-a"), bad_trajectory("g-b")]


def paraphrases() -> list[Trajectory]:
    """One unit in three wordings."""
    return [
        replace(good_trajectory(f"v{view}"), unit_id="u-views", group_id=f"u-views-{view}", view=view)
        for view in range(3)
    ]


def branches() -> list[Trajectory]:
    """A root and two branches of it, after its first turn and after its second."""
    root = replace(good_trajectory("root"), unit_id="u-tree", group_id="u-tree")
    first = (*root.turns[:1], answer_turn("Sweden"))
    second = (*root.turns[:2], answer_turn("Harald", [3]))
    return [
        root,
        replace(root, id="fork-1", turns=first, parent_id="root", fork_turn=1, sample=1),
        replace(root, id="fork-2", turns=second, parent_id="root", fork_turn=2, sample=2),
    ]


def hostile() -> tuple[Question, Trajectory]:
    """Tags in every text that a question, a model or a document can hold."""
    passage = Passage(id=f"p{NASTY}", title=f"T{NASTY}", text=f"x{NASTY}")
    call = ToolCall(
        tool="search",
        argument=f"q{NASTY}",
        hits=(Hit(passage=passage, score=1.0, rank=1),),
        status="ok",
        latency_s=0.01,
    )
    search = Turn(
        action_ids=(1, 2),
        action_logprobs=(-0.1, -3.0),
        action_versions=(0, 1),
        action=Action(
            kind="call",
            thought=f"hm{NASTY}",
            requests=(ToolRequest(tool="search", argument=f"q{NASTY}"),),
            goal=f"goal{NASTY}",
            judgement=False,
            reflection=True,
        ),
        calls=(call,),
        shown=(Shown(number=1, passage_id=passage.id, truncated=True),),
        observation_ids=(3,),
    )
    invalid = replace(
        search, action=Action(kind="invalid", thought="", error=f"bad{NASTY}"), calls=(), shown=(), observation_ids=()
    )
    question = Question(
        id=f"q{NASTY}", text=f"Who{NASTY}?", golden_answers=(f"A{NASTY}",), supporting_ids=(passage.id, f"no{NASTY}")
    )
    said = trajectory(search, invalid, answer_turn(f"A{NASTY}", [1, 7]), id=f"t{NASTY}", question_id=question.id)
    return question, replace(said, unit_id=f"u{NASTY}", group_id=f"g{NASTY}")


def metrics_line(step: int) -> dict[str, Any]:
    """A line of `metrics.jsonl` with the figures that a run's page has a place for."""
    level = step / (step + 5)
    return {
        "step": step,
        "trajectories": step * 8,
        "em": level,
        "entropy": 1.0 - level / 2,
        "turns": 2 + level,
        "searches": 1 + level,
        "rewards/exact_match/mean": level,
        "rewards/exact_match/weighted_mean": level,
        "rewards/hop_relevance/mean": level / 2,
        "rewards/hop_relevance/weighted_mean": level / 2,
        "thoughts/words": 12.0 - level,
        "duplicate_query_rate": 0.1 * (1 - level),
        "staleness/mean": 0.0,
        "sampled_tokens": 400.0,
        "finish_ratio/answered": level,
        "ratio/histogram": {"edges": [-1.0, -0.1, 0.1, 1.0], "counts": [1, 40, 2]},
        "seconds/step": 2.0,
        **({"dev/em": level} if step % 5 == 0 else {}),
    }


def write_metrics(folder: Path, steps: Sequence[int]) -> None:
    """Append lines of these steps."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(metrics_line(step)) + "\n" for step in steps)


def write_questions(path: Path, questions: Sequence[Question]) -> Path:
    """A file of questions."""
    path.write_text("".join(json.dumps(question_row(q), ensure_ascii=False) + "\n" for q in questions), "utf-8")
    return path


def write_run(
    folder: Path,
    trajectories: Mapping[int, Sequence[Trajectory]],
    *,
    questions: Sequence[Question] = (PARAPHRASED,),
    steps: int = 6,
    finished: bool = True,
) -> Path:
    """A training run's folder with these trajectories by step."""
    folder.mkdir(parents=True)
    file = write_questions(folder.parent / f"{len(folder.name)}-questions.jsonl", questions)
    config = {"seed": 0, "policy": {"model": "nowhere"}, "data": {"train_questions": str(file)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_metrics(folder, range(1, steps + 1))
    add_trajectories(folder, trajectories)
    if finished:
        (folder / "model").mkdir()
    return folder


def add_trajectories(folder: Path, trajectories: Mapping[int, Sequence[Trajectory]]) -> None:
    """Append trajectories by step, the first of each step with reward 1 and the next with less."""
    with TrajectoryWriter(folder / "trajectories") as writer:
        for step, those in trajectories.items():
            writer.append(step, those, [extra_of(one, 1.0 - 0.5 * i) for i, one in enumerate(those)])


def whole_run(folder: Path, **options: Any) -> Path:
    """A run with a group, paraphrases and branches."""
    return write_run(folder, {1: samples(), 2: paraphrases(), 3: branches()}, **options)


def hostile_run(folder: Path, **options: Any) -> Path:
    """A run in which every text tries to be a script; name the folder so too."""
    question, said = hostile()
    return write_run(folder, {1: [said]}, questions=(question,), **options)
