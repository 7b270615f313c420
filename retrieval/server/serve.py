"""`serve`: open what the specs name and answer for it until told to stop."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

from retrieval.manifest import read_manifest, verify_files
from retrieval.ready import answering_retriever
from retrieval.retriever import Retriever
from retrieval.server.pinned import index_hashes, index_specs
from retrieval.server.settings import ServerSettings
from retrieval.spec import HybridSpec, IndexSpec, RerankSpec, RetrieverSpec, UrlSpec, retriever_spec

OPENER = "retrieval.opening:open_retriever"

_LONGEST_KIND = 200


def serve(
    specs: Sequence[Any],
    settings: ServerSettings | None = None,
    *,
    announce: Callable[[str], None] = print,
    opener: str = OPENER,
) -> None:
    """Serve one retriever, or several as a hybrid by reciprocal rank fusion; call it on the main thread.

    Args:
        specs: what `open_retriever` takes; JSON-able where there are replicas.
        settings: of the server.
        announce: called with one line when requests are answered; the line ends in the URL.
        opener: `module:function` from a spec to a retriever, for replicas too.

    Raises:
        ValueError: a spec that cannot be opened, or an address that cannot be used.
        FileNotFoundError: there is no index at a path.
        KeyboardInterrupt: it was stopped by Ctrl-C, in order. On SIGTERM it returns.
    """
    missing = [name for name in ("fastapi", "uvicorn", "orjson", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ValueError(f"serving needs the packages {', '.join(missing)}: pip install 'waymark[serve]'")
    if not specs:
        raise ValueError("there is nothing to serve; name an index")
    settings = settings or ServerSettings()
    spec = specs[0] if len(specs) == 1 else {"hybrid": list(specs)}
    warn_if_open(settings)
    if settings.replicas > 1:
        _serve_replicas(spec, settings, announce, opener)
    else:
        _serve_here(spec, settings, announce, opener)


def _serve_here(spec: Any, settings: ServerSettings, announce: Callable[[str], None], opener: str) -> None:
    from retrieval.server.app import create_app
    from retrieval.server.process import ServingProcess, address_of, listening_socket

    with closing(listening_socket(settings)) as listener:  # before the index: a port that is taken is found out at once
        module, _, name = opener.partition(":")
        with answering_retriever(spec, getattr(import_module(module), name)) as retriever:
            line = f"{served_words(retriever)}, 1 replica, at {address_of(listener)}"
            app = create_app(retriever, settings)
            ServingProcess(app, settings, on_started=lambda: announce(line)).run_on(listener)


def _serve_replicas(spec: Any, settings: ServerSettings, announce: Callable[[str], None], opener: str) -> None:
    from retrieval.server.process import address_of, listening_socket
    from retrieval.server.replicas import ReplicaSet

    with closing(listening_socket(settings)) as listener:
        where = f"{settings.replicas} replicas, at {address_of(listener)}"
        hashes: dict[str, str] = {}
        if opener == OPENER:
            checked = retriever_spec(spec)
            hashes = index_hashes(checked)
            spec = verified(checked)
        replicas = ReplicaSet(spec, settings, listener, opener=opener, index_hashes=hashes)
        replicas.run(on_started=lambda about: announce(f"{about}, {where}"))


def served_words(retriever: Retriever) -> str:
    """What is served, for a line that a person reads: `300 passages (hybrid of bm25s and flat)`.

    >>> from types import SimpleNamespace
    >>> served_words(SimpleNamespace(num_passages=1000, identity={"backend": "bm25s"}))
    '1,000 passages (bm25s)'
    """
    kind = _kind(getattr(retriever, "identity", None) or {})
    return f"{retriever.num_passages:,} passages{f' ({kind[:_LONGEST_KIND]})' if kind else ''}"


def _kind(identity: Mapping[str, Any]) -> str:
    """The backend that an identity names, and those of its parts."""
    parts = [part for part in identity.get("parts") or [] if isinstance(part, Mapping)]
    own = str(identity.get("backend") or identity.get("kind") or "")
    named = [name for name in map(_kind, parts) if name]
    return f"{own} of {' and '.join(named)}" if own and named else own


def verified(spec: RetrieverSpec) -> dict[str, Any]:
    """Compare the checksums of every index in a spec, once for all replicas, and give the JSON-able spec with which a
    replica opens them without comparing again.

    Raises:
        FileNotFoundError: there is no index at a path.
        IndexCorruptError: an index that is not whole.
    """
    for part in index_specs(spec):
        manifest = read_manifest(part.index)
        if part.verify:
            verify_files(part.index, manifest)
    return portable(spec, verify=False)


def portable(spec: RetrieverSpec, **changes: Any) -> dict[str, Any]:
    """A spec as JSON that means the same in another working directory; `changes` go to every index in it."""
    rest = spec.model_dump(mode="json", exclude_none=True, exclude={"index", "hybrid", "rerank", "token"})
    match spec:
        case IndexSpec():
            return rest | {"index": str(spec.index.resolve())} | changes
        case HybridSpec():
            return rest | {"hybrid": [portable(part, **changes) for part in spec.hybrid]}
        case RerankSpec():
            return rest | {"rerank": portable(spec.rerank, **changes)}
        case UrlSpec():
            return rest | ({"token": spec.token.get_secret_value()} if spec.token else {})
    raise TypeError(f"a {type(spec).__name__} is no retriever spec")


def warn_if_open(settings: ServerSettings) -> None:
    """Say on standard error that other machines can ask without a token, where they can."""
    if settings.token is None and not is_loopback(settings.host):
        print(
            f"waymark: {settings.host} can be reached from other machines and there is no token; see --token-file",
            file=sys.stderr,
        )


def is_loopback(host: str) -> bool:
    """True if a host, by name or address, is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
