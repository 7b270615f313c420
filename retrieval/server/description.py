"""The OpenAPI description of the server's bodies and answers, with its limits in numbers."""

from typing import Any

from retrieval.server.dialects import DEPTH_KEYS, DIALECTS
from retrieval.server.settings import ServerSettings

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_ERROR: Schema = {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]}
_DOCUMENT: Schema = {
    "type": "object",
    "properties": {"id": _TEXT, "title": _TEXT, "text": _TEXT, "contents": _TEXT, "url": _TEXT},
    "required": ["id"],
}
_HIT: Schema = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "document": _DOCUMENT,
        "contents": _TEXT,
        "content": _TEXT,
        "score": {"type": "number"},
    },
}
_HITS: Schema = {"type": "array", "items": _HIT}

_REASONS = {
    400: "the body is not JSON",
    401: "the bearer token is missing or wrong",
    404: "no such document",
    408: "the body did not arrive in time",
    413: "the body is too large",
    422: "the body is JSON, but says something that cannot be done",
    503: "too much waits, or the search failed or took too long; Retry-After says when to come back",
}


def retrieve_operation(settings: ServerSettings, num_passages: int) -> Schema:
    """`POST /retrieve`, for `openapi_extra`."""
    words = _words(settings)
    depth = {"type": ["integer", "null"], "minimum": 1, "maximum": min(settings.max_k, num_passages)}
    common: Schema = {
        **dict.fromkeys(DEPTH_KEYS, depth),
        "return_scores": {"type": ["boolean", "null"]},
    }
    queries = {"type": "array", "items": words, "maxItems": settings.max_queries}
    # null is as good as absent
    one_depth = [{"required": [key], "properties": {key: {"type": "integer"}}} for key in DEPTH_KEYS]
    many: Schema = {
        "type": "object",
        "properties": {
            **common,
            "queries": queries,
            "query": {"type": "null"},
            "dialect": {"enum": [None, *(name for name, dialect in DIALECTS.items() if not dialect.one_list)]},
        },
        "required": ["queries"],
        "not": {"anyOf": _pairs(one_depth)},
    }
    one: Schema = {
        "type": "object",
        "properties": {**common, "query": words, "queries": {"type": "null"}, "dialect": {"enum": [None, *DIALECTS]}},
        "required": ["query"],
        "not": {"anyOf": _pairs(one_depth)},
    }
    examples = {
        "search_r1": {"value": {"queries": ["who painted the ceiling"], "topk": 3, "return_scores": True}},
        "skyrl": {"value": {"query": "who painted the ceiling", "topk": 3}},
        "rllm": {"value": {"query": "who painted the ceiling", "top_k": 3}},
    }
    answer: Schema = {
        "type": "object",
        "properties": {"result": {"type": "array", "items": _HITS}, "results": _HITS},
        "minProperties": 1,
    }
    return _operation({"anyOf": [many, one]}, examples, answer, (400, 401, 408, 413, 422, 503))


def access_operation(settings: ServerSettings) -> Schema:
    """`POST /access`, for `openapi_extra`."""
    words = _words(settings)
    keys = ("id", "title", "url")
    everything = [*keys, *(f"{key}s" for key in keys)]
    limit = {"type": ["integer", "null"], "minimum": 1, "maximum": settings.max_k}
    forms = []
    for key in everything:
        value = {"type": "array", "items": words, "maxItems": settings.max_queries} if key.endswith("s") else words
        others = {other: {"type": "null"} for other in everything if other != key}
        forms.append({"type": "object", "properties": {**others, "limit": limit, key: value}, "required": [key]})
    examples = {
        "by id": {"value": {"id": "p1"}},
        "by title": {"value": {"title": "Ada Lovelace", "limit": 5}},
        "asearcher": {"value": {"urls": ["https://en.wikipedia.org/wiki/Ada_Lovelace"]}},
    }
    document_or_null = {"anyOf": [_DOCUMENT, {"type": "null"}]}
    row = {"anyOf": [*document_or_null["anyOf"], {"type": "array", "items": _DOCUMENT}]}
    result = {"anyOf": [_DOCUMENT, {"type": "array", "items": row}]}
    answer: Schema = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    return _operation({"anyOf": forms}, examples, answer, (400, 401, 404, 408, 413, 422, 503))


def health_operation() -> Schema:
    """`GET /health` and `/healthz`."""
    properties: Schema = {
        "status": {"const": "ok"},
        "index_hash": {"type": ["string", "null"]},
        "corpus_hash": {"type": ["string", "null"]},
        "num_passages": {"type": "integer"},
        "k_limit": {"type": "integer"},
        "limits": {"type": "object"},
        "identity": {"type": "object"},
    }
    answer: Schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"responses": {"200": _json("what is served, and its limits", answer)}}


def metrics_operation() -> Schema:
    """`GET /metrics`."""
    page = {"description": "Prometheus text format", "content": {"text/plain": {"schema": _TEXT}}}
    return {"responses": {"200": page, "401": _json(_REASONS[401], _ERROR)}}


def _words(settings: ServerSettings) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": settings.max_query_chars, "pattern": r"[^\s\x1c-\x1f\x85]"}


def _pairs(choices: list[Schema]) -> list[Schema]:
    """Any two of the choices at once."""
    return [{"allOf": [one, two]} for i, one in enumerate(choices) for two in choices[i + 1 :]]


def _operation(body: Schema, examples: Schema, answer: Schema, refusals: tuple[int, ...]) -> Schema:
    responses = {str(status): _json(_REASONS[status], _ERROR) for status in refusals}
    responses["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "examples": examples}}},
        "responses": {"200": _json("in the shape of the dialect that asked", answer), **responses},
    }


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
