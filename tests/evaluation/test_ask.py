"""One question, followed: the path that is shown is the path that was played, whatever documents and models write."""

import asyncio
import io
import json
import random
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.engine import Completion, EngineError, SamplingParams
from agent.tiny import build_tiny_policy
from agent.trajectory import Turn
from envs.policies.registry import load_policy
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.ask import Asked, follow
from evaluation.ask_console import ask_on_console
from evaluation.ask_job import AskJob
from evaluation.ask_terminal import AskPrinter, harmless, shortened
from evaluation.asked_turn import AskedEnd, AskedPassage, AskedTurn
from evaluation.evaluated_policy import EvaluatedPolicy
from evaluation.run import evaluate_policy
from retrieval.index import open_index
from retrieval.passage import Hit, Passage
from retrieval.retriever import RetrievalError
from tests.evaluation.conftest import SmallWorld

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m \u202eesrever [bold red]big[/] <script>alert(1)</script>"


def expert_job(small_world: SmallWorld, **changes: Any) -> AskJob:
    given: dict[str, Any] = {"policy": "scripted:expert", "index": str(small_world.index), "question": "q-Oslo"}
    return AskJob(**{**given, "questions": small_world.questions_file, "limits": {"top_k": 2}, **changes})


def events_of(job: AskJob) -> list[AskedTurn | AskedEnd]:
    async def all_events() -> list[AskedTurn | AskedEnd]:
        return [event async for event in follow(job)]

    return asyncio.run(all_events())


def printed(job: AskJob, **console: Any) -> str:
    out = io.StringIO()
    asyncio.run(ask_on_console(job, console=Console(file=out, highlight=False, **console)))
    return out.getvalue()


def asked_by(policy: Any, small_world: SmallWorld, retriever: Any, **changes: Any) -> Asked:
    given = {"protocol": small_world.protocol, "limits": EpisodeLimits(top_k=2), "retriever": retriever}
    return Asked(policy=policy, **{**given, **changes})


def test_turns_come_in_order_with_what_was_shown_and_the_answer_with_what_it_cites(small_world: SmallWorld) -> None:
    *turns, end = events_of(expert_job(small_world))
    assert isinstance(end, AskedEnd) and all(isinstance(turn, AskedTurn) for turn in turns)
    assert [turn.number for turn in turns] == [1, 2, 3] and turns[0].calls[0].argument == "Oslo capital of"
    assert (turns[0].passages[0].title, turns[0].passages[0].is_gold) == ("Oslo", True)
    assert [passage.again for passage in turns[1].passages].count(False) >= 1
    assert (end.answer, end.exact_match, end.finish_reason) == ("Harald", True, "answered")
    cited = {citation.passage.id for citation in end.citations if citation.passage}
    assert cited == {"c-Oslo", "k-Norway"}
    assert json.loads(json.dumps([event.record() for event in (*turns, end)]))[-1]["golden_answers"] == ["Harald"]


class Watching:
    """The expert, which notes how much of its path had been told when it acted."""

    def __init__(self, small_world: SmallWorld, told: list[Any]) -> None:
        self._expert = load_policy("expert", small_world.protocol)
        self._told = told
        self.told_when_acting: list[int] = []

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        self.told_when_acting.append(len(self._told))
        return self._expert.act(question, view, turns, rng)


def test_a_turn_is_told_before_the_next_action_is_sampled(small_world: SmallWorld) -> None:
    told: list[Any] = []
    watching = Watching(small_world, told)

    async def ask() -> None:
        with open_index(small_world.index) as index:
            policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, scripted=watching)
            async for event in asked_by(policy, small_world, index).ask(small_world.questions[0]):
                told.append(event)

    asyncio.run(ask())
    assert watching.told_when_acting == [0, 1, 2] and len(told) == 4


def test_who_leaves_early_ends_the_episode(small_world: SmallWorld) -> None:
    watching = Watching(small_world, [])

    async def ask() -> None:
        with open_index(small_world.index) as index:
            policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, scripted=watching)
            async with aclosing(asked_by(policy, small_world, index).ask(small_world.questions[0])) as events:
                async for _ in events:
                    break

    asyncio.run(ask())
    assert len(watching.told_when_acting) <= 2, "the third action is never asked for"


