"""Numbered lines of a corpus file, packed or plain, as its name says: .gz, .xz, .zst, anything else is plain text."""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import zstandard


class CorpusError(ValueError):
    """A corpus, or one line of it, cannot be used. `path`; `line` counts from 1, 0 is the file as a whole."""

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {message}")
        self.path = Path(path)
        self.line = line


class ZstdFrames(io.RawIOBase):
    """Frame after frame, unpacked. zstandard's own reader takes a file that is cut off for one that ends."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._frame_begun = False
        self._left_over = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as one packed chunk goes; 0 at the end. Raises EOFError inside a frame."""
        while not self._ready:
            chunk = self._left_over or self._packed.read(1 << 16)
            if not chunk:
                if self._frame_begun:
                    raise EOFError("the last frame does not end")
                return 0
            self._ready = memoryview(self._frame.decompress(chunk))
            self._frame_begun = not self._frame.eof
            self._left_over = b""
            if self._frame.eof:
                self._left_over = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


class NumberedLines:
    """Iterates `(number, text)` over the lines of a file that are not blank; numbers count from 1.

    One line is held at a time. `bytes_read` and `bytes_total` count the file as it lies on disk, so a packed file
    tells how far it is too.

    Raises:
        CorpusError: a line is not UTF-8, or the compression is broken or cut off (while iterating).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: IO[bytes] | None = None
        self.bytes_total = path.stat().st_size

    @property
    def bytes_read(self) -> int:
        """How far the file has been read, in bytes on disk."""
        return self._raw.tell() if self._raw is not None and not self._raw.closed else 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for number, line in self.raw():
            text = self.decoded(number, line)
            if text and not text.isspace():
                yield number, text

    def decoded(self, number: int, line: bytes) -> str:
        """The text of a line that `raw` gave.

        Raises:
            CorpusError: it is not UTF-8.
        """
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(self._path, number, f"not UTF-8 ({error.reason}); convert the file to UTF-8") from None

    def raw(self) -> Iterator[tuple[int, bytes]]:
        """Every line with its number, blank ones too, unpacked but not decoded."""
        number = 0
        with self._path.open("rb") as raw:
            self._raw = raw
            try:
                for number, line in enumerate(self._unpacked(raw), start=1):
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
                raise CorpusError(
                    self._path,
                    number + 1,
                    f"the {self._path.suffix} compression breaks off here ({error}); "
                    "the file is cut off or its name has the wrong ending",
                ) from error

    def _unpacked(self, raw: IO[bytes]) -> IO[bytes]:
        match self._path.suffix:
            case ".gz":
                return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb"))
            case ".xz":
                return lzma.open(raw, "rb")
            case ".zst":
                return cast(IO[bytes], io.BufferedReader(ZstdFrames(raw), buffer_size=1 << 16))
            case _:
                return raw
