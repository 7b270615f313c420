"""docs/mcp.md is true: its settings and defaults, the example of an answer, and the arguments of both builders."""

import re
from pathlib import Path

import pytest
import yaml

from retrieval.passage import Hit, Passage
from retrieval.server.mcp_server import SETTINGS
from retrieval.server.mcp_tools import SearchTools
from retrieval.server.quotation import hits_as_text
from retrieval.server.refusal import Refusal
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mcp.md").read_text(encoding="utf-8")


def test_every_setting_is_named_with_its_default() -> None:
    [paragraph] = [text for text in PAGE.split("\n\n") if "`--set NAME=VALUE` changes" in text]
    named = dict(re.findall(r"`(\w+)`\s+\((\d+(?: MiB)?)", paragraph))
    told = {name: int(value.removesuffix(" MiB")) << (20 if "MiB" in value else 0) for name, value in named.items()}
    defaults = {name: getattr(ServerSettings(), name) for name in SETTINGS}
    for elsewhere in ("host", "port", "token", "retry_after_s"):
        del defaults[elsewhere]
    assert told == defaults


def test_the_answer_reads_as_shown() -> None:
    text = "The ceiling was painted by Michelangelo\nbetween 1508 and 1512."
    passages = [
        Passage(id="p12", title="Sistine Chapel ceiling", text=text),
        Passage(id="p40", title="Michelangelo", text="..."),
    ]
    hits = [
        Hit(passage=passage, score=score, rank=rank)
        for rank, (passage, score) in enumerate(zip(passages, (11.3, 9.81), strict=True), start=1)
    ]
    assert hits_as_text("who painted the ceiling", hits) in PAGE


async def test_the_refusals_read_as_shown() -> None:
    tools = SearchTools(FakeRetriever(2000), ServerSettings())
    flat = " ".join(PAGE.split())
    for name, arguments in (("search", {"query": "owl", "k": 0}), ("get", {"id": "p9999"})):
        with pytest.raises(Refusal) as refused:
            await tools.call(name, arguments)
        assert refused.value.message.replace("p9999", "p999") in flat


async def test_a_failing_and_an_overloaded_retriever_are_told_apart_from_bad_words() -> None:
    tools = SearchTools(FakeRetriever(), ServerSettings(timeout_s=0.2))
    for query, said in (("crash", "try again later"), ("sleep:1", "try again later"), ("refuse", "not this one")):
        with pytest.raises(Refusal, match=said) as refused:
            await tools.call("search", {"query": query})
        assert (refused.value.status == 503) == (query != "refuse")
    assert (await tools.call("search", {"query": "owl", "k": 2})).structured["hits"][1]["rank"] == 2


@pytest.mark.slow
def test_the_serve_config_is_taken() -> None:
    from retrieval.server.ray_serve import RayServeArgs

    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    [application] = yaml.safe_load(block)["applications"]
    args = RayServeArgs.model_validate(application["args"])
    assert args.settings.window_s == 0.002 and args.num_replicas == 4 and len(args.index) == 2
    module, _, name = application["import_path"].partition(":")
    assert (module, name) == ("retrieval.server.ray_serve", "app")
