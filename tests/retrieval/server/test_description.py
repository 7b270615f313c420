"""The OpenAPI description holds: schemathesis makes requests from it, good and bad, and checks what comes back."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from retrieval.server.app import create_app
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever

SETTINGS = ServerSettings(max_queries=8, max_query_chars=200, max_k=15)


def test_the_description_has_the_limits_in_numbers() -> None:
    described = create_app(FakeRetriever(), SETTINGS).openapi()
    assert set(described["paths"]) == {"/retrieve", "/access", "/health", "/healthz", "/metrics"}
    text = json.dumps(described)
    assert '"maximum": 15' in text and '"maxItems": 8' in text and '"maxLength": 200' in text


@pytest.mark.slow
def test_every_request_that_schemathesis_makes_is_answered_as_described() -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(FakeRetriever(), SETTINGS))
    good, bad = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    statuses: dict[str, list[int]] = {good.value: [], bad.value: []}
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (good, bad) if operation.method == "post" else (good,):
            ask_as_described(operation, mode, statuses[mode.value])
    assert statuses[good.value].count(200) > 80 and 422 not in statuses[good.value]
    assert statuses[bad.value].count(422) > 40, statuses[bad.value]


def ask_as_described(operation: Any, mode: schemathesis.GenerationMode, seen: list[int]) -> None:
    @settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call()
        seen.append(response.status_code)
        case.validate_response(response)

    ask()
