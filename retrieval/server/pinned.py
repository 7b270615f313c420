"""A server serves what it was started on: a replica that is started again later opens the same index, or none.

An index folder can be replaced while it is served (`build-index --overwrite`). Replicas that are up go on with the
files they have mapped; one that opened the new index beside them would make answers depend on who gives them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from retrieval.manifest import read_manifest
from retrieval.spec import HybridSpec, IndexSpec, RerankSpec, RetrieverSpec


class IndexReplacedError(ValueError):
    """The index at a path is not the one that the server was started on."""


def index_specs(spec: RetrieverSpec) -> Iterator[IndexSpec]:
    """Every index folder in a spec, in its order."""
    match spec:
        case IndexSpec():
            yield spec
        case HybridSpec():
            for part in spec.hybrid:
                yield from index_specs(part)
        case RerankSpec():
            yield from index_specs(spec.rerank)


def index_hashes(spec: RetrieverSpec) -> dict[str, str]:
    """The `index_hash` of every index folder in a spec, by its path.

    Raises:
        FileNotFoundError: there is no index at a path.
        IndexCorruptError: a manifest that is broken.
    """
    folders = [part.index.resolve() for part in index_specs(spec)]
    return {str(folder): read_manifest(folder).index_hash for folder in folders}


def check_unchanged(expected: Mapping[str, str]) -> None:
    """Compare the folders with `index_hashes` as they were; call it once they are open, so that a change in between is
    seen too.

    Raises:
        IndexReplacedError: an index was replaced.
        FileNotFoundError: there is none any more.
    """
    for path, was in expected.items():
        now = read_manifest(Path(path)).index_hash
        if now != was:
            raise IndexReplacedError(
                f"the index at {path} was replaced while it was served (index_hash {was[:12]}... when the server "
                f"started, {now[:12]}... now); restart the server to serve the new one"
            )
