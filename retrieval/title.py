"""How titles are compared, and the 64-bit keys that they are looked up by.

Folded titles are Unicode-normalised (NFC), without case (`str.casefold`, so `STRASSE` finds `Straße`), with underscores
as spaces, and with every run of whitespace as one space and none at the ends. Accents, punctuation and words stay:
`Zurich` does not find `Zürich`.

The upper 40 bits of a key come from the folded title and the lower 24 from the title as it is. In a sorted array of
keys all ways to write a title stand together, and the passages of each way stand together among them.
"""

import unicodedata
from zlib import crc32

from retrieval.id_ledger import id_hash

MAX_PASSAGES_PER_TITLE = 20
"""How many passages of one title are given unless the caller asks for more."""

_WRITTEN_BITS = (1 << 24) - 1


def fold_title(title: str) -> str:
    """The form in which titles are compared.

    >>> fold_title("  The  STRASSE\\n") == fold_title("the_Straße")
    True
    """
    folded = title.lower() if title.isascii() else _folded_unicode(title)
    return " ".join(folded.replace("_", " ").split())


def title_key(folded: str, title: str) -> int:
    """The key of a title, the same in every process and version; `folded` is its `fold_title`.

    Raises:
        UnicodeEncodeError: it holds half a surrogate pair, as no title of a corpus does.
    """
    return (id_hash(folded) & ~_WRITTEN_BITS) | (crc32(title.encode("utf-8")) & _WRITTEN_BITS)


def keys_of_folded(folded: str) -> tuple[int, int]:
    """The first and the last key that a title with this folded form can have.

    Raises:
        UnicodeEncodeError: it holds half a surrogate pair.
    """
    first = id_hash(folded) & ~_WRITTEN_BITS
    return first, first | _WRITTEN_BITS


def check_limit(limit: int) -> int:
    """A number of passages of one title.

    Raises:
        ValueError: it is less than 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; ask for at least 1 passage of a title")
    return limit


def _folded_unicode(title: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", title).casefold())