@pytest.fixture(scope="module")
def policy_folder(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "run" / "checkpoints" / "step-000002" / "model"
    texts = [f"{question.text} {question.hops[0].question}" for question in small_world.questions]
    build_tiny_policy(folder, texts, protocol=small_world.protocol, hidden_size=32, num_layers=1, num_heads=2)
    return folder


def test_a_model_is_asked_as_an_evaluation_asks_it(small_world: SmallWorld, policy_folder: Path) -> None:
    limits = {"max_turns": 3, "max_new_tokens_per_turn": 16, "top_k": 2}
    job = AskJob(
        policy=str(policy_folder), index=str(small_world.index), question=small_world.questions[1].text, limits=limits
    )
    *turns, end = events_of(replace(job, questions=small_world.questions_file))
    assert isinstance(end, AskedEnd)

    async def evaluated() -> Any:
        from evaluation.evaluated_policy import engine_spec, load_model_policy

        policy = load_model_policy(str(policy_folder), engine_spec(max_batch=1))
        assert policy.engine is not None
        with open_index(small_world.index) as index:
            _, trajectories = await evaluate_policy(
                [small_world.questions[1]],
                protocol=small_world.protocol,
                tokenizer=policy.tokenizer,
                limits=EpisodeLimits(**limits),
                engine=policy.engine,
                retriever=index,
            )
        await policy.engine.close()
        return trajectories[0]

    trajectory = asyncio.run(evaluated())
    assert [turn.thought for turn in turns] == [turn.action.thought for turn in trajectory.turns]
    assert (end.finish_reason, end.num_turns) == (trajectory.finish_reason, trajectory.num_turns)
    assert end.sampled_tokens == sum(len(turn.action_ids) for turn in trajectory.turns)


class OneAnswer:
    """A retriever of one passage, or of an outage."""

    def __init__(self, passage: Passage | None) -> None:
        self._passage = passage
        self.num_passages = 1

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self._passage is None:
            raise RetrievalError("the server\x1b[31m is away")
        return [[Hit(passage=self._passage, score=1.0, rank=1)] for _ in queries]


class SaysAfterOneSearch:
    def __init__(self, answer: str) -> None:
        self._answer = answer

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        if turns:
            return f"<think>{HOSTILE}</think><answer>{self._answer}</answer>"
        return "<think>look</think><search>Oslo</search>"


def told_of(asked: Asked, question: Question) -> list[AskedTurn | AskedEnd]:
    async def all_events() -> list[AskedTurn | AskedEnd]:
        return [event async for event in asked.ask(question)]

    return asyncio.run(all_events())


def on_terminal(events: Sequence[AskedTurn | AskedEnd]) -> str:
    out = io.StringIO()
    printer = AskPrinter(Console(file=out, highlight=False, force_terminal=True, color_system="standard", width=60))
    printer.question(HOSTILE, HOSTILE)
    for event in events:
        printer.end(event) if isinstance(event, AskedEnd) else printer.turn(event)
    return out.getvalue()


def test_hostile_text_reaches_the_terminal_as_text(small_world: SmallWorld) -> None:
    """A passage that clears the screen, sets the title, reverses what follows, or is read as markup."""
    policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, scripted=SaysAfterOneSearch("Oslo [1][7]"))
    retriever = OneAnswer(Passage(id="p", title=HOSTILE, text=HOSTILE))
    events = told_of(asked_by(policy, small_world, retriever), small_world.questions[0])
    events = [replace(event, thought=HOSTILE) if isinstance(event, AskedTurn) else event for event in events]
    shown = on_terminal(events)
    assert COLOURS.search(shown), "a terminal has colours"
    rest = COLOURS.sub("", shown)
    assert not [character for character in rest if ord(character) < 32 and character != "\n"]
    assert not set(rest) & {"\x7f", "\x9b", "\u202e"}
    for text in ("\\x1b]0;owned", "[bold red]big[/]", "<script>", "was never shown"):
        assert text in " ".join(rest.split()), text
    assert "\x1b[31mbig" not in shown, "markup in a passage is not read"


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\rb", "\x00", "\x85", "\u2067x", "\ud800", "\x1b]52;c;aGk=\x07"])
def test_no_character_that_a_terminal_obeys_is_left(hostile: str) -> None:
    clean = harmless(hostile)
    assert clean.isprintable() and clean.encode("utf-8")
    assert harmless("Zürich, 東京, שלום 👩‍🚀\nok", lines=True) == "Zürich, 東京, שלום 👩‍🚀\nok"


