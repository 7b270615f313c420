"""How the stacks of the field ask for passages, and the shape in which each expects the answer.

| dialect     | asks                                  | is answered                                                |
| ----------- | ------------------------------------- | ---------------------------------------------------------- |
| `search_r1` | `queries`, `topk`, `return_scores`    | `{"result": [[{"document": {id, contents}, "score"}]]}`    |
|             | ... without scores (its default)      | `{"result": [[{id, contents}]]}`                           |
| `skyrl`     | `query` (a string), `topk` or nothing | as `search_r1`, a list of one list                         |
| `rllm`      | `query`, `top_k` or `k`               | `{"results": [{id, content, score, document}]}`            |
| `waymark`   | `"dialect": "waymark"`                | `{"result": [[{"document": {id, title, text}, "score"}]]}` |

`topk`, `top_k` and `k` mean the same everywhere. `contents` is the title in double quotes, a line break and the text,
or the text alone where there is no title: what the corpus readers read. `"dialect"` names one outright. Keys that no
dialect knows are passed over, as these servers do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.passage import Hit, Passage
from retrieval.server.refusal import bad_request
from retrieval.server.settings import ServerSettings

DEPTH_KEYS = ("k", "top_k", "topk")


def contents_of(passage: Passage) -> str:
    """Title and text in the one string of Search-R1 and pyserini."""
    return f'"{passage.title}"\n{passage.text}' if passage.title else passage.text


Document = Callable[[Passage], dict[str, Any]]


def _contents(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "contents": contents_of(passage)}


def _contents_with_url(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "contents": contents_of(passage), "url": passage.id}


def _fields(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "title": passage.title, "text": passage.text}


def _nested(hits: Sequence[Hit], scores: bool, document: Document) -> list[dict[str, Any]]:
    if scores:
        return [{"document": document(hit.passage), "score": hit.score} for hit in hits]
    return [document(hit.passage) for hit in hits]


def _flat(hits: Sequence[Hit], scores: bool, document: Document) -> list[dict[str, Any]]:
    """rLLM's tool has read `content` and, later, `document.contents`: both are there."""
    rows = []
    for hit in hits:
        shown = document(hit.passage)
        row = {"id": hit.passage.id, "content": shown["contents"], "document": shown}
        rows.append({**row, "score": hit.score} if scores else row)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of asking and answering."""

    name: str
    scores_by_default: bool
    answer_key: str
    one_list: bool
    """True if the answer is the list of a single query, not a list of lists."""
    rows: Callable[[Sequence[Hit], bool, Document], list[dict[str, Any]]]
    document: Document


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="search_r1",
            scores_by_default=False,
            answer_key="result",
            one_list=False,
            rows=_nested,
            document=_contents,
        ),
        Dialect(
            name="skyrl", scores_by_default=False, answer_key="result", one_list=False, rows=_nested, document=_contents
        ),
        Dialect(
            name="rllm", scores_by_default=True, answer_key="results", one_list=True, rows=_flat, document=_contents
        ),
        Dialect(
            name="waymark", scores_by_default=True, answer_key="result", one_list=False, rows=_nested, document=_fields
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveRequest:
    """A checked request for passages."""

    queries: list[str]
    k: int
    scores: bool
    dialect: Dialect


def parse_retrieve(body: Any, settings: ServerSettings, num_passages: int) -> RetrieveRequest:
    """Check a decoded body against every limit.

    Raises:
        Refusal: 422, with what was given, what is allowed and how to put it right.
    """
    if not isinstance(body, dict):
        raise bad_request(
            f'the body is a JSON {json_type(body)}; send an object such as {{"queries": ["..."], "topk": 3}}'
        )
    dialect = _dialect_of(body)
    queries = _queries_of(body)
    if dialect.one_list and len(queries) != 1:
        raise bad_request(
            f"dialect {dialect.name} answers one query, and there are {len(queries)}; send `query`, or another dialect"
        )
    check_texts(queries, "query", settings, key="queries" if body.get("query") is None else "query")
    k = _depth_of(body, settings, num_passages)
    if len(queries) * k > settings.max_hits:
        raise bad_request(
            f"{len(queries)} queries with {k} hits each are {len(queries) * k} hits; ask for at most "
            f"{settings.max_hits} in one request"
        )
    scores = body.get("return_scores")
    if scores is not None and not isinstance(scores, bool):
        raise bad_request(f"return_scores is {shown(scores)}; it must be true or false")
    return RetrieveRequest(
        queries=queries, k=k, scores=dialect.scores_by_default if scores is None else scores, dialect=dialect
    )


def answer_rows(request: RetrieveRequest, hits: Sequence[Hit], *, urls: bool) -> list[dict[str, Any]]:
    """The rows of one query in its dialect; `urls` adds `url` to the documents that have contents."""
    document = request.dialect.document
    return request.dialect.rows(
        hits, request.scores, _contents_with_url if urls and document is _contents else document
    )


def check_texts(values: Sequence[Any], what: str, settings: ServerSettings, *, key: str) -> None:
    """Refuse texts that are none, blank or too long, and too many of them. `key` is the one that was sent: `what` for a
    single text, otherwise its plural.

    Raises:
        Refusal: 422.
    """
    if len(values) > settings.max_queries:
        raise bad_request(f"{key} has {len(values)} entries; send at most {settings.max_queries} in one request")
    for i, text in enumerate(values):
        one = what if key == what else f"{what} {i}"
        if not isinstance(text, str):
            raise bad_request(f"{one} is {shown(text)}; every {what} must be a string")
        if len(text) > settings.max_query_chars:
            raise bad_request(f"{one} has {len(text)} characters; at most {settings.max_query_chars} are allowed")
        if not text or text.isspace():
            raise bad_request(f"{one} is empty; a {what} needs at least one word")


def json_type(value: Any) -> str:
    """The name that JSON has for a value's type."""
    names: Mapping[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def shown(value: Any) -> str:
    """A value in a message: small ones as they are, others by their type."""
    return repr(value) if isinstance(value, bool | int | float) else f"a JSON {json_type(value)}"


def _dialect_of(body: Mapping[str, Any]) -> Dialect:
    name = body.get("dialect")
    if name is not None:
        if not isinstance(name, str) or name not in DIALECTS:
            given = repr(name[:50]) if isinstance(name, str) else shown(name)
            raise bad_request(f"dialect is {given}; choose one of {', '.join(DIALECTS)}, or leave it out")
        return DIALECTS[name]
    if body.get("query") is None:
        return DIALECTS["search_r1"]
    return DIALECTS["rllm" if body.get("top_k") is not None or body.get("k") is not None else "skyrl"]


def _queries_of(body: Mapping[str, Any]) -> list[Any]:
    query, queries = body.get("query"), body.get("queries")
    if query is not None and queries is not None:
        raise bad_request("both `query` and `queries` are given; send one of them")
    if queries is not None:
        if not isinstance(queries, list):
            raise bad_request(
                f"queries is {shown(queries)}; it must be an array of strings (or send `query`: one string)"
            )
        return queries
    if query is None:
        raise bad_request("there is no query; send `queries` (an array of strings) or `query` (one string)")
    if not isinstance(query, str):
        raise bad_request(f"query is {shown(query)}; it must be a string (or send `queries`: an array of them)")
    return [query]


def _depth_of(body: Mapping[str, Any], settings: ServerSettings, num_passages: int) -> int:
    given = {key: body[key] for key in DEPTH_KEYS if body.get(key) is not None}
    most = min(settings.max_k, num_passages)
    if not given:
        return min(settings.default_k, most)
    depths = set()
    for key, value in given.items():
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON has one kind of number: 3.0 is 3
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad_request(f"{key} is {shown(value)}; it must be a whole number of hits")
        if not 1 <= value <= most:
            why = f"the corpus has {num_passages} passages" if most == num_passages else "the server's limit"
            raise bad_request(f"{key} is {value}; ask for 1 to {most} hits ({why})")
        depths.add(value)
    if len(depths) > 1:
        named = ", ".join(f"{key} {value}" for key, value in given.items())
        raise bad_request(f"{named} contradict each other; send one of them")
    return depths.pop()
