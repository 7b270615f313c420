"""What a config names and does not hold: source files of a user's own objects, and files that rewards read.

A record has their hashes, so that what was changed since is not taken for what was run.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

OWN_PACKAGES = frozenset(
    {"agent", "benchmarks", "configs", "envs", "evaluation", "retrieval", "rewards", "scripts", "train"}
)
"""Packages of this project: the commit in a record tells of them."""

FILE_PARAMS = ("file", "nuggets")
"""Parameters of rewards that may name a file."""

REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_][\w.]*")


def source_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the source file of every `module:object` outside this project, by the reference, and of every file
    that a reward reads, by the parameter's dotted name. What is not found is left out; nothing is imported.

    `config` is a resolved training config of plain JSON types.
    """
    references = {text for text in _texts(config) if REFERENCE.fullmatch(text)}
    files = {reference: _source_of(reference.partition(":")[0]) for reference in sorted(references)}
    for name, term in config.get("rewards", {}).items():
        for param in FILE_PARAMS:
            if isinstance(value := term.get("params", {}).get(param), str):
                files[f"rewards.{name}.params.{param}"] = Path(value)
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path is not None and path.is_file()
    }


def _texts(value: Any) -> Iterator[str]:
    """Every text inside, names of components among them: one may be the reference itself."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield from _texts(key)
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _source_of(module: str) -> Path | None:
    """The file of a module as `load_object` would find it; parent packages are not run."""
    top, *inner = module.split(".")
    if top in OWN_PACKAGES:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # `__main__` has none
        return None
    spec = spec or PathFinder.find_spec(top, [str(Path.cwd())])
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin else None
