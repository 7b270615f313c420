"""Tokens as text, by the tokenizer that lies with the run's policy; nothing of a model is loaded or executed."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

_FILE = "tokenizer.json"
_MOST_OPEN = 4


class TokenText:
    """Tokenizers by file, a few of them kept open.

    Args:
        given: a folder with a tokenizer for runs that name none which is there.
    """

    def __init__(self, given: Path | None = None) -> None:
        self._given = given
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[int, Tokenizer]] = {}

    def pieces(self, ids: Sequence[int], run_folder: Path, config: Mapping[str, Any]) -> list[str] | None:
        """The text of each token, `[num_tokens]`; None where the run names no tokenizer that is there."""
        tokenizer = self._tokenizer(run_folder, config)
        if tokenizer is None:
            return None
        written: dict[int, str] = {}
        for token in set(ids):
            written[token] = _piece(tokenizer, token)
        return [written[token] for token in ids]

    def _tokenizer(self, run_folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
        own = [] if self._given is None else [self._given / _FILE]
        for path in [*tokenizer_files(run_folder, config), *own]:
            try:
                changed = path.stat().st_mtime_ns
            except OSError:
                continue
            with self._lock:
                known = self._open.get(path)
                if known is None or known[0] != changed:
                    try:
                        known = (changed, Tokenizer.from_file(str(path)))
                    except Exception:  # the package raises bare Exception for a file that is no tokenizer
                        continue
                    while len(self._open) >= _MOST_OPEN:
                        self._open.pop(next(iter(self._open)))
                    self._open[path] = known
                return known[1]
        return None


def tokenizer_files(run_folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """Where a run's tokenizer may lie: with the trained policy, the cold start, or the policy that it began from.

    A folder without a config of its own, such as a batch that the watch kept, belongs to the run that it lies in.
    """
    homes = [folder for folder in (run_folder, *list(run_folder.parents)[:3]) if (folder / "config.yaml").is_file()][:1]
    files = [home / part / _FILE for home in homes or [run_folder] for part in ("model", "cold_start")]
    for home in homes:
        files += sorted((home / "checkpoints").glob(f"step-*/model/{_FILE}"), reverse=True)[:1]
    policy = config.get("policy")
    model = policy.get("model") if isinstance(policy, Mapping) else None
    if isinstance(model, str):
        files += [Path(model) / _FILE, *(folder / model / _FILE for folder in run_folder.parents)]
    return files


def _piece(tokenizer: Tokenizer, token: int) -> str:
    """One token's own text; bytes that are no whole character stand as the vocabulary writes them."""
    name = tokenizer.id_to_token(token)
    if name is None:
        return f"[{token}]"
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if "�" in text or not text:
        return name
    return f" {text}" if name.startswith("▁") and not text.startswith(" ") else text
