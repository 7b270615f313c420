"""Generated text in a page that people write: it stands between two marks, and what is around them stays."""

import re
from pathlib import Path

from train.config_file import ConfigError


def write_between_marks(path: Path, mark: str, text: str) -> None:
    """Put `text` between `<!-- MARK -->` and `<!-- /MARK -->`; a page that does not exist is made of the three.

    Raises:
        ConfigError: the page has no such marks.
    """
    first, last = (f"<!-- {slash}{mark} -->" for slash in ("", "/"))
    block = f"{first}\n{text}\n{last}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{block}\n", encoding="utf-8")
        return
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    if not pattern.search(page):
        raise ConfigError(f"{path} has no marks {first} and {last} to write between: add both, or name a new file")
    path.write_text(pattern.sub(lambda _: block, page, count=1), encoding="utf-8")
