"""The documents that a policy opens, window by window.

The document that was opened last is kept cut: its windows are often read one after the other. Like the environment
around it, it does no I/O: whoever drives the episode has looked the document up.
"""

from transformers import PreTrainedTokenizerBase

from agent.document import DocumentWindow, Piece, split_document
from agent.observation import window_tokens
from agent.protocol import AgentProtocol
from agent.tools import split_open_argument
from agent.trajectory import ToolCall
from envs.episode_limits import EpisodeLimits
from retrieval.passage import Passage


class DocumentReader:
    """Cuts documents into windows of at most `max_open_tokens` tokens, or of what an observation has room for."""

    def __init__(self, protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, limits: EpisodeLimits) -> None:
        """Raises ValueError where `max_observation_tokens` cannot hold a window of `max_open_tokens`."""
        self._protocol = protocol
        self._tokenizer = tokenizer
        self._max_tokens = window_tokens(protocol, tokenizer, limits.max_observation_tokens, limits.max_open_tokens)
        self._last: tuple[tuple[Passage, ...], list[tuple[Piece, ...]]] | None = None

    def forget(self) -> None:
        """Let go of the document that was opened last."""
        self._last = None

    def window(self, argument: str, result: ToolCall | None) -> DocumentWindow:
        """The window that the argument of `open` asks for, of the document that was found.

        `result` is None for a document that was not looked up because the budget was used up.
        """
        document, number = split_open_argument(argument)
        if result is None:
            return DocumentWindow(document=document, window=number, refused=True)
        passages = tuple(hit.passage for hit in result.hits)
        if self._last is None or self._last[0] != passages:
            windows = split_document(self._protocol, self._tokenizer, passages, max_tokens=self._max_tokens)
            self._last = (passages, windows)
        windows = self._last[1]
        pieces = windows[number - 1] if 1 <= number <= len(windows) else ()
        return DocumentWindow(document=document, window=number, windows=len(windows), pieces=pieces)
