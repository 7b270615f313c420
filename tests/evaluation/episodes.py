"""Small hand-made questions and trajectories that the tests of this folder share."""

from collections.abc import Sequence

from agent.action import Action, ToolRequest
from agent.trajectory import FinishReason, Shown, ToolCall, Trajectory, Turn
from envs.question import Hop, Question
from retrieval.passage import Hit, Passage

PASSAGES = {
    "p1": Passage(id="p1", title="Oslo", text="Oslo is the capital of Norway."),
    "p2": Passage(id="p2", title="Norway", text="Norway is a country; its king is Harald."),
    "p3": Passage(id="p3", title="Bergen", text="Bergen is a city by the sea."),
}

QUESTION = Question(
    id="q1",
    text="Who is king of the country whose capital is Oslo?",
    golden_answers=("Harald", "Harald V"),
    kind="bridge",
    supporting_ids=("p1", "p2"),
    hops=(
        Hop(question="Oslo is the capital of which country?", answers=("Norway",), supporting_id="p1"),
        Hop(question="Who is king of #1?", answers=("Harald",), supporting_id="p2", depends_on=(0,)),
    ),
)


def hits(*passage_ids: str) -> tuple[Hit, ...]:
    return tuple(Hit(passage=PASSAGES[p], score=1.0 / rank, rank=rank) for rank, p in enumerate(passage_ids, start=1))


def search_turn(query: str, shown: Sequence[tuple[int, str]], *, thought: str = "", num_tokens: int = 3) -> Turn:
    found = hits(*(passage_id for _, passage_id in shown))
    return Turn(
        action_ids=tuple(range(num_tokens)),
        action_logprobs=tuple(-0.5 for _ in range(num_tokens)),
        action_versions=tuple(0 for _ in range(num_tokens)),
        action=Action(kind="call", thought=thought, requests=(ToolRequest(tool="search", argument=query),)),
        calls=(ToolCall(tool="search", argument=query, hits=found, status="ok" if found else "empty", latency_s=0.01),),
        shown=tuple(Shown(number=n, passage_id=p) for n, p in shown),
        observation_ids=tuple(range(5)),
    )


def answer_turn(answer: str, citations: Sequence[int] = (), *, thought: str = "", num_tokens: int = 2) -> Turn:
    return Turn(
        action_ids=tuple(range(num_tokens)),
        action_logprobs=tuple(-0.25 for _ in range(num_tokens)),
        action_versions=tuple(0 for _ in range(num_tokens)),
        action=Action(kind="answer", thought=thought, answer=answer, citations=tuple(citations)),
    )


def trajectory(
    *turns: Turn,
    id: str = "t1",
    question_id: str = "q1",
    finish_reason: FinishReason = "answered",
    sample: int = 0,
) -> Trajectory:
    return Trajectory(
        id=id,
        question_id=question_id,
        unit_id=f"u-{question_id}",
        group_id=f"g-{question_id}",
        sample=sample,
        prompt_ids=(7, 8, 9),
        turns=turns,
        finish_reason=finish_reason,
    )


def good_trajectory(id: str = "t1") -> Trajectory:
    return trajectory(
        search_turn("Oslo capital", [(1, "p1"), (2, "p3")], thought="Find the country."),
        search_turn("king of Norway", [(3, "p2")]),
        answer_turn("Harald", [1, 3]),
        id=id,
    )