def test_long_passages_are_shortened_at_a_word_and_shown_whole_on_demand() -> None:
    text = "alpha beta gamma " * 40
    assert len(shortened(text, 60)) <= 60 and shortened(text, 60).endswith("alpha ...")
    assert shortened(text, None) == text.strip()
    assert shortened("x" * 500, 20) == "x" * 20 + "..."


def test_a_pipe_gets_no_colours_and_no_folding(small_world: SmallWorld) -> None:
    text = printed(expert_job(small_world), width=40)
    assert "\x1b" not in text
    for line in (
        "question  Who is the king of the country whose capital is Oslo?",
        "answer    Harald",
        "Oslo is the capital of",
    ):
        assert line in text
    assert re.search(r"gold +Harald  right", text)


def test_an_outage_says_what_the_retriever_said(small_world: SmallWorld) -> None:
    policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, scripted=SaysAfterOneSearch("Oslo"))
    *_, end = events = told_of(asked_by(policy, small_world, OneAnswer(None)), small_world.questions[0])
    assert isinstance(end, AskedEnd)
    assert (end.finish_reason, end.answer) == ("retrieval_outage", None)
    assert end.fault and "is away" in end.fault
    assert "the retriever did not answer" in COLOURS.sub("", on_terminal(events))


class Broken:
    context_window = None
    exact = True

    def episode(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        raise EngineError("out of memory")


def test_an_engine_that_fails_says_why(small_world: SmallWorld) -> None:
    policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, engine=Broken())  # type: ignore[arg-type]
    retriever = OneAnswer(Passage(id="p", title="t", text="x"))
    (end,) = told_of(asked_by(policy, small_world, retriever), small_world.questions[0])
    assert isinstance(end, AskedEnd) and (end.finish_reason, end.fault) == ("engine_failure", "out of memory")


def test_a_fault_of_our_own_is_raised_and_not_swallowed(small_world: SmallWorld) -> None:
    class Bug:
        def act(self, *_: Any) -> str:
            raise ZeroDivisionError

    policy = EvaluatedPolicy(tokenizer=small_world.tokenizer, scripted=Bug())
    retriever = OneAnswer(Passage(id="p", title="t", text="x"))
    with pytest.raises(ZeroDivisionError):
        told_of(asked_by(policy, small_world, retriever), small_world.questions[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "  "}, "the question is empty"),
        ({"question": "Who is the king of the country whose capital is Osl?"}, "did you mean 'Who is the king"),
        ({"questions": None}, "--questions"),
        ({"index": "nowhere"}, "nowhere"),
        ({"limits": {"top_k": 99}}, "lower it"),
        ({"limits": {"top_k": 0}}, "top_k"),
        ({"policy": "predictions:answers.jsonl"}, "no question can be put to"),
        ({"policy": "scripted:oracle"}, "oracle"),
        ({"temperature": -1.0}, "temperature"),
        ({"protocol": "telepathy"}, "telepathy"),
        ({"engine": "magic"}, "magic"),
    ],
)
def test_bad_input_is_told(small_world: SmallWorld, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        events_of(expert_job(small_world, **changes))


def test_a_passage_that_no_call_brought_is_named_by_its_id() -> None:
    passage = AskedPassage(number=1, id="p", title="", text="")
    assert AskedTurn(number=1, kind="call", thought="", passages=(passage,)).record()["passages"][0]["id"] == "p"
