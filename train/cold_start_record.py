"""What a cold start depends on besides its testbed: written beside it, and compared before it is used again.

The file is flat: dotted names, and as text what is no number, text or truth value. It is read through the config's own
sections, so that a field which is newer than the file counts with its default.
"""

import ast
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from envs.episode_limits import EpisodeLimits
from train.config import ColdStartConfig, ProtocolConfig, TrainConfig
from train.config_file import ConfigError, Section, check_fields
from train.run_settings import RETRIEVAL, retrieval_of
from train.tracking import flatten


class ColdStartRecord(Section):
    """The part of a config that decides the bits of its cold start."""

    seed: int
    protocol: ProtocolConfig = Field(default_factory=ProtocolConfig)
    limits: EpisodeLimits = Field(default_factory=EpisodeLimits)
    cold_start: ColdStartConfig | None = None
    precision: str
    retrieval: str | None = Field(None, description="How the index is searched, where that is no plain index.")

    @classmethod
    def of(cls, config: TrainConfig) -> "ColdStartRecord":
        """Of a cold start that is about to be made."""
        return cls(
            seed=config.seed,
            protocol=config.protocol,
            limits=config.limits,
            cold_start=config.cold_start,
            precision=config.learner.precision,
            retrieval=retrieval_of(config).get(RETRIEVAL),
        )

    @classmethod
    def read(cls, path: Path) -> "ColdStartRecord":
        """From its file.

        Raises:
            ConfigError: the file is no such record.
        """
        try:
            flat = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} does not say what its cold start was made with: delete both") from error
        retrieval = flat.pop(RETRIEVAL, None)
        return check_fields(cls, {**_nested(flat), "retrieval": retrieval}, source=str(path))

    def write(self, path: Path) -> None:
        """Into its file."""
        kept = self.model_dump(mode="json", exclude={"retrieval"})
        retrieval = {} if self.retrieval is None else {RETRIEVAL: self.retrieval}
        path.write_text(json.dumps({**flatten(kept), **retrieval}), encoding="utf-8")


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The sections behind dotted names."""
    sections: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = sections
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = _value(value)
    return sections


def _value(written: Any) -> Any:
    """What `flatten` made text of: None and lists."""
    is_text_of = isinstance(written, str) and (written == "None" or written.startswith(("[", "{")))
    try:
        return ast.literal_eval(written) if is_text_of else written
    except (ValueError, SyntaxError):
        return written
