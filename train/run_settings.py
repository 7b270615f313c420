"""What a run's figures depend on, apart from where things lie: two runs with equal settings can stand in one table."""

import json
from pathlib import Path
from typing import Any

from retrieval.spec import short_form
from train.config import TrainConfig
from train.tracking import flatten

RETRIEVAL = "retrieval of data.index"
"""The name under which it is told how an index is searched."""


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What a run's figures depend on, with dotted names: all but paths, addresses and bookkeeping."""
    paths = {"policy": {"model"}, "data": {"index", "corpus_index", "train_questions", "dev_questions"}}
    bookkeeping = dict.fromkeys(("checkpoint_every", "keep_checkpoints", "save_trajectories", "tracker", "watch"), True)
    return flatten({**config.model_dump(mode="json", exclude={**paths, **bookkeeping}), **retrieval_of(config)})


def retrieval_of(config: TrainConfig) -> dict[str, Any]:
    """How the index is searched, without where it lies: nothing for an index folder or a server as they are."""

    def without_places(value: Any) -> Any:
        match value:
            case str():
                return "index"
            case {"index": _, "settings": settings}:
                return {"settings": settings} if settings else "index"
            case {"url": _}:
                return "index"
            case {"hybrid": parts}:
                return {**value, "hybrid": [without_places(part) for part in parts]}
            case {"rerank": first, "model": model}:
                return {**value, "rerank": without_places(first), "model": Path(model).name}
        return value

    found = without_places(short_form(config.data.index))
    return {} if found == "index" else {RETRIEVAL: json.dumps(found, sort_keys=True)}
