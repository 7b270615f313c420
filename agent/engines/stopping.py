"""Stop strings across token boundaries, at the price of one table look-up a token.

A token can complete a stop string only if its text contains the string, or begins with a tail of it. That is a table
over the vocabulary; only rows whose token passes it have their last tokens decoded and searched.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

_SLACK_TOKENS = 8  # tokens that decode to nothing may stand inside a stop string

_TOKEN_TEXTS: "WeakKeyDictionary[PreTrainedTokenizerBase, list[str]]" = WeakKeyDictionary()


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of every token on its own, `[vocab]`; read once per tokenizer."""
    texts = _TOKEN_TEXTS.get(tokenizer)
    if texts is None or len(texts) != len(tokenizer):
        ids = [[i] for i in range(len(tokenizer))]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        _TOKEN_TEXTS[tokenizer] = texts
    return texts


class StopStrings:
    """Tells which completion a new token has ended. `may_end` is the table, `[vocab_size]`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...], vocab_size: int) -> None:
        """`vocab_size` is the width of the model's logits; ids that the tokenizer lacks end nothing."""
        self.stop = stop
        self._tokenizer = tokenizer
        self._tail = max((len(text.encode()) for text in stop), default=0) + _SLACK_TOKENS
        tails = tuple({text[i:] for text in stop for i in range(len(text))})
        # A token that is part of a character, or nothing on its own, shows what it is only in its context.
        unclear = any(not text.isascii() for text in stop)
        self.may_end: NDArray[np.bool_] = np.zeros(vocab_size, dtype=np.bool_)
        if stop:
            for i, text in enumerate(token_texts(tokenizer)[:vocab_size]):
                hit = text.startswith(tails) or any(s in text for s in stop) or not text
                self.may_end[i] = hit or (unclear and "\ufffd" in text)

    def ended(self, ids: Sequence[int]) -> bool:
        """True if the last tokens of a completion contain a stop string."""
        tail = list(ids[-self._tail :])
        text = self._tokenizer.decode(tail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(s in text for s in self.stop)
