"""Shards over a Ray cluster: texts go out through Ray's object store, parts come back as bytes.

Nodes need neither the corpus nor a shared folder, only this project's dependencies: its `retrieval` package is sent
along. Ray runs a shard again elsewhere where a node dies.
"""

import functools
import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import retrieval
from retrieval.build.parts import PartFolder, ShardTexts
from retrieval.searcher import Shard

_MAX_RETRIES = 3


def build_on_ray(
    shards: Iterator[ShardTexts],
    parts: PartFolder,
    *,
    backend: str,
    settings: Mapping[str, Any],
    address: str,
    resources: Mapping[str, float],
) -> Generator[Shard]:
    """Build the parts of shards on a Ray cluster; yields every shard whose part has been written here.

    `address` is Ray's (`auto`, `HOST:PORT`, `ray://HOST:PORT`), or `local` for a cluster of this machine alone that
    ends with the build. As many shards are under way as the cluster has room for, and one more.

    Raises:
        ValueError: ray is not installed.
        ConnectionError: there is no cluster at `address`.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--ray-address needs ray, which is not installed; pip install 'waymark[ray]'") from None
    started_here = not ray.is_initialized()
    if started_here:
        package = str(Path(retrieval.__file__).parent)
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, runtime_env={"py_modules": [package]}, **options)
    try:
        remote = ray.remote(part_of).options(max_retries=_MAX_RETRIES, **resources)
        in_flight: dict[Any, tuple[Shard, str]] = {}
        values = json.dumps(dict(settings), sort_keys=True)
        for work in shards:
            in_flight[remote.remote(backend, values, work.texts)] = (work.shard, work.digest)
            del work
            while len(in_flight) > _room(ray.cluster_resources(), resources):
                yield _received(ray, in_flight, parts)
        while in_flight:
            yield _received(ray, in_flight, parts)
    finally:
        if started_here:
            ray.shutdown()


def part_of(backend: str, settings: str, texts: list[str]) -> list[tuple[str, bytes]]:
    """Build the part of one shard; its files as `(name, content)`, one nameless where the part is a file."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "part"
        _builder(backend, settings).build_part(texts, path)
        if path.is_file():
            return [("", path.read_bytes())]
        files = sorted(inner for inner in path.rglob("*") if inner.is_file())
        return [(file.relative_to(path).as_posix(), file.read_bytes()) for file in files]


@functools.lru_cache(maxsize=1)
def _builder(backend: str, settings: str) -> Any:
    """The builder of this process, kept from shard to shard so that an encoder is loaded once."""
    from retrieval.backends import backend_named

    kind = backend_named(backend)
    return kind.builder(kind.settings.model_validate_json(settings))


def _room(cluster: Mapping[str, float], resources: Mapping[str, float]) -> int:
    """How many shards to have under way: those that run, and one that waits."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    fits = [cluster.get(names.get(name, name), 0.0) // amount for name, amount in resources.items() if amount > 0]
    return 1 + int(min(fits, default=1.0))


def _received(ray: Any, in_flight: dict[Any, tuple[Shard, str]], parts: PartFolder) -> Shard:
    [reference], _ = ray.wait(list(in_flight), num_returns=1)
    shard, digest = in_flight.pop(reference)
    files = ray.get(reference)
    path = parts.begin(shard)
    for name, content in files:
        file = path / name if name else path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    parts.adopt((shard, digest), path)
    return shard
