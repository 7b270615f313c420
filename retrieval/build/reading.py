"""The one pass over a corpus: passages go to disk, and shards of texts to whoever builds their parts.

Where an earlier attempt has read the whole corpus, and the file has not been touched since, the missing shards are read
from the passages on disk. Otherwise the corpus is read again, and shards whose parts still fit are passed over.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.build.durable import flush
from retrieval.build.parts import PartFolder, ShardTexts
from retrieval.build.work import Marks
from retrieval.corpus import CorpusReader
from retrieval.passage_store import OFFSETS_FILE, PASSAGES_FILE, PassageWriter, passage_files, passage_of_line
from retrieval.searcher import Progress, Shard

MAX_SHARD_CHARACTERS = 64 << 20
"""A shard of long passages ends early, with the passage that reaches this many characters."""

_MARK = "passages"
_REPORT_EVERY = 1000


@dataclass(slots=True, kw_only=True)
class ReadCorpus:
    """What the reading found; complete when the iteration over its shards has ended."""

    shards: list[Shard]
    digests: list[str]
    corpus_hash: str = ""

    @property
    def num_passages(self) -> int:
        """Passages in the shards."""
        return self.shards[-1].first + self.shards[-1].count if self.shards else 0


class CorpusPass:
    """Iterates the shards whose parts are missing; `found` tells about all of them afterwards."""

    def __init__(
        self,
        reader: CorpusReader,
        staging: Path,
        *,
        shard_size: int,
        marks: Marks,
        parts: PartFolder,
        progress: Progress,
    ) -> None:
        self._reader = reader
        self._staging = staging
        self._shard_size = shard_size
        self._marks = marks
        self._parts = parts
        self._progress = progress
        left = marks.get(_MARK)
        self.was_read_before = bool(
            left and left["identity"] == self._identity() and all(path.is_file() for path in passage_files(staging))
        )
        """True if an earlier attempt has read all of this corpus; `found` is complete then."""
        self.found = _from_mark(left) if self.was_read_before else ReadCorpus(shards=[], digests=[])
        self.shards_kept = 0
        """Shards whose parts an earlier attempt has left, of those passed so far."""
        self.passages_kept = 0
        """Passages of these shards."""

    def __iter__(self) -> Generator[ShardTexts]:
        if self.was_read_before:
            self._progress("reading passages", self.found.num_passages, self.found.num_passages)
            yield from self._read_again()
            return
        self._marks.clear(_MARK)
        yield from self._read_corpus()
        self._parts.drop_from(len(self.found.shards))
        self._write_mark()

    def _read_corpus(self) -> Iterator[ShardTexts]:
        texts: list[str] = []
        characters, done, report = 0, 0, self._progress
        with PassageWriter(self._staging) as writer:
            for done, (passage, hashed) in enumerate(self._reader.hashed(), start=1):
                writer.add(passage, hashed)
                text = passage.contents
                texts.append(text)
                characters += len(text)
                if len(texts) == self._shard_size or characters >= MAX_SHARD_CHARACTERS:
                    yield from self._shard_ended(texts, writer.digest())
                    texts, characters = [], 0
                if done % _REPORT_EVERY == 0:
                    share = max(self._reader.share_read, 1e-9)
                    report("reading passages", done, max(done, round(done / share)))
            if texts:
                yield from self._shard_ended(texts, writer.digest())
            self.found.corpus_hash = writer.finish()
        report("reading passages", done, done)

    def _shard_ended(self, texts: list[str], digest: str) -> Iterator[ShardTexts]:
        shard = Shard(number=len(self.found.shards), first=self.found.num_passages, count=len(texts))
        self.found.shards.append(shard)
        self.found.digests.append(digest)
        if not self._is_kept(shard, digest):
            yield ShardTexts(shard=shard, digest=digest, texts=texts)

    def _is_kept(self, shard: Shard, digest: str) -> bool:
        kept = self._parts.has(shard, digest)
        self.shards_kept += kept
        self.passages_kept += shard.count if kept else 0
        return kept

    def _read_again(self) -> Iterator[ShardTexts]:
        offsets = np.load(self._staging / OFFSETS_FILE, mmap_mode="r", allow_pickle=False)
        with (self._staging / PASSAGES_FILE).open("rb") as file:
            for shard, digest in zip(self.found.shards, self.found.digests, strict=True):
                if self._is_kept(shard, digest):
                    continue
                file.seek(int(offsets[shard.first]))
                texts = [passage_of_line(file.readline()).contents for _ in range(shard.count)]
                yield ShardTexts(shard=shard, digest=digest, texts=texts)

    def _write_mark(self) -> None:
        for path in passage_files(self._staging):
            flush(path)
        shards = [[shard.count, digest] for shard, digest in zip(self.found.shards, self.found.digests, strict=True)]
        self._marks.set(_MARK, {"identity": self._identity(), "corpus_hash": self.found.corpus_hash, "shards": shards})

    def _identity(self) -> dict[str, Any]:
        """What changes whenever the corpus file is written, moved or replaced; cheaper to ask for than its hash."""
        path = self._reader.path.resolve()
        state = path.stat()
        return {
            "path": str(path),
            "size": state.st_size,
            "modified_ns": state.st_mtime_ns,
            "changed_ns": state.st_ctime_ns,
            "inode": state.st_ino,
        }


def _from_mark(mark: dict[str, Any]) -> ReadCorpus:
    shards: list[Shard] = []
    first = 0
    for number, (count, _) in enumerate(mark["shards"]):
        shards.append(Shard(number=number, first=first, count=count))
        first += count
    return ReadCorpus(shards=shards, digests=[digest for _, digest in mark["shards"]], corpus_hash=mark["corpus_hash"])
