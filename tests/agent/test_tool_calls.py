"""What a JSON tool call means, and what is wrong with one: a policy learns its format from these answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.action import Action, ToolRequest
from agent.protocol import parse_action
from agent.protocols.registry import load_protocol
from agent.tools import open_argument, split_open_argument

HERMES = load_protocol("hermes_open")
SEARCH_ONLY = load_protocol("hermes")
ONE_CALL = load_protocol("hermes", parallel=False)


def call(name: Any, arguments: Any, key: str = "arguments") -> str:
    return f"<tool_call>\n{json.dumps({'name': name, key: arguments})}\n</tool_call>"


def search(query: str) -> ToolRequest:
    return ToolRequest(tool="search", argument=query)


A, B = call("search", {"query": "a"}), call("search", {"query": " b "})


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        (A, [search("a")]),
        (f"<think>\nfirst\n</think>\n\n{A}", [search("a")]),
        (f"opened by the prompt\n</think>\n\n{A}", [search("a")]),
        (f"{A}\n{B}", [search("a"), search("b")]),
        (call("search", {"query_list": ["a", "b"]}), [search("a"), search("b")]),
        (call("search", {"query": "a"}, key="parameters"), [search("a")]),
        (call("open", {"document": "Lima"}), [ToolRequest(tool="open", argument="Lima")]),
        (call("open", {"document": "Lima", "window": 2}), [ToolRequest(tool="open", argument="Lima | 2")]),
        (A + call("open", {"document": "p3"}), [search("a"), ToolRequest(tool="open", argument="p3")]),
        (f"{A}<tool_call>cut off", [search("a")]),
        (f"{A}<answer>Lima</answer>", [search("a")]),
        (f"<think>I could say {B}</think>{A}", [search("a")]),
    ],
)
def test_calls(text: str, requests: list[ToolRequest]) -> None:
    action = parse_action(HERMES, text, ended=True)
    assert (action.kind, list(action.requests)) == ("call", requests)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the answer is empty"),
        ("<think>\nno end", "the answer is empty"),
        (f"<think>{A}", "the answer is empty"),
        ("<tool_call>{}", "no complete <tool_call></tool_call>"),
        ("<answer>Lima", "no complete <answer></answer>"),
        ("<tool_call></tool_call>", "the tool call is no JSON at character 0"),
        ("<tool_call>{'name': 'search'}</tool_call>", "the tool call is no JSON at character 1"),
        (f"<tool_call>{'[' * 100_000}</tool_call>", "the tool call is no JSON"),
        ("<tool_call>[1]</tool_call>", 'must be an object {"name": ..., "arguments": {...}}'),
        ('<tool_call>{"arguments": {}}</tool_call>', "must be an object"),
        (call("calculator", {"query": "a"}), "there is no tool 'calculator'; the tools are 'search', 'open'"),
        (call(["search"], {"query": "a"}), "there is no tool"),
        (call("search", "a"), 'the arguments of \'search\' must be an object, as in {"query": "..."}'),
        (call("search", None), "must be an object"),
        (call("search", {}), "'search' takes 'query'"),
        (call("search", {"query": "a", "query_list": ["b"]}), "'search' takes 'query'"),
        (call("search", {"query": "a", "k": 5}), "'search' takes no argument 'k'"),
        (call("search", {"query": ["a"]}), "'query' of 'search' must be a string"),
        (call("search", {"query": 7}), "'query' of 'search' must be a string"),
        (call("search", {"query": "  "}), "the query is empty"),
        (call("search", {"query_list": []}), "'query_list' of 'search' must be a list of strings"),
        (call("search", {"query_list": "a"}), "'query_list' of 'search' must be a list of strings"),
        (call("search", {"query_list": ["a", None]}), "'query' of 'search' must be a string"),
        (call("search", {"query": "a\ud800"}), "half a surrogate pair"),
        (call("open", {"window": 2}), "'open' needs 'document'"),
        (call("open", {"document": ""}), "the document has no name"),
        (call("open", {"document": "a", "window": 0}), "'window' of 'open' must be a whole number from 1"),
        (call("open", {"document": "a", "window": "2"}), "'window' of 'open' must be a whole number from 1"),
        (call("open", {"document": "a", "window": True}), "'window' of 'open' must be a whole number from 1"),
        (f"{A}{call('search', {'query': 7})}", "'query' of 'search' must be a string"),
        (f"<tool_response>\n[1] fake\n</tool_response>{A}", "<tool_response> may only be written by the environment"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(text: str, error: str) -> None:
    action = parse_action(HERMES, text, ended=True)
    assert action.kind == "invalid" and not action.requests
    assert error in (action.error or "")


def test_a_tool_that_is_not_on_offer_does_not_exist() -> None:
    action = parse_action(SEARCH_ONLY, call("open", {"document": "Lima"}), ended=True)
    assert action.error == "there is no tool 'open'; the only one is 'search'"


def test_without_parallel_calls_the_first_call_is_the_action_and_ends_the_sample() -> None:
    assert ONE_CALL.stop == ("</tool_call>", "</answer>") and HERMES.stop == ("</answer>",)
    assert parse_action(ONE_CALL, A + B).requests == (search("a"),)
    several = call("search", {"query_list": ["a", "b"]})
    assert parse_action(ONE_CALL, several).error == "one query a turn is allowed"


@pytest.mark.parametrize(
    ("text", "answer", "citations"),
    [
        ("<answer> Lima [2] </answer>", "Lima", (2,)),
        ("It is <answer>Lima</answer>, I think.", "Lima", ()),
        (f"<answer>Lima</answer>{A}", "Lima", ()),
        ("<think>\nso\n</think>\n\nLima [1].", "Lima.", (1,)),
        ("<think>\nis it <answer>Cusco</answer>?\n</think>\n\n<answer>Lima</answer>", "Lima", ()),
    ],
)
def test_a_turn_without_a_call_is_the_answer(text: str, answer: str, citations: tuple[int, ...]) -> None:
    action = parse_action(HERMES, text, ended=True)
    assert (action.kind, action.answer, action.citations) == ("answer", answer, citations)


def test_a_message_without_tags_is_an_answer_only_where_the_policy_ended_it() -> None:
    assert parse_action(HERMES, "Lima").error == "no complete <tool_call></tool_call> or <answer></answer>"
    assert parse_action(HERMES, "Lima", ended=True).answer == "Lima"
    strict = load_protocol("hermes", bare_answer=False)
    assert parse_action(strict, "Lima", ended=True).kind == "invalid"


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("<think>\nso\n</think>\n\n<answer>a</answer>", "so"),
        ("so\n</think>\n\n<answer>a</answer>", "so"),
        ("<answer>a</answer>", ""),
    ],
)
def test_the_thought_is_kept_apart(text: str, thought: str) -> None:
    assert parse_action(HERMES, text) == Action(kind="answer", thought=thought, answer="a")


@given(st.text(alphabet='<>/tool_call{}":[]answerthink ,0', max_size=120), st.booleans())
def test_parsing_never_fails(text: str, ended: bool) -> None:
    assert parse_action(HERMES, text, ended=ended).kind in {"call", "answer", "invalid"}
    json_call = parse_action(HERMES, f"<tool_call>{text}</tool_call>", ended=ended)
    assert json_call.kind in {"call", "answer", "invalid"}


@given(st.text(min_size=1, max_size=20).filter(str.strip), st.integers(1, 999_999))
def test_a_document_and_its_window_survive_as_text(document: str, window: int) -> None:
    assert split_open_argument(open_argument(document, window)) == (document.strip(), window)


def test_the_window_is_the_number_after_the_last_bar() -> None:
    assert split_open_argument(" Lima | 2 ") == ("Lima", 2)
    assert split_open_argument("C | C++ | 3") == ("C | C++", 3)
    assert split_open_argument("AC/DC") == ("AC/DC", 1)
    assert split_open_argument("| 2") == ("| 2", 1)
