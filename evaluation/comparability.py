"""Everything that has to be equal before two figures may be compared, in one block that stands beside them.

The block is plain JSON: model, index, protocol, limits, decoding, seeds, versions, hardware and commit, and what
deviates from the protocol's reference. Building it reads files and asks the machine; it never fails for what a machine
lacks.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.trajectory_record import plain

PACKAGES: tuple[str, ...] = (
    "waymark",
    "torch",
    "transformers",
    "vllm",
    "sentence-transformers",
    "faiss-cpu",
    "tokenizers",
    "trl",
    "accelerate",
    "peft",
    "numpy",
    "bm25s",
    "numba",
    "PyStemmer",
    "rank-bm25",
    "pydantic",
)
"""Packages that can change a figure."""

METRIC_VERSION = 1
"""Raised with any change to what a figure of a file means or how it is computed; figures of two versions differ."""

_INDEX_FIELDS = ("backend", "index_hash", "corpus_hash", "num_passages", "settings", "url")


def comparability_block(
    *,
    model: str | Path | None = None,
    index: Any = None,
    protocol: Any = None,
    limits: Any = None,
    tokenizer: Any = None,
    decoding: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | Mapping[str, int] = (),
    questions: str | Path | None = None,
    deviations: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The block of one evaluation or run, as JSON types.

    Args:
        model: a Hugging Face folder (its weights are hashed), a hub id, or a scripted policy's name.
        index: an opened retriever, or an index's manifest; see `describe_index`.
        protocol: the protocol's table (a dataclass with a `name`); its fields are hashed.
        limits: the episode limits (a pydantic model, a dataclass or a mapping); `top_k` is written out apart too.
        tokenizer: of the policy: its chat template is hashed.
        decoding: sampling settings, such as `{"temperature": 0.0}`.
        seeds: every seed used.
        questions: the file of questions, hashed.
        deviations: in words, where the run departs from the protocol's reference, after those that the protocol names.
        extra: further entries, under their own names.

    Raises:
        ValueError: an entry that JSON cannot hold, or an `extra` that repeats a name of the block.
    """
    described, fields = describe_index(index), _fields(limits)
    block: dict[str, Any] = {
        "model": describe_model(model),
        "index": described,
        "encoder": describe_encoders(described),
        "top_k": fields.get("top_k") if isinstance(fields, Mapping) else None,
        "protocol": describe_protocol(protocol),
        "passage_format": describe_passage_format(protocol),
        "chat_template": describe_chat_template(tokenizer),
        "limits": fields,
        "decoding": dict(decoding or {}),
        "seeds": dict(seeds) if isinstance(seeds, Mapping) else list(seeds),
        "questions": None if questions is None else {"name": Path(questions).name, "sha256": _file_hash(questions)},
        "metric_version": METRIC_VERSION,
        "deviations": [*getattr(protocol, "deviations", ()), *deviations],
        "packages": package_versions(),
        "python": platform.python_version(),
        "hardware": hardware(),
        "commit": checkout_commit(),
    }
    repeated = sorted(set(block) & set(extra or {}))
    if repeated:
        raise ValueError(f"extra repeats {', '.join(repeated)} of the comparability block; give it another name")
    result: dict[str, Any] = plain({**block, **(extra or {})})
    return result


def describe_model(model: str | Path | None) -> dict[str, Any] | None:
    """Folder name and SHA-256 over its weight files, or the hub id or scripted name as it is given."""
    if model is None:
        return None
    folder = Path(model)
    if not folder.is_dir():
        return {"name": str(model), "weights_sha256": None}
    files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"} and path.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{_file_hash(path)}\0".encode())
    return {"name": folder.resolve().name, "weights_sha256": digest.hexdigest() if files else None}


def describe_index(index: Any) -> dict[str, Any] | None:
    """What decides the answers of a retriever, from its `identity` or an index's manifest; None without one.

    `backend`, `index_hash`, `corpus_hash`, `num_passages` and `settings`; of a combination also its `parts` in the same
    form. The same index in this process and behind a server has one description: where it lies is no part of it. A
    server that does not say what it serves is described by its `url`.
    """
    if index is None:
        return None
    manifest = getattr(index, "manifest", index)
    found = index if isinstance(index, Mapping) else getattr(index, "identity", None)
    if found is None:
        found = {name: getattr(manifest, name) for name in _INDEX_FIELDS if hasattr(manifest, name)}
    described = {name: _fields(found[name]) for name in _INDEX_FIELDS if name in found}
    if "parts" in found:
        described["parts"] = [describe_index(part) for part in found["parts"]]
    return described


def describe_protocol(protocol: Any) -> dict[str, Any] | None:
    """Name of the protocol and SHA-256 of its whole table: equal hashes mean equal prompts, tags and rules."""
    if protocol is None:
        return None
    fields = _fields(protocol)
    if isinstance(fields, dict):
        fields.pop("deviations", None)  # words about the table, not of it
    table = json.dumps(fields, sort_keys=True, ensure_ascii=False, default=_sorted_text)
    return {"name": getattr(protocol, "name", str(protocol)), "sha256": hashlib.sha256(table.encode()).hexdigest()}


def describe_encoders(described: Mapping[str, Any] | None) -> list[Any] | None:
    """The models that a retriever described by `describe_index` searches with: encoders, and scorers of rerankers.

    Empty for a lexical index; None without a description, or of a server that says only where it is.
    """
    if described is None or set(described) <= {"url"}:
        return None
    settings = described.get("settings") or {}
    own = [settings[name] for name in ("encoder", "scorer") if isinstance(settings, Mapping) and settings.get(name)]
    parts = [describe_encoders(part) or [] for part in described.get("parts", ())]
    return [*own, *(encoder for part in parts for encoder in part)]


def describe_passage_format(protocol: Any) -> dict[str, Any] | None:
    """How passages stand in the prompt: the protocol's templates and the rules for white space and numbers."""
    names = ("passage", "observation", "nothing_found", "one_line", "numbers", "repeated")
    found = {name: _fields(getattr(protocol, name)) for name in names if hasattr(protocol, name)}
    return found or None


def describe_chat_template(tokenizer: Any) -> dict[str, Any] | None:
    """SHA-256 of a tokenizer's chat template, which is None where it has none; None where no tokenizer is known."""
    if tokenizer is None:
        return None
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return {"sha256": None}
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True, ensure_ascii=False)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def package_versions() -> dict[str, str | None]:
    """Version of every package of `PACKAGES`, None where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def hardware() -> dict[str, Any]:
    """CPU model, cores that this process may use, memory in GiB, and the GPUs that torch sees."""
    import torch

    gpus: list[str] = []
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_model(), "cores": _usable_cores(), "ram_gib": _ram_gib(), "gpus": gpus}


def checkout_commit(module: str | Path = __file__) -> str | None:
    """Commit of the checkout that `module` belongs to, with `+changes` where files differ; None outside one.

    A wheel installed inside somebody else's repository is not tracked there, and gets None.
    """
    path = Path(module).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=path.parent, capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", path.name) is None:
        return None
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit


def _fields(value: Any) -> Any:
    """A settings object as nested JSON types."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _fields(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _fields(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fields(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    return value


def _sorted_text(value: Any) -> str:
    """A stable text for what JSON does not know: a function's name, never its address in memory."""
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _file_hash(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ram_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
