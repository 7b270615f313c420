"""A trajectory as plain JSON, and back: what the store writes and what other tools read.

Lossless: `trajectory_from_record(trajectory_record(t)) == t`, token ids, logprobs and passages included. No field is
derived (masks and turn indices follow from the turns), and nothing is executed when a record is read.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.action import Action, ToolRequest
from agent.trajectory import FINISH_REASONS, Shown, ToolCall, Trajectory, Turn
from retrieval.passage import Hit, Passage


def trajectory_record(trajectory: Trajectory) -> dict[str, Any]:
    """The trajectory as a dict of JSON types."""
    return {
        "id": trajectory.id,
        "question_id": trajectory.question_id,
        "view": trajectory.view,
        "unit_id": trajectory.unit_id,
        "group_id": trajectory.group_id,
        "parent_id": trajectory.parent_id,
        "fork_turn": trajectory.fork_turn,
        "sample": trajectory.sample,
        "finish_reason": trajectory.finish_reason,
        "prompt_ids": [int(i) for i in trajectory.prompt_ids],
        "turns": [_turn_record(turn) for turn in trajectory.turns],
    }


def trajectory_from_record(record: Mapping[str, Any]) -> Trajectory:
    """The trajectory of a record.

    Raises:
        ValueError: a field is missing, has the wrong type, or names an unknown finish reason.
    """
    try:
        if record["finish_reason"] not in FINISH_REASONS:
            raise ValueError(f"finish_reason is {record['finish_reason']!r}; known are {', '.join(FINISH_REASONS)}")
        return Trajectory(
            id=record["id"],
            question_id=record["question_id"],
            view=record["view"],
            unit_id=record["unit_id"],
            group_id=record["group_id"],
            parent_id=record["parent_id"],
            fork_turn=record["fork_turn"],
            sample=record["sample"],
            finish_reason=record["finish_reason"],
            prompt_ids=tuple(record["prompt_ids"]),
            turns=tuple(_turn(turn) for turn in record["turns"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a trajectory record: {type(error).__name__} {error}") from error


def plain(value: Any) -> Any:
    """`value` in JSON types: arrays become lists, numpy numbers become Python's, NaN and infinities become None.

    Raises:
        ValueError: a value that JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be written as JSON; give numbers, text, lists or dicts")


_STATEMENTS = ("judgement", "goal", "reflection")
"""Fields of an action that are written only where the action says them."""


def _turn_record(turn: Turn) -> dict[str, Any]:
    action = turn.action
    return {
        "action_ids": [int(i) for i in turn.action_ids],
        "action_logprobs": [float(value) for value in turn.action_logprobs],
        "action_versions": [int(i) for i in turn.action_versions],
        "action": {
            "kind": action.kind,
            "thought": action.thought,
            "requests": [[request.tool, request.argument] for request in action.requests],
            "answer": action.answer,
            "citations": list(action.citations),
            "error": action.error,
            **{name: said for name in _STATEMENTS if (said := getattr(action, name)) is not None},
        },
        "calls": [_call_record(call) for call in turn.calls],
        "shown": [[shown.number, shown.passage_id, shown.truncated] for shown in turn.shown],
        "observation_ids": [int(i) for i in turn.observation_ids],
    }


def _call_record(call: ToolCall) -> dict[str, Any]:
    return {
        "tool": call.tool,
        "argument": call.argument,
        "status": call.status,
        "latency_s": float(call.latency_s),
        "hits": [[h.passage.id, h.passage.title, h.passage.text, float(h.score), h.rank] for h in call.hits],
    }


def _turn(record: Mapping[str, Any]) -> Turn:
    action = record["action"]
    return Turn(
        action_ids=tuple(record["action_ids"]),
        action_logprobs=tuple(record["action_logprobs"]),
        action_versions=tuple(record["action_versions"]),
        action=Action(
            kind=action["kind"],
            thought=action["thought"],
            requests=tuple(ToolRequest(tool=tool, argument=argument) for tool, argument in action["requests"]),
            answer=action["answer"],
            citations=tuple(action["citations"]),
            error=action["error"],
            **{name: action.get(name) for name in _STATEMENTS},
        ),
        calls=tuple(_call(call) for call in record["calls"]),
        shown=tuple(Shown(number=n, passage_id=i, truncated=truncated) for n, i, truncated in record["shown"]),
        observation_ids=tuple(record["observation_ids"]),
    )


def _call(record: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        tool=record["tool"],
        argument=record["argument"],
        status=record["status"],
        latency_s=record["latency_s"],
        hits=tuple(
            Hit(passage=Passage(id=id_, title=title, text=text), score=score, rank=rank)
            for id_, title, text, score, rank in record["hits"]
        ),
    )
