import re
from pathlib import Path

import pytest
import yaml

from agent.protocol import AgentProtocol, parse_action
from agent.protocols.registry import PROTOCOLS, load_protocol

PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()


def test_the_protocol_on_the_page_works() -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, AgentProtocol] = {}
    exec(code, names)  # the page's own example
    assert parse_action(names["RESEARCH"], "so \\boxed{ 42 }").answer == "42"
    assert parse_action(names["RESEARCH"], "<result>x</result>").kind == "invalid"


def test_the_quoted_titles_on_the_page_work() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    chosen = yaml.safe_load(block)["protocol"]
    protocol = load_protocol(chosen["name"], **chosen["overrides"])
    assert protocol.passage.format(number=1, title="Lima", text="t") == 'Doc 1(Title: "Lima") t\n'


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_page_names_every_protocol(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_calls_on_the_page_are_calls() -> None:
    hermes = load_protocol("hermes_open")
    found = re.findall(r'<tool_call>(\{.*?\})</tool_call>|`(\{"name".*?\}\})`', PAGE)
    texts = [first or second for first, second in found]
    assert len(texts) == 2
    for text in texts:
        assert parse_action(hermes, f"<tool_call>{text}</tool_call>").kind == "call"


def test_the_words_of_the_environment_on_the_page_are_its_words() -> None:
    waymark = load_protocol("waymark_open")
    for words in (
        waymark.no_document.format(document="Lima"),
        waymark.no_window.format(window=7, windows=5, document="Lima"),
        waymark.window.format(window=2, windows=5),
        load_protocol("hermes").repeated.format(number=1, title="Lima"),
    ):
        assert words.strip() in PAGE
