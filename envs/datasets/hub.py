"""Question sets of the Hugging Face hub, on a machine that can reach it: `OWNER/NAME`, `OWNER/NAME:CONFIG:SPLIT`.

The data is loaded by the library `datasets`, so its cache, its proxies and its offline mode (`HF_HUB_OFFLINE=1`) work
as they always do; no code of the data set is run. A folder on this machine that the library understands is named
`hf:FOLDER`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envs.datasets.rows import SUFFIXES, Row, table_suffix

PREFIX = "hf:"
SPLITS = ("test", "validation", "dev", "train")
"""Looked for in this order where no split is named; one whose questions have no answers is passed over."""

_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*){0,2}")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set, and what of it: None is its only configuration, or the first of `SPLITS` that has answers."""

    name: str
    config: str | None = None
    split: str | None = None


def hub_source(source: str | Path) -> HubSource | None:
    """What a source names on the hub; None where it is a path.

    >>> hub_source("RUC-NLPIR/FlashRAG_datasets:nq:test")
    HubSource(name='RUC-NLPIR/FlashRAG_datasets', config='nq', split='test')
    """
    text = str(source)
    if text.startswith(PREFIX):
        name, *rest = text.removeprefix(PREFIX).split(":")
    elif Path(text).exists() or not _ID.fullmatch(text) or table_suffix(Path(text)) in SUFFIXES:
        return None
    else:
        name, *rest = text.split(":")
    config, split = (*[part or None for part in rest], None, None)[:2]
    return HubSource(name, config, split)


def hub_rows(source: HubSource) -> Iterator[tuple[int, Row]]:
    """The rows of a data set, numbered from 1.

    Raises:
        ValueError: it is not there, the hub cannot be reached, or it has no such configuration or split.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(source.name, source.config, split=source.split)
    except Exception as error:  # the library raises errors of its own, of the hub's and of the network's libraries
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the question set {source.name}{f', {source.config}' if source.config else ''} cannot be loaded ({said}); "
            "give a file, or download it where there is a network "
            f"(`hf download --repo-type dataset {source.name} --local-dir FOLDER`) and give a file of that folder"
        ) from error
    splits: Iterable[object] = [loaded]
    if isinstance(loaded, dict):
        names = [name for name in SPLITS if name in loaded] or list(loaded)
        splits = [loaded[name] for name in names]
        with_answers = [rows for rows in splits if len(rows) and _has_answers(rows[0])]  # type: ignore[arg-type,index]
        splits = with_answers[:1] or list(splits)[:1]
    for rows in splits:
        for number, row in enumerate(rows, start=1):  # type: ignore[arg-type,var-annotated]
            yield number, dict(row)


def _has_answers(row: Row) -> bool:
    named = ("golden_answers", "answer", "Answer", "possible_answers", "reward_model", "reward_spec")
    return any(bool(row.get(name)) for name in named)
