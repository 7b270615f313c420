"""An asked question on a terminal: each turn with its thought, queries and passages, the answer with its citations.

What documents and models wrote is shown as text and as nothing else: control characters, with which a passage could
move the cursor, set a title or write to a clipboard, and marks that reverse the direction of reading stand as their
code. Colours only where the console is a terminal.
"""

import textwrap
import unicodedata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.asked_turn import AskedCitation, AskedEnd, AskedPassage, AskedTurn

PASSAGE_CHARS = 240
"""Characters of a passage that are shown unless more is asked for."""

ENDINGS = {
    "answered": "answered",
    "no_answer": "ended its text without an answer",
    "turn_limit": "no answer within the turns that it has (--max-turns)",
    "token_limit": "no answer within the tokens that it has (--max-trajectory-tokens)",
    "malformed": "an invalid action, with which this protocol ends the episode",
    "retrieval_outage": "the retriever did not answer",
    "engine_failure": "the engine failed",
    "cut": "cut",
}
"""What each finish reason means to a person."""

_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str, *, lines: bool = False) -> str:
    r"""The text with control characters and direction marks as their codes; line breaks and tabs become spaces.

    With `lines` line breaks stay.

    >>> harmless("\x1b[2J\x07 gone?\n")
    '\\x1b[2J\\x07 gone? '
    """
    shown = []
    for character in text:
        if character == "\n" and lines:
            shown.append(character)
        elif character in "\n\r\t\u2028\u2029":
            shown.append(" ")
        elif unicodedata.category(character) in ("Cc", "Cs") or character in _DIRECTIONS:
            shown.append(f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}")
        else:
            shown.append(character)
    return "".join(shown)


def shortened(text: str, characters: int | None) -> str:
    """The beginning of a text, cut at a word, with an ellipsis where something is missing; None cuts nothing."""
    text = " ".join(harmless(text).split())
    if characters is None or len(text) <= characters:
        return text
    return (
        textwrap.shorten(text, characters, placeholder=" ...")
        if " " in text[:characters]
        else text[:characters] + "..."
    )


class AskPrinter:
    """Prints events as they come. `passage_chars` None shows passages whole."""

    def __init__(self, console: Console, *, passage_chars: int | None = PASSAGE_CHARS) -> None:
        self._console = console
        self._passage_chars = passage_chars

    def question(self, text: str, told: str) -> None:
        """What is asked, and in one line how."""
        self._line(("question  ", "bold"), (harmless(text), "bold"))
        self._line((harmless(told), "dim"))

    def turn(self, turn: AskedTurn) -> None:
        """One turn."""
        self._console.print()
        self._line((f"turn {turn.number}", "bold"))
        if turn.thought.strip():
            self._line(("  think   ", "magenta"), (harmless(" ".join(turn.thought.split())), "italic magenta"))
        for name, said in (("judge", turn.judgement), ("goal", turn.goal), ("reflect", turn.reflection)):
            if said is not None:
                self._line((f"  {name:<8}", "blue"), (harmless(str(said)), "blue"))
        if turn.kind == "invalid":
            self._line(("  invalid ", "red"), (harmless(turn.error or "an invalid action"), "red"))
        carried_out = [(call.tool, call.argument, self._outcome(call.status)) for call in turn.calls]
        for tool, argument, outcome in carried_out or [(*request, "  not carried out") for request in turn.requests]:
            self._line((f"  {harmless(tool):<8}", "cyan"), (harmless(argument), "bold cyan"), (outcome, "yellow"))
        for passage in turn.passages:
            self._passage(passage)

    def end(self, end: AskedEnd) -> None:
        """The answer with what it cites, or why there is none."""
        self._console.print()
        if end.answer is not None:
            self._line(("answer    ", "bold green"), (harmless(end.answer) or "(empty)", "bold green"))
        else:
            self._line(("ended     ", "bold red"), (ENDINGS.get(end.finish_reason, harmless(end.finish_reason)), "red"))
        if end.fault:
            self._line(("          ", ""), (shortened(end.fault, 600), "red"))
        for citation in end.citations:
            self._citation(citation)
        if end.golden_answers:
            golds = harmless(" | ".join(end.golden_answers))
            verdict = ("right", "green") if end.exact_match else ("not right", "red")
            self._line(("gold      ", "bold"), (golds, ""), ("  ", ""), verdict)
        told = f"{end.num_turns} turns, {end.num_searches} searches, {end.sampled_tokens} tokens, {end.seconds:.1f} s"
        self._line((told, "dim"))

    def _passage(self, passage: AskedPassage) -> None:
        marks = [name for name, holds in (("gold", passage.is_gold), ("cut", passage.truncated)) if holds]
        if passage.again:
            self._line((f"     [{passage.number}] ", "dim"), (f"{harmless(passage.title)}, shown before", "dim"))
            return
        self._line(
            (f"     [{passage.number}] ", "yellow"),
            (harmless(passage.title), "bold yellow"),
            (f" ({', '.join(marks)})" if marks else "", "green"),
        )
        self._line(("         ", ""), (shortened(passage.text, self._passage_chars), ""))

    def _citation(self, citation: AskedCitation) -> None:
        if citation.passage is None:
            self._line((f"     [{citation.number}] ", "red"), ("was never shown", "red"))
            return
        self._line(
            (f"     [{citation.number}] ", "yellow"),
            (harmless(citation.passage.title), "bold yellow"),
            (": " + shortened(citation.passage.text, self._passage_chars), ""),
        )

    @staticmethod
    def _outcome(status: str) -> str:
        return {"ok": "", "empty": "  found nothing", "error": "  was not answered"}.get(
            status, f"  {harmless(status)}"
        )

    def _line(self, *parts: tuple[str, str]) -> None:
        """Styled parts; on a terminal what does not fit is folded beside the first one, in a pipe nothing is."""
        label, *rest = (Text(part, style) for part, style in parts)
        if not self._console.is_terminal or not rest:
            self._console.print(Text.assemble(label, *rest), soft_wrap=True)
            return
        row = Table.grid()
        row.add_column(width=max(1, label.cell_len), no_wrap=True)
        row.add_column(overflow="fold", ratio=1)
        row.add_row(label, Text.assemble(*rest))
        self._console.print(row)
