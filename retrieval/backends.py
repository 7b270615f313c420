"""The retrieval backends by name. A backend's module, and the libraries it needs, are imported when it is named.

>>> backend_named("bm25s").settings().k1
1.5
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel

from retrieval.searcher import Backend

BACKENDS: dict[str, str] = {
    "bm25s": "retrieval.sparse.bm25s_backend:BM25S",
    "rank_bm25": "retrieval.sparse.rank_bm25_backend:RANK_BM25",
    "pyserini": "retrieval.sparse.pyserini_backend:PYSERINI",
    "flat": "retrieval.dense.flat:FLAT",
    "hnsw": "retrieval.dense.hnsw:HNSW",
    "ivf_flat": "retrieval.dense.ivf:IVF_FLAT",
    "ivf_sq8": "retrieval.dense.ivf:IVF_SQ8",
    "ivf_pq": "retrieval.dense.ivf:IVF_PQ",
    "torch_exact": "retrieval.dense.torch_exact:TORCH_EXACT",
}
"""Every backend as `module:OBJECT`."""


def backend_named(name: str) -> Backend:
    """The backend of this name.

    Raises:
        ValueError: no such backend, the message lists them; or its libraries are missing, the message names the extra.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)
    return backend


def settings_of(backend: Backend, values: BaseModel | Mapping[str, Any] | None) -> BaseModel:
    """The settings of a backend, checked; None takes the defaults.

    Raises:
        ValueError: an unknown setting, a value out of its range, or the settings of another backend.
    """
    if isinstance(values, BaseModel):
        if not isinstance(values, backend.settings):
            raise ValueError(f"backend {backend.name} takes {backend.settings.__name__}, not {type(values).__name__}")
        return values
    _refuse_unknown(backend, backend.settings, values or {})
    return backend.settings.model_validate(values or {})


def _refuse_unknown(backend: Backend, kind: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> None:
    known = kind.model_fields
    if unknown := sorted(f"{prefix}{name}" for name in set(values) - set(known)):
        raise ValueError(
            f"backend {backend.name} has no setting {', '.join(unknown)}; its settings: "
            f"{', '.join(f'{prefix}{name}' for name in known)}"
        )
    for name, value in values.items():
        inner = known[name].annotation
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _refuse_unknown(backend, inner, value, f"{prefix}{name}.")


def opened_settings(backend: Backend, built: Mapping[str, Any], changes: Mapping[str, Any] | None) -> BaseModel:
    """The settings of a built index, those changed that only a search needs; nested, `{"encoder": {"device": ...}}`.

    Raises:
        ValueError: a setting that the build has decided, one that there is not, or a value out of its range.
    """
    values = dict(built)
    fixed = [name for name in _dotted(changes or {}) if name not in backend.open_settings]
    if fixed:
        allowed = ", ".join(sorted(backend.open_settings)) or "none"
        raise ValueError(
            f"{', '.join(fixed)} cannot be set when an index of backend {backend.name} is opened, only when it is "
            f"built; what can: {allowed}"
        )
    for name, value in (changes or {}).items():
        values[name] = {**values[name], **value} if isinstance(value, Mapping) else value
    return backend.settings.model_validate(values)


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the innermost values, `outer.inner`."""
    names: list[str] = []
    for name, value in values.items():
        names += _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [prefix + name]
    return names


def library_versions(backend: Backend) -> dict[str, str]:
    """The installed versions of a backend's libraries.

    Raises:
        ValueError: one is not installed; the message names the extra that brings it.
    """
    versions = {}
    for name in backend.libraries:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            advice = f"pip install 'waymark[{backend.extra}]'" if backend.extra else f"pip install {name}"
            raise ValueError(f"backend {backend.name} needs {name}, which is not installed; {advice}") from None
    return versions
