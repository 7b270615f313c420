"""The `faiss` module, which several distributions bring, imported when a backend needs it."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def faiss_distribution() -> str:
    """The installed distribution that brings `faiss`; faiss-cpu, which will be asked for, where there is none."""
    for name in ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-gpu"):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    return "faiss-cpu"


def import_faiss() -> Any:
    """The `faiss` module.

    Raises:
        ValueError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its SWIG types
            import faiss
    except ImportError as error:
        raise ValueError(f"this backend needs faiss; pip install 'waymark[dense]' ({error})") from None
    return faiss
