"""Open what a config names as a retriever (`spec` has the forms): an index, a server, or a combination of them.

Everything is checked before anything is opened; what is open is closed again where a later part fails.
"""

from contextlib import ExitStack
from typing import Any

from retrieval.hybrid import HybridRetriever
from retrieval.index import open_index
from retrieval.rerank import CrossEncoderScorer, RerankingRetriever
from retrieval.retriever import OpenRetriever
from retrieval.spec import HybridSpec, IndexSpec, RerankSpec, UrlSpec, retriever_spec


def open_retriever(spec: Any) -> OpenRetriever:
    """Open the retriever that `spec` names: a path, a URL, a mapping, or a `RetrieverSpec`. A context manager.

    >>> with open_retriever({"hybrid": ["indexes/bm25", "indexes/dense"]}) as hybrid:          # doctest: +SKIP
    ...     hybrid.search(["who painted the ceiling"], k=3)

    Raises:
        ValueError: a spec that is not understood, parts over different corpora, or a package that is not installed.
        FileNotFoundError: there is no index at a path.
        IndexCorruptError: an index that is not whole.
    """
    checked = retriever_spec(spec)
    with ExitStack() as opened:
        retriever = _open(checked, opened)
        opened.pop_all()
    return retriever


def _open(spec: IndexSpec | UrlSpec | HybridSpec | RerankSpec, opened: ExitStack) -> OpenRetriever:
    """Open a spec and its parts, each one's `close` on the stack."""
    retriever: OpenRetriever
    match spec:
        case IndexSpec():
            retriever = open_index(spec.index, verify=spec.verify, settings=spec.settings)
        case UrlSpec():
            retriever = _open_url(spec)
        case HybridSpec():
            parts = [_open(part, opened) for part in spec.hybrid]
            return HybridRetriever(parts, method=spec.method, weights=spec.weights, rrf_k=spec.rrf_k, depth=spec.depth)
        case RerankSpec():
            settings = spec.model_dump(include=_SCORER_SETTINGS)
            return RerankingRetriever(_open(spec.rerank, opened), CrossEncoderScorer(**settings), spec.depth)
    opened.callback(retriever.close)
    return retriever


_SCORER_SETTINGS = {"model", "batch_size", "max_length", "device", "revision", "trust_remote_code"}


def _open_url(spec: UrlSpec) -> OpenRetriever:
    try:
        from retrieval.client import HttpRetriever
    except ImportError as error:
        raise ValueError(f"searching {spec.url} needs `pip install 'waymark[serve]'` ({error})") from error
    given: dict[str, Any] = spec.model_dump(exclude={"url"})
    if spec.token is not None:
        given["token"] = spec.token.get_secret_value()
    return HttpRetriever(spec.url, **{name: value for name, value in given.items() if value is not None})
