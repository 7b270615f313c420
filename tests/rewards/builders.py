"""Trajectories by hand: what was shown, what was cited, how it ended. A turn is written in one short call.

    trajectory(search(["a", "x"]), search(["b"]), answer("Paris", cites=(1, 3)))

numbers passages in the order in which they were first shown, as the `waymark` protocol does.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.action import Action, ToolRequest
from agent.trajectory import FinishReason, Shown, ToolCall, Trajectory, Turn, Unit
from envs.question import Hop, Question
from retrieval.passage import Hit, Passage
from rewards.reward import RewardContext

PASSAGES = {
    p.id: p
    for p in (
        Passage(id="a", title="Lomira", text="Lomira was founded by the engineer Tavo Rinsel in the year 1812."),
        Passage(id="b", title="Tavo Rinsel", text="Tavo Rinsel grew up in the harbour town of Oskel."),
        Passage(id="c", title="Oskel", text="Oskel is a harbour town where the river Vann meets the sea."),
        Passage(id="x", title="Drums", text="A drum is a percussion instrument with a membrane."),
        Passage(id="y", title="Glaciers", text="Glaciers carve valleys as ice flows slowly downhill."),
        Passage(id="z", title="Rinsel Bridge", text="The Rinsel bridge crosses a canal and is painted green."),
    )
}

QUESTION = Question(
    id="q",
    text="In which town did the founder of Lomira grow up?",
    golden_answers=("Oskel",),
    supporting_ids=("a", "b"),
    hops=(
        Hop(
            question="Who founded Lomira?",
            answers=("Tavo Rinsel",),
            supporting_id="a",
            triple=("Lomira", "founder", "Tavo Rinsel"),
        ),
        Hop(
            question="In which town did #1 grow up?",
            answers=("Oskel",),
            supporting_id="b",
            depends_on=(0,),
            triple=("Tavo Rinsel", "grew up in", "Oskel"),
        ),
    ),
    paraphrases=(
        "Where did the person who founded Lomira spend their youth?",
        "Which town is the childhood home of Lomira's founder?",
    ),
)


def context(passages: dict[str, Passage] | None = None) -> RewardContext:
    """A reward context over these passages."""
    known = PASSAGES if passages is None else passages
    return RewardContext(passage=known.__getitem__, corpus=lambda: list(known.values()))


def search(
    shown: Sequence[str],
    query: str = "query",
    *,
    hits: Sequence[str] | None = None,
    num_queries: int = 1,
    thought: str = "",
    goal: str | None = None,
    judgement: bool | None = None,
    reflection: bool | None = None,
) -> Turn:
    """A search turn that showed these passage ids; `hits` is what the retriever returned, if that was more."""
    found = tuple(
        Hit(passage=PASSAGES.get(i, Passage(id=i, title="", text=i)), score=1.0, rank=r)
        for r, i in enumerate(shown if hits is None else hits, start=1)
    )
    calls = tuple(
        ToolCall(
            tool="search",
            argument=query,
            hits=found if n == 0 else (),
            status="ok" if found and n == 0 else "empty",
            latency_s=0.0,
        )
        for n in range(num_queries)
    )
    requests = tuple(ToolRequest(tool="search", argument=query) for _ in range(num_queries))
    return Turn(
        **_tokens(),
        action=Action(
            kind="call", requests=requests, thought=thought, goal=goal, judgement=judgement, reflection=reflection
        ),
        calls=calls,
        shown=tuple(Shown(number=0, passage_id=i) for i in shown),
        observation_ids=(5,),
    )


def answer(
    text: str,
    cites: Sequence[int] = (),
    *,
    thought: str = "",
    judgement: bool | None = None,
    reflection: bool | None = None,
) -> Turn:
    """The turn that answers."""
    action = Action(
        kind="answer",
        answer=text,
        citations=tuple(cites),
        thought=thought,
        judgement=judgement,
        reflection=reflection,
    )
    return Turn(**_tokens(), action=action)


def at_once(*turns: Turn) -> Turn:
    """The searches of these turns in one: their calls, and what they showed, one after the other."""
    return replace(
        turns[0],
        action=replace(turns[0].action, requests=tuple(r for turn in turns for r in turn.action.requests)),
        calls=tuple(call for turn in turns for call in turn.calls),
        shown=tuple(shown for turn in turns for shown in turn.shown),
    )


def invalid(error: str = "a policy may not write <information>") -> Turn:
    """A turn that the protocol refused, a forged observation for example."""
    return Turn(**_tokens(), action=Action(kind="invalid", error=error), observation_ids=(6,))


def trajectory(
    *turns: Turn, finish: FinishReason | None = None, sample: int = 0, question: Question = QUESTION, unit: str = "u"
) -> Trajectory:
    """An episode; passages get stable numbers, and it ends `answered` where its last turn answers."""
    ends_with_answer = bool(turns) and turns[-1].action.kind == "answer"
    numbers: dict[str, int] = {}
    numbered = tuple(
        replace(
            turn,
            shown=tuple(replace(s, number=numbers.setdefault(s.passage_id, len(numbers) + 1)) for s in turn.shown),
        )
        for turn in turns
    )
    return Trajectory(
        id=f"{unit}-{sample}",
        question_id=question.id,
        unit_id=unit,
        group_id=unit,
        sample=sample,
        prompt_ids=(1, 2),
        turns=numbered,
        finish_reason=finish or ("answered" if ends_with_answer else "turn_limit"),
    )


def group(*trajectories: Trajectory) -> Unit:
    """A unit of these trajectories."""
    return Unit(kind="group", trajectories=trajectories)


def paraphrase_set(*wordings: Sequence[Trajectory]) -> Unit:
    """A unit of rollouts of several wordings of one question: the i-th sequence becomes view i, a group of its own."""
    return Unit(
        kind="paraphrase_set",
        trajectories=tuple(
            replace(t, view=view, group_id=f"{t.unit_id}-view{view}", id=f"{t.id}-view{view}-{sample}", sample=sample)
            for view, rollouts in enumerate(wordings)
            for sample, t in enumerate(rollouts)
        ),
    )


def _tokens() -> dict[str, tuple[int, ...]]:
    return {"action_ids": (3, 4), "action_logprobs": (-0.1, -0.2), "action_versions": (0, 0)}
