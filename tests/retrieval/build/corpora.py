"""Small corpora with enough words to make postings of, for tests of builds."""

import json
import random
from pathlib import Path

WORDS = [
    f"{a}{b}{c}" for a in ("ka", "lo", "mi", "ru", "se") for b in ("dor", "nim", "tek", "vas") for c in ("", "s", "ing")
]


def write_corpus(path: Path, num_passages: int, seed: int = 0) -> Path:
    """Passages of 1 to 20 words; one in fifty has none."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_passages):
            words = [] if i % 50 == 7 else rng.choices(WORDS, k=rng.randint(1, 20))
            file.write(json.dumps({"id": f"p{i}", "title": f"Title {i % 9}", "text": " ".join(words)}) + "\n")
    return path


def data_files(index: Path) -> dict[str, bytes]:
    """Content of every file of an index but its manifest."""
    return {
        path.relative_to(index).as_posix(): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
