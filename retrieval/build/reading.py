"""The one pass over a corpus: passages go to disk, and shards of texts to whoever builds their parts.

Where an earlier attempt has read the whole corpus, and the file has not been touched since, the missing shards are read
from the passages on disk. Otherwise the corpus is read again, and shards whose parts still fit are passed over. Where
shards take long, all of the corpus is read before the first (`read_first`), so that what is wrong with it is told soon.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.build.durable import flush
from retrieval.build.parts import PartFolder, ShardTexts
from retrieval.build.work import Marks
from retrieval.corpus import CorpusReader
from retrieval.lines import CorpusError
from retrieval.passage import Passage
from retrieval.passage_store import OFFSETS_FILE, PASSAGES_FILE, PassageWriter, passage_files, passage_of_line
from retrieval.searcher import Progress, Shard

MAX_SHARD_CHARACTERS = 64 << 20
"""A shard of long passages ends early, with the passage that reaches this many characters."""

PASSAGES_MARK = "passages"
"""Name of the mark that says that the whole corpus has been read."""

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
    """Iterates the shards whose parts are missing; `found` tells about all of them afterwards.

    `refusal` is asked about every passage that is read, and says why it cannot be used, or None.
    """

    def __init__(
        self,
        reader: CorpusReader,
        staging: Path,
        *,
        shard_size: int,
        marks: Marks,
        parts: PartFolder,
        progress: Progress,
        refusal: Callable[[Passage], str | None] = lambda passage: None,
    ) -> None:
        self._reader = reader
        self._staging = staging
        self._shard_size = shard_size
        self._marks = marks
        self._parts = parts
        self._progress = progress
        self._refusal = refusal
        left = marks.get(PASSAGES_MARK)
        self.is_read = bool(
            left and left["identity"] == reader.identity() and all(path.is_file() for path in passage_files(staging))
        )
        """True if all of this corpus has been read, by an earlier attempt or by `read_first`; `found` is complete."""
        self.found = _from_mark(left) if self.is_read else ReadCorpus(shards=[], digests=[])
        if self.is_read:
            progress("reading passages", self.found.num_passages, self.found.num_passages)
        self._kept: list[Shard] | None = None

    def read_first(self) -> None:
        """Read all of the corpus to the disk now; the iteration then takes its texts from there.

        Raises:
            CorpusError: what iterating raises for the corpus.
        """
        if not self.is_read:
            for _ in self._read_corpus():
                pass
            self.is_read = True

    @property
    def has_shards_to_build(self) -> bool:
        """False if all parts are known to be there."""
        return not self.is_read or len(self.kept()) < len(self.found.shards)

    def kept(self) -> list[Shard]:
        """The shards whose parts an earlier attempt has left: all of them where `is_read`, else those passed so far."""
        if self._kept is None:
            known = self._shards() if self.is_read else ()
            self._kept = [shard for shard, digest in known if self._parts.has(shard, digest)]
        return self._kept

    def __iter__(self) -> Generator[ShardTexts]:
        if self.is_read:
            yield from self._read_again()
            return
        for work in self._read_corpus():
            if self._parts.has(work.shard, work.digest):
                self.kept().append(work.shard)
            else:
                yield work

    def _read_corpus(self) -> Iterator[ShardTexts]:
        """Every shard of the corpus, which is written to the disk."""
        self._marks.clear(PASSAGES_MARK)
        identity = self._reader.identity()
        texts: list[str] = []
        characters, done, report = 0, 0, self._progress
        report("reading passages", 0, None)
        with self._told_if_changed(identity), PassageWriter(self._staging) as writer:
            for done, (passage, hashed) in enumerate(self._reader.hashed(), start=1):
                if why := self._refusal(passage):
                    raise CorpusError(self._reader.path, self._reader.line, f"passage {passage.id!r} {why}")
                writer.add(passage, hashed)
                text = passage.contents
                texts.append(text)
                characters += len(text)
                if len(texts) == self._shard_size or characters >= MAX_SHARD_CHARACTERS:
                    self._check_unchanged(identity)
                    yield self._shard_ended(texts, writer.digest())
                    texts, characters = [], 0
                if done % _REPORT_EVERY == 0:
                    share = max(self._reader.share_read, 1e-9)
                    report("reading passages", done, max(done, round(done / share)))
            if texts:
                yield self._shard_ended(texts, writer.digest())
            self.found.corpus_hash = writer.finish()
        self._check_unchanged(identity)
        report("reading passages", done, done)
        self._parts.drop_from(len(self.found.shards))
        self._write_mark(identity)

    @contextmanager
    def _told_if_changed(self, identity: dict[str, Any]) -> Iterator[None]:
        """What is wrong with a line may be wrong because the file was changed: then that is told."""
        try:
            yield
        except (CorpusError, FileNotFoundError):
            self._check_unchanged(identity)
            raise

    def _check_unchanged(self, identity: dict[str, Any]) -> None:
        """Refuse a file that is no longer the one whose reading was begun: half of each would be indexed.

        The time of its last change is let pass: it tells of a hard link (a backup's `cp -l`) and of new rights too.
        A build that is gone on with does look at it.
        """
        now = self._reader.identity()
        if any(now[name] != identity[name] for name in ("size", "modified_ns", "inode")):
            raise CorpusError(
                self._reader.path,
                0,
                "the file was changed while it was read; build again when it stays as it is (shards that still fit are "
                "kept)",
            )

    def _shard_ended(self, texts: list[str], digest: str) -> ShardTexts:
        shard = Shard(number=len(self.found.shards), first=self.found.num_passages, count=len(texts))
        self.found.shards.append(shard)
        self.found.digests.append(digest)
        return ShardTexts(shard=shard, digest=digest, texts=texts)

    def _read_again(self) -> Iterator[ShardTexts]:
        kept = set(self.kept())
        offsets = np.load(self._staging / OFFSETS_FILE, mmap_mode="r", allow_pickle=False)
        with (self._staging / PASSAGES_FILE).open("rb") as file:
            for shard, digest in self._shards():
                if shard in kept:
                    continue
                file.seek(int(offsets[shard.first]))
                texts = [passage_of_line(file.readline()).contents for _ in range(shard.count)]
                yield ShardTexts(shard=shard, digest=digest, texts=texts)

    def _shards(self) -> Iterator[tuple[Shard, str]]:
        return zip(self.found.shards, self.found.digests, strict=True)

    def _write_mark(self, identity: dict[str, Any]) -> None:
        for path in passage_files(self._staging):
            flush(path)
        shards = [[shard.count, digest] for shard, digest in self._shards()]
        mark = {"identity": identity, "corpus_hash": self.found.corpus_hash, "shards": shards}
        self._marks.set(PASSAGES_MARK, mark)


def _from_mark(mark: dict[str, Any]) -> ReadCorpus:
    shards: list[Shard] = []
    first = 0
    for number, (count, _) in enumerate(mark["shards"]):
        shards.append(Shard(number=number, first=first, count=count))
        first += count
    return ReadCorpus(shards=shards, digests=[digest for _, digest in mark["shards"]], corpus_hash=mark["corpus_hash"])
