"""docs/serving.md is true: examples are answered as it shows, and every setting, status and metric is there."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from retrieval.client import HttpRetriever
from retrieval.client.async_retriever import AsyncHttpRetriever
from retrieval.client.connection import BAD_REQUEST_STATUS, RETRYABLE_STATUS
from retrieval.index import build_index, open_index
from retrieval.server import bodies
from retrieval.server.app import create_app
from retrieval.server.description import access_operation, retrieve_operation
from retrieval.server.dialects import DIALECTS, parse_retrieve
from retrieval.server.documents import KEYS
from retrieval.server.settings import ServerSettings
from retrieval.spec import UrlSpec
from scripts.assignments import nested, parse_assignments
from tests.retrieval.pages import blocks, coded, commands, default_of, exchanges, page, section, table
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running

PAGE = page("serving")
FLAT = re.sub(r"\s+", " ", PAGE)
EXCHANGES = exchanges(PAGE)


@pytest.fixture(scope="module")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index over the corpus of the page."""
    folder = tmp_path_factory.mktemp("page")
    (corpus,) = blocks(PAGE, "jsonl")
    (folder / "corpus.jsonl").write_text(corpus, encoding="utf-8")
    build_index(folder / "corpus.jsonl", folder / "index")
    return folder / "index"


@pytest.fixture(scope="module")
def client(index_folder: Path) -> Iterator[TestClient]:
    with open_index(index_folder) as index, TestClient(create_app(index)) as client:
        yield client


def approximately(value: Any) -> Any:
    """The page's answer, its scores good to three digits."""
    if isinstance(value, dict):
        return {key: pytest.approx(v, abs=5e-4) if key == "score" else approximately(v) for key, v in value.items()}
    return [approximately(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("path", "body", "status", "answer"), EXCHANGES)
def test_an_example_is_answered_as_the_page_shows(
    client: TestClient, path: str, body: Any, status: int, answer: Any
) -> None:
    given = client.post(path, json=body)
    assert (given.status_code, given.json()) == (status, approximately(answer))


def test_every_dialect_stands_in_the_table_and_has_an_example() -> None:
    rows = table(PAGE, "who", "asks", "dialect")
    assert {name for row in rows for name in coded(row[2])} == set(DIALECTS)
    asked = [body for path, body, status, _ in EXCHANGES if path == "/retrieve" and status == 200]
    assert {parse_retrieve(body, ServerSettings(), 3).dialect.name for body in asked} == set(DIALECTS)
    for who in ("Search-R1", "verl", "ASearcher", "SkyRL", "rLLM"):
        assert who in [row[0] for row in rows]
    for row in rows:
        [name] = coded(row[2])
        assert DIALECTS[name].scores_by_default == ("scores by default" in row[1])
        assert DIALECTS[name].answer_key in coded(row[3]) or "the same" in row[3] or "as Search-R1" in row[3]


def test_every_key_of_access_is_named() -> None:
    first = section(PAGE, "POST /access").strip().split("\n\n")[0]
    assert set(KEYS) <= set(coded(first)) and "limit" in coded(first)


def test_every_setting_of_the_server_is_there_with_its_default() -> None:
    said: dict[str, Any] = {}
    for row in table(section(PAGE, "Limits"), "setting", "default"):
        names = coded(row[0])
        said |= dict(zip(names, map(default_of, row[1].split(", ", len(names) - 1)), strict=True))
    assert said == {name: field.default for name, field in ServerSettings.model_fields.items()}


def test_what_commands_set_are_settings_of_the_server() -> None:
    for words in commands(PAGE):
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        ServerSettings.model_validate(nested(parse_assignments(given, option="--set")))


def test_every_status_that_is_documented_for_clients_is_in_the_table() -> None:
    named = {int(status) for row in table(PAGE, "status", "when") for status in row[0].split(", ")}
    described = {
        int(status)
        for operation in (retrieve_operation(ServerSettings(), 3), access_operation(ServerSettings()))
        for status in operation["responses"]
    }
    assert described - {200} <= named
    assert named >= BAD_REQUEST_STATUS


def test_the_health_and_the_metrics_have_what_the_page_names(client: TestClient) -> None:
    text = section(PAGE, "GET /health, /metrics")
    health = client.get("/health").json()
    assert set(health) <= set(coded(text.split("\n\n| metric", 1)[0])), "a key is missing on the page"
    named = {name.split("{", 1)[0] for row in table(text, "metric", "type") for name in coded(row[0])}
    page_of_metrics = client.get("/metrics").text
    there = dict(re.findall(r"^# TYPE (\w+) (\w+)", page_of_metrics, re.MULTILINE))
    assert named == {name for name in there if not name.endswith("_created")}
    for row in table(text, "metric", "type"):
        assert {there[name.split("{", 1)[0]] for name in coded(row[0])} == {row[1]}


def test_every_option_of_the_client_is_there_with_its_default() -> None:
    said: dict[str, Any] = {}
    for row in table(section(PAGE, "The client"), "option", "default"):
        names = coded(row[0])
        said |= dict(zip(names, map(default_of, row[1].split(", ")), strict=True))
    parameters = {**inspect.signature(AsyncHttpRetriever).parameters, **inspect.signature(HttpRetriever).parameters}
    left_out = {"url", "cache", "options"}
    assert said == {name: found.default for name, found in parameters.items() if name not in left_out}
    assert set(UrlSpec.model_fields) - {"url"} <= set(said), "a spec can set what the page does not name"


def test_the_statuses_that_are_retried_are_the_clients() -> None:
    [listed] = re.findall(r"garbled answers, and ([\d, ]+);", FLAT)
    assert {int(status) for status in listed.split(", ")} == set(RETRYABLE_STATUS)
    [refused] = re.findall(r"\*\*Not retried\*\*: ([\d, and]+), which are a `ValueError`", FLAT)
    assert {int(status) for status in re.findall(r"\d+", refused)} == set(BAD_REQUEST_STATUS)


def test_searches_that_hang_leave_documents_and_say_what_to_set() -> None:
    assert "while searches hang `/access` answers" in FLAT
    settings = ServerSettings(timeout_s=0.2, max_hanging=1)
    with TestClient(create_app(FakeRetriever(), settings)) as hung:
        late = hung.post("/retrieve", json={"queries": ["sleep:1.5"], "topk": 1})
        assert hung.post("/retrieve", json={"queries": ["a"], "topk": 1}).status_code == 503
        assert hung.post("/access", json={"id": "p1"}).status_code == 200
    assert late.status_code == 503
    named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", late.json()["error"]))
    assert named and named <= set(ServerSettings.model_fields) and "retries" not in late.json()["error"]


def test_a_body_beyond_all_is_drained_as_the_page_says() -> None:
    assert f"for {bodies._DRAIN_S:g} s or {bodies._DRAIN_BYTES >> 20} MiB at most" in FLAT


def test_the_clients_example_runs(server: Running) -> None:
    (example,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(compile(example, "serving.md", "exec"), names)
    query = "who painted the ceiling"
    expected = [hit.passage.title for hit in FakeRetriever().expected(query, 1)]
    assert names["ask"](server.url) == (expected, 0.0)
    assert httpx.get(server.url + "/health", trust_env=False).status_code == 200, "it leaves the server as it was"
