"""Corpora in, passages out, one line at a time.

A corpus is a jsonl file (plain, .gz, .xz or .zst), or a BEIR folder that holds `corpus.jsonl`. Which keys mean what is
a table of dialects. What is wrong with a line is said with the file and the line's number.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from retrieval.id_ledger import IdLedger, id_hash
from retrieval.lines import CorpusError, NumberedLines
from retrieval.passage import Passage, is_text

__all__ = ["DIALECTS", "CorpusError", "CorpusReader", "read_corpus"]

_FOLDER_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.xz", "corpus.jsonl.zst")


def _title_and_text(contents: str) -> tuple[str, str]:
    first, newline, rest = contents.partition("\n")
    if newline and len(first) >= 2 and first[0] == first[-1] == '"':
        return first[1:-1], rest
    return "", contents


def _plain(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return row["id"], row.get("title"), row["text"]


def _beir(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return row["_id"], row.get("title"), row["text"]


def _search_r1(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    contents, title = row["contents"], row.get("title")
    if not isinstance(contents, str) or not isinstance(title, str | None):
        return row["id"], title, contents
    if not title:
        return row["id"], *_title_and_text(contents)
    first, _, rest = contents.partition("\n")
    return row["id"], title, rest if first in (title, f'"{title}"') else contents


# The keys that a dialect needs, and what reads them; the first one whose keys are all there is taken.
DIALECTS: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], tuple[Any, Any, Any]]], ...] = (
    (frozenset({"id", "text"}), _plain),
    (frozenset({"_id", "text"}), _beir),
    (frozenset({"id", "contents"}), _search_r1),
)


class CorpusReader:
    """Iterates the passages of a corpus in its order, and tells how far it is.

    Dialects: `{id, title, text}` (the title may be left out), BEIR's `{_id, title, text}`, and `{id, contents}` where a
    first line in double quotes is the title (Search-R1, pyserini); where a `title` stands beside `contents`, it is the
    title, and a first line that repeats it is no part of the text. Blank lines are skipped. One passage is held at a
    time, and 8 bytes for every id already read.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no corpus.
        CorpusError: while iterating, with file and line: a broken line, an id used twice, or no passage at all.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _corpus_file(Path(path))
        self.line = 0
        """Number of the line that the newest passage came from."""
        self._lines = NumberedLines(self.path)

    @property
    def bytes_read(self) -> int:
        """How far the file has been read, in bytes on disk."""
        return self._lines.bytes_read

    def identity(self) -> dict[str, Any]:
        """What changes whenever the corpus file is written, moved or replaced; cheaper to ask for than its hash.

        Raises:
            CorpusError: the file is gone.
        """
        try:
            path = self.path.resolve()
            state = path.stat()
        except FileNotFoundError:
            raise CorpusError(self.path, 0, "the file is gone; put it back, and build again") from None
        return {
            "path": str(path),
            "size": state.st_size,
            "modified_ns": state.st_mtime_ns,
            "changed_ns": state.st_ctime_ns,
            "inode": state.st_ino,
        }

    @property
    def share_read(self) -> float:
        """How much of the file has been read, 0 to 1, in bytes on disk."""
        return self._lines.bytes_read / max(self._lines.bytes_total, 1)

    def __iter__(self) -> Iterator[Passage]:
        return (passage for passage, _ in self.hashed())

    def hashed(self) -> Iterator[tuple[Passage, int]]:
        """The passages, each with the hash of its id that the check for repeated ids needed."""
        ledger = IdLedger()
        is_empty = True
        for number, line in self._lines.raw():
            passage = _plain_passage(line)
            if passage is None:
                text = self._lines.decoded(number, line)
                if not text or text.isspace():
                    continue
                passage = _passage(self.path, number, text)
            is_empty = False
            self.line = number
            hashed = id_hash(passage.id)
            if repeats := ledger.add(hashed):
                self._refuse_repeats(repeats)
            yield passage, hashed
        self._refuse_repeats(ledger.settle())
        if is_empty:
            raise CorpusError(self.path, 0, "the corpus is empty; it needs one JSON object a line")

    def _refuse_repeats(self, hashes: list[int]) -> None:
        """Read the file once more to tell a repeated id from two ids that happen to share a hash."""
        if not hashes:
            return
        suspects = set(hashes)
        first_line: dict[str, int] = {}
        for number, text in NumberedLines(self.path):
            passage_id = _passage(self.path, number, text).id
            if id_hash(passage_id) not in suspects:
                continue
            if passage_id in first_line:
                raise CorpusError(
                    self.path,
                    number,
                    f"id {passage_id!r} was already used in line {first_line[passage_id]}; give each passage its own",
                )
            first_line[passage_id] = number


def read_corpus(path: str | Path) -> Iterator[Passage]:
    """The passages of a corpus, streamed in its order; see `CorpusReader` for the formats.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no corpus.
        CorpusError: while iterating, with file and line: a broken line, an id used twice, or no passage at all.
    """
    return iter(CorpusReader(path))


def _corpus_file(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        found = [path / name for name in _FOLDER_NAMES if (path / name).is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise CorpusError(path, 0, f"the folder holds more than one corpus ({names}); name the one to read")
        raise FileNotFoundError(f"no corpus in the folder {path}; it should hold one of {', '.join(_FOLDER_NAMES)}")
    raise FileNotFoundError(
        f"no corpus at {path}; give a .jsonl file (plain, .gz, .xz or .zst) or a BEIR folder with corpus.jsonl"
    )


def _plain_passage(line: bytes) -> Passage | None:
    """The passage of a line that is as it should be in this project's own format; None sends it to `_passage`.

    orjson is strict where `json` is lenient and takes a third of its time; whatever it will not have is read again.
    """
    try:
        row = orjson.loads(line)
        passage_id, text, title = row["id"], row["text"], row.get("title")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if title is None:
        title = ""
    if type(passage_id) is str and type(text) is str and type(title) is str and passage_id:
        return Passage(id=passage_id, title=title, text=text)
    return None


def _passage(path: Path, number: int, text: str) -> Passage:
    try:
        row = json.loads(text.rstrip("\r\n"))  # the line break would count as the beginning of a second line
    except json.JSONDecodeError as error:
        raise CorpusError(
            path, number, f"not JSON ({error.msg} at column {error.colno}); each line is one JSON object"
        ) from None
    except (RecursionError, ValueError) as error:
        raise CorpusError(path, number, f"not a flat JSON object ({error})") from None
    if not isinstance(row, dict):
        raise CorpusError(path, number, f"a JSON {type(row).__name__}, not an object; write {{id, title, text}}")
    for keys, read in DIALECTS:
        if keys <= row.keys():
            passage_id, title, body = read(row)
            break
    else:
        raise CorpusError(
            path,
            number,
            f"has the keys {sorted(row)}; a passage is {{id, title, text}}, {{_id, title, text}} or {{id, contents}}",
        )
    if isinstance(passage_id, int) and not isinstance(passage_id, bool):
        passage_id = str(passage_id)
    title = "" if title is None else title
    for name, value in (("id", passage_id), ("title", title), ("text", body)):
        if not isinstance(value, str):
            allowed = "a string or a whole number" if name == "id" else "a string"
            raise CorpusError(path, number, f"{name} is a {type(value).__name__}; it must be {allowed}")
    if not passage_id:
        raise CorpusError(path, number, "id is empty; every passage needs an id of its own")
    if not is_text(passage_id + title + body):
        raise CorpusError(
            path, number, r"holds half a surrogate pair (\ud800 to \udfff), which is no character; mend or drop it"
        )
    return Passage(id=passage_id, title=title, text=body)
