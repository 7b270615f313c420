"""What every backend refuses alike: a search that cannot be carried out."""

from collections.abc import Mapping, Sequence
from numbers import Integral


class RequestError(ValueError):
    """The fault of who asks: the same search fails everywhere. Any other ValueError of a search is the searcher's."""


def check_request(queries: Sequence[str], k: int, num_passages: int) -> None:
    """Refuse queries and `k` that no backend can answer.

    Raises:
        RequestError: `queries` is a single string, one of them is empty, or `k` is no whole number from 1 to
            `num_passages`.
    """
    check_queries(queries)
    check_depth(k)
    if k > num_passages:
        raise RequestError(f"k is {k}, but the corpus has {num_passages} passages; ask for at most {num_passages} hits")


def check_queries(queries: Sequence[str]) -> None:
    """Refuse what is no list of questions.

    Raises:
        RequestError: `queries` is a single string, or cannot be gone through twice, or one of them is empty.
    """
    if isinstance(queries, str):
        raise RequestError(f"queries is the single string {queries!r}; give a list of strings, [{queries!r}]")
    if isinstance(queries, Mapping) or not (hasattr(queries, "__len__") and hasattr(queries, "__getitem__")):
        raise RequestError(f"queries is a {type(queries).__name__}; give a list of strings")
    for i, query in enumerate(queries):
        if not isinstance(query, str):
            raise RequestError(f"query {i} is a {type(query).__name__}; every query must be a string")
        if not query or query.isspace():
            raise RequestError(f"query {i} is empty; a query needs at least one word")


def check_depth(k: int) -> None:
    """Refuse what is no number of hits.

    Raises:
        RequestError: `k` is no whole number of at least 1.
    """
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise RequestError(f"k is {k!r}; it must be a whole number of hits")
    if k < 1:
        raise RequestError(f"k is {k}; ask for at least 1 hit")
