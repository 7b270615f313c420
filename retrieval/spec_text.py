"""A retriever's config as it is written: a path, a URL, a mapping in a text or in a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
FORMS = (
    "a path to an index, a URL (http://...), or a mapping with one of the keys index, url, hybrid, rerank, for example "
    "{hybrid: [indexes/bm25, indexes/dense], method: rrf}"
)
"""What a retriever may be given as, for a message."""


def expanded(value: Any) -> Any:
    """A string or path as the mapping it stands for; the mapping inside a config file. Anything else stays as it is.

    Raises:
        ValueError: a text or file that cannot be read, or holds something else than a mapping.
    """
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return {"url": value}
    if isinstance(value, str) and not value.strip():
        return value  # not the working directory, which an empty path would be
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return _mapping_of(value, "yaml", f"the retriever {value!r:.200}")
    if isinstance(value, str | Path):
        path = Path(value)
        if path.suffix in _CONFIG_SUFFIXES and not path.is_dir():
            return _read_mapping(path)
        return {"index": path}
    return value


def _read_mapping(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"there is no retriever file {path}; write one that holds a mapping: {FORMS}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); a retriever file is a text in UTF-8") from None
    return _mapping_of(text, path.suffix[1:], str(path))


def _mapping_of(text: str, kind: str, source: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if kind == "json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{source} cannot be read as {kind}: {error}") from None
    if not isinstance(value, Mapping):
        raise ValueError(f"{source} holds a {type(value).__name__}; a retriever file holds a mapping: {FORMS}")
    return value
