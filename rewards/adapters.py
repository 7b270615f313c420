"""A TRL reward function in, a Waymark reward out, and back.

TRL calls `fn(prompts, completions, completion_ids=..., **columns) -> list[float | None]` with texts and with the
dataset's columns as lists; None means "does not apply", which is NaN here. Coming in, texts are decoded from the exact
ids with the given tokenizer as TRL decodes them, and columns are taken from the question. Going out, a Waymark reward
needs trajectories: TRL passes them on where the `rollout_func` returns them as an extra field named `trajectory`;
without them, each completion is read as an episode of one turn.

In a config: `{use: rewards.adapters:trl_reward, params: {function: my_rewards:brevity, tokenizer: path/to/model}}`.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from agent.action import Action
from agent.extension import load_object
from agent.trajectory import Trajectory, Turn, Unit
from envs.question import Question
from rewards.annotation import QUESTION_FIELDS, is_scorable, missing_fields, question_of
from rewards.combine import trajectory_totals
from rewards.reward import Questions, Reward, RewardContext
from rewards.score import Scores

TRLRewardFunction = Callable[..., Sequence[float | None]]


class Decoder(Protocol):
    """The part of a Hugging Face tokenizer that is needed here."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Ids to text."""
        ...


class TRLReward:
    """A TRL reward function as an outcome reward.

    Formula: outcome = what the function returns, NaN for None. Range: the function's. Source: TRL's `GRPOTrainer`.
    Needs: the fields named in `needs`, and those that `columns` takes over; without them NaN, and the function is not
    asked. Episodes that ended in an outage have NaN and are not passed to the function either.

    function: synchronous, with TRL's signature. It gets `prompts`, `completions`, `completion_ids`, and of the columns
        those that it names (all, if it takes `**kwargs`): every field of `Question`, `question` (the wording asked),
        `trajectory`, and the names in `columns`.
    columns: the function's own column name -> the `Question` field, for example `{"ground_truth": "golden_answers"}`.
    actions_only: a completion is only what the policy sampled; by default it has the observations in between, as
        TRL's has.

    Raises:
        ValueError: the function is asynchronous, or asks for a column that nobody provides.
    """

    def __init__(
        self,
        function: TRLRewardFunction,
        tokenizer: Decoder,
        *,
        columns: Mapping[str, str] | None = None,
        needs: Collection[str] = (),
        actions_only: bool = False,
    ) -> None:
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self._function = function
        self._tokenizer = tokenizer
        self._actions_only = actions_only
        self._columns = dict(columns or {})
        self.needs = frozenset(needs) | frozenset(self._columns.values())
        unknown = sorted(self.needs - QUESTION_FIELDS)
        if unknown:
            raise ValueError(f"reward {self.name}: {unknown} are not fields of Question: {sorted(QUESTION_FIELDS)}")
        self._accepted = self._check_signature()

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Ask the function once for all trajectories of the unit to which it applies: outcome `[num_trajectories]`.

        Raises:
            ValueError: the function returned another number of rewards than it was given completions.
        """
        outcome = np.full(len(unit.trajectories), np.nan)
        asked: list[int] = []
        rows: list[dict[str, Any]] = []
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            if is_scorable(trajectory) and not missing_fields(question, self.needs):
                asked.append(i)
                rows.append(self._row(trajectory, question))
        if asked:
            names = [name for name in rows[0] if self._accepted is None or name in self._accepted]
            values = self._function(**{name: [row[name] for row in rows] for name in names})
            if len(values) != len(asked):
                raise ValueError(
                    f"TRL reward function {self.name!r} returned {len(values)} rewards for {len(asked)} completions; "
                    "it has to return one for each"
                )
            outcome[asked] = [math.nan if value is None else float(value) for value in values]
        return Scores.of_outcome(unit, outcome)

    def _row(self, trajectory: Trajectory, question: Question) -> dict[str, Any]:
        completion_ids: list[int] = []
        for turn in trajectory.turns:
            completion_ids.extend(turn.action_ids)
            if not self._actions_only:
                completion_ids.extend(turn.observation_ids)
        own = {name: getattr(question, field) for name, field in self._columns.items()}
        return {
            **{field.name: _as_column(getattr(question, field.name)) for field in fields(question)},
            "question": question.wording(trajectory.view),
            "trajectory": trajectory,
            **{name: _as_column(value) for name, value in own.items()},
            "prompts": self._tokenizer.decode(trajectory.prompt_ids, skip_special_tokens=True),
            "completions": self._tokenizer.decode(completion_ids, skip_special_tokens=True),
            "completion_ids": completion_ids,
        }

    def _check_signature(self) -> frozenset[str] | None:
        """The argument names that the function accepts; None where it takes any."""
        call = self._function
        if not callable(call):
            raise ValueError(f"a TRL reward function has to be callable, got {call!r}")
        if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
            raise ValueError(f"TRL reward function {self.name!r} is asynchronous; wrap it in a synchronous one")
        parameters = inspect.signature(call).parameters.values()
        provided = {f.name for f in fields(Question)} | {"question", "trajectory", "prompts", "completions"}
        provided |= {"completion_ids", *self._columns}
        wanted = {
            p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        if wanted - provided:
            raise ValueError(
                f"TRL reward function {self.name!r} asks for the columns {sorted(wanted - provided)}, which a question "
                f"does not have; it has {sorted(provided)}. Say what they are with `columns`, for example "
                '{"ground_truth": "golden_answers"}'
            )
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        return frozenset(p.name for p in parameters)


def trl_reward(
    context: RewardContext,
    *,
    function: str,
    tokenizer: str,
    columns: Mapping[str, str] | None = None,
    needs: Collection[str] = (),
    actions_only: bool = False,
) -> TRLReward:
    """The factory for configs: `function` as `module:object`, `tokenizer` as a Hugging Face folder or id.

    Raises:
        ValueError: as `TRLReward`, or the function cannot be loaded.
        OSError: no tokenizer there.
    """
    from transformers import AutoTokenizer

    del context
    loaded: TRLRewardFunction = load_object(function, kind="TRL reward function", builtins={})
    return TRLReward(
        loaded, AutoTokenizer.from_pretrained(tokenizer), columns=columns, needs=needs, actions_only=actions_only
    )


def to_trl(
    reward: Reward, *, questions: Questions | None = None, parse: Callable[[str], Action] | None = None
) -> Callable[..., list[float | None]]:
    """A Waymark reward as a TRL reward function: the outcome plus the sum over turns; None where neither applies, or a
    judge's verdict failed.

    With a column `trajectory` (Waymark `Trajectory` objects) the function scores those, unit by unit, against
    `questions`. Without it, each completion is parsed as an episode of one turn with `parse`, and the question is made
    from the columns that carry names of `Question` fields, `question` among them.

    Raises (when called):
        ValueError: there is neither a `trajectory` column with `questions` given, nor `parse`.
    """

    def reward_function(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if "trajectory" in columns and questions is not None:
            trajectories, known = list(columns["trajectory"]), questions
        elif parse is not None:
            made = [_one_turn(i, _text(completions[i]), parse, columns) for i in range(len(completions))]
            trajectories, known = [t for t, _ in made], {q.id: q for _, q in made}
        else:
            raise ValueError(
                f"reward {reward.name!r} scores trajectories, and the batch has the columns {sorted(columns)}; return "
                "them from the rollout_func as `trajectory` and give `questions`, or give `parse` to read completions "
                "as single turns"
            )
        values: list[float | None] = [None] * len(trajectories)
        units: dict[str, list[int]] = {}
        for i, trajectory in enumerate(trajectories):
            units.setdefault(trajectory.unit_id, []).append(i)
        for members in units.values():
            scores = reward(Unit(kind="group", trajectories=tuple(trajectories[i] for i in members)), known)
            for i, total in zip(members, trajectory_totals(scores), strict=True):
                values[i] = None if math.isnan(total) else float(total)
        return values

    reward_function.__name__ = reward.name
    return reward_function


def _as_column(value: Any) -> Any:
    """Tuples as lists, which is what a dataset's columns hold."""
    return list(value) if isinstance(value, tuple) else value


def _text(completion: Any) -> str:
    """The text of a completion: itself, or the last message of a conversational one."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def _one_turn(
    index: int, text: str, parse: Callable[[str], Action], columns: Mapping[str, Any]
) -> tuple[Trajectory, Question]:
    row = {name: columns[name][index] for name in QUESTION_FIELDS | {"question"} if name in columns}
    question = Question(
        id=str(index),
        text=str(row.get("question", row.get("text", ""))),
        golden_answers=tuple(row.get("golden_answers") or ()),
        supporting_ids=tuple(row.get("supporting_ids") or ()),
        kind=row.get("kind"),
    )
    action = parse(text)
    ids = tuple(columns["completion_ids"][index]) if "completion_ids" in columns else ()
    turn = Turn(action_ids=ids, action_logprobs=(0.0,) * len(ids), action_versions=(0,) * len(ids), action=action)
    trajectory = Trajectory(
        id=f"completion-{index}",
        question_id=question.id,
        unit_id=f"completion-{index}",
        group_id=f"completion-{index}",
        prompt_ids=(),
        turns=(turn,),
        finish_reason="answered" if action.kind == "answer" else "no_answer",
    )
    return trajectory, question
