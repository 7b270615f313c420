"""A retriever that a run may begin with: opened, tried once, and given its passages where they lie elsewhere.

A server and an index answer searches alike; what they do not share is the corpus, which a server keeps to itself. What
goes through the passages (a reward that fits statistics, random passages as a control) gets them from a second folder
on this machine, `corpus_index`, and everything else from the retriever.

Episodes search either through a `MicroBatcher`, so deadlines, retries and outages are the same. Over a server it makes
one request of the queries that wait.

>>> with ready_retriever("http://127.0.0.1:8000", top_k=3, example="who?") as retriever:        # doctest: +SKIP
...     retriever.search(["who painted the ceiling"], k=3)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from retrieval.manifest import IndexCorruptError, file_checksum, read_manifest
from retrieval.opening import open_retriever
from retrieval.passage import Hit, Passage
from retrieval.passage_store import PassageStore, passage_files
from retrieval.request import RequestError
from retrieval.retriever import OpenRetriever, RetrievalError
from retrieval.spec import HybridSpec, RerankSpec, RetrieverSpec, UrlSpec, retriever_spec
from retrieval.title import MAX_PASSAGES_PER_TITLE


class RetrieverWithCorpus:
    """`searched` answers searches, the passages of an index folder on this machine are the corpus. Owns both."""

    def __init__(self, searched: OpenRetriever, corpus: PassageStore) -> None:
        self.searched = searched
        self.corpus = corpus

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        return self.searched.num_passages

    @property
    def prefix_depth(self) -> int | None:
        """Of the retriever that is searched."""
        return getattr(self.searched, "prefix_depth", None)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Of the retriever that is searched: the folder only holds the same passages."""
        return self.searched.identity

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """As the retriever's `search`."""
        return self.searched.search(queries, k)

    def get(self, passage_id: str) -> Passage:
        """The passage with this id, read from the folder.

        Raises:
            KeyError: no such passage.
        """
        passage = self.corpus.find(passage_id)
        if passage is None:
            raise KeyError(passage_id)
        return passage

    def __contains__(self, passage_id: object) -> bool:
        """True if the corpus has a passage with this id."""
        return isinstance(passage_id, str) and self.corpus.find(passage_id) is not None

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has."""
        return {passage_id for passage_id in passage_ids if passage_id in self}

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title, read from the folder; see `Index.titled`."""
        return self.corpus.titled(title, limit=limit)

    def close(self) -> None:
        """Close the retriever and the folder."""
        self.searched.close()
        self.corpus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ready_retriever(
    spec: Any,
    *,
    top_k: int,
    example: str | None = None,
    max_query_chars: int | None = None,
    corpus_index: str | Path | None = None,
) -> OpenRetriever:
    """Open what `spec` names (see `retrieval.spec`) and make sure that it can be searched `top_k` passages deep.

    `example` is a query that is searched once, so that a server that is not there, a model that does not load and a
    server's limit are told now. `max_query_chars` is the longest query that a run may ask: a server must take one of
    that length, so that no query ends the run later. `corpus_index` is an index folder over the same corpus; only its
    passages are read.

    Raises:
        ValueError: `top_k` is more than the corpus or a server gives, `max_query_chars` more than a server takes, the
            retriever does not answer, or `corpus_index` is over another corpus; and as `open_retriever`.
        FileNotFoundError: there is no index at a path.
    """
    checked = retriever_spec(spec)
    with ExitStack() as opened, outage_told(checked):
        retriever = opened.enter_context(open_retriever(checked))
        num_passages = retriever.num_passages
        if top_k > num_passages:
            raise ValueError(f"top_k is {top_k}, but the index {checked} holds only {num_passages} passages; lower it")
        if example is not None:
            retriever.search([example], top_k)
        if max_query_chars is not None and _has_server(checked):
            try:
                retriever.search(["x" * max_query_chars], 1)
            except RequestError as error:
                raise ValueError(
                    f"limits.max_query_chars is {max_query_chars}, and the retriever {checked} refuses a query of that "
                    f"many characters ({error}); lower it (--max-query-chars of `waymark evaluate`), or raise the "
                    "server's own limit"
                ) from error
        if corpus_index is not None:
            retriever = RetrieverWithCorpus(retriever, _passages_of(Path(corpus_index), retriever, str(checked)))
        opened.pop_all()
    return retriever


@contextmanager
def ready_retrievers(specs: Sequence[Any]) -> Iterator[dict[str, OpenRetriever]]:
    """Open several retrievers by the text of their specs, in their order, and close them when the block ends.

    Raises:
        ValueError: a spec given twice, or a server that does not answer; and as `open_retriever`.
    """
    names = [str(spec) for spec in specs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(repeated)} is given twice; name each retriever once")
    checked = [retriever_spec(spec) for spec in specs]
    with ExitStack() as opened:
        yield {name: opened.enter_context(answering_retriever(spec)) for name, spec in zip(names, checked, strict=True)}


def answering_retriever(spec: Any, opener: Callable[[Any], Any] = open_retriever) -> Any:
    """Open what `spec` names (with `opener`), and ask a server that it needs once whether it is there.

    Raises:
        ValueError: a server does not answer; and as `open_retriever`.
    """
    with ExitStack() as opened, outage_told(spec):
        retriever = opened.enter_context(opener(spec))
        _ = retriever.num_passages
        opened.pop_all()
    return retriever


@contextmanager
def outage_told(spec: Any) -> Iterator[None]:
    """Turn a server's outage inside the block into bad input: what cannot be searched, why, and what to do.

    Raises:
        ValueError: in place of a RetrievalError.
    """
    try:
        yield
    except RetrievalError as error:
        with suppress(ValueError):
            spec = retriever_spec(spec)
        raise ValueError(
            f"the retriever {spec} cannot be searched: {error}. Start its server (`waymark serve-index INDEX`), "
            "or name an index folder"
        ) from error


def _has_server(spec: RetrieverSpec) -> bool:
    """True if searches go over HTTP, all or some."""
    match spec:
        case HybridSpec():
            return any(map(_has_server, spec.hybrid))
        case RerankSpec():
            return _has_server(spec.rerank)
        case _:
            return isinstance(spec, UrlSpec)


def _passages_of(folder: Path, retriever: OpenRetriever, name: str) -> PassageStore:
    manifest = read_manifest(folder)
    wanted = retriever.identity.get("corpus_hash")
    if (wanted or manifest.corpus_hash, retriever.num_passages) != (manifest.corpus_hash, manifest.num_passages):
        raise ValueError(
            f"corpus_index {folder} holds another corpus ({manifest.num_passages} passages, "
            f"{manifest.corpus_hash[:12]}...) than {name} ({retriever.num_passages}, {str(wanted)[:12]}...); name an "
            "index that was built from the same corpus file"
        )
    for path in passage_files(folder):
        if not path.is_file() or file_checksum(path) != manifest.files.get(path.name):
            raise IndexCorruptError(f"{path} is missing or differs from its checksum; build the index again")
    return PassageStore(folder)
