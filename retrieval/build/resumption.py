"""Whether an unfinished build is gone on with, and what a person is told about it."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.build.record import BuildRecord, read_record
from retrieval.build.work import WORK_FOLDER, Marks
from retrieval.staging import staging_path

_NUMPY_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Resumption:
    """Asked by `staged_folder` about what an earlier attempt left, and about this one's remains when it fails.

    A folder is worth keeping where it was begun with the same record and something in it is finished.
    """

    def __init__(self, record: BuildRecord, *, resume: bool, notice: Callable[[str], None]) -> None:
        self._record = record
        self._resume = resume
        self._notice = notice
        self._is_first_question = True

    def __call__(self, staging: Path) -> bool:
        """True if what lies in `staging` should stay."""
        entering, self._is_first_question = self._is_first_question, False
        left = read_record(staging)
        marks = staging / WORK_FOLDER / "marks"
        if left is None or not marks.is_dir() or len(Marks(marks)) == 0:
            return False
        differences = left.differences(self._record)
        if not entering:
            return not differences
        if differences or not self._resume:
            why = f"its {', '.join(differences)} differ" if differences else "a resume was not wanted"
            self._notice(f"an unfinished build lay in {staging}; it is cleared away: {why}")
            return False
        self._notice(f"going on with the unfinished build in {staging}")
        return True


@contextmanager
def told_where_it_broke_off(out: Path) -> Iterator[None]:
    """Turn a full disk into an error that names the build and says that it can go on, whoever met it first."""
    try:
        yield
    except Exception as error:
        number = _disk_error(error)
        if number is None:
            raise
        staging = staging_path(out)
        kept = "nothing is left of it"
        if staging.exists():
            kept = f"what is finished is kept in {staging}, and the same call goes on"
        raise OSError(number, f"no room on the disk while building {out} ({os.strerror(number)}); {kept}") from error


def _disk_error(error: Exception) -> int | None:
    """The number of the error if a disk took no more. numpy, faiss and Lucene tell it in their own words."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return error.errno
    text = str(error)
    if os.strerror(errno.ENOSPC) in text or (isinstance(error, OSError) and _NUMPY_SHORT_WRITE.fullmatch(text)):
        return errno.ENOSPC
    return None
