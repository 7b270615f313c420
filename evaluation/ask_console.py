"""`waymark ask`: follows one question on the console, and returns what was said as JSON types."""

from contextlib import aclosing
from typing import Any

from rich.console import Console
from transformers.utils import logging

from evaluation.ask import asking
from evaluation.ask_job import AskJob
from evaluation.ask_terminal import PASSAGE_CHARS, AskPrinter
from evaluation.asked_turn import AskedEnd


async def ask_on_console(
    job: AskJob, *, shows: bool = True, whole: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Ask, print each turn when it is complete (with `shows`), and return `settings`, `turns` and `end`.

    Raises:
        ValueError, FileNotFoundError: something given cannot be used; the message says what to do.
    """
    logging.disable_progress_bar()
    settings = job.settings()
    printer = AskPrinter(console or Console(highlight=False), passage_chars=None if whole else PASSAGE_CHARS)
    told = f"{settings.policy}, protocol {settings.protocol}, top {settings.limits.top_k} of {job.index}"
    told += f", as in {settings.run_config}" if settings.run_config else ""
    turns: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    async with asking(job) as (asked, question):
        if shows:
            printer.question(question.text, told)
        async with aclosing(asked.ask(question)) as events:
            async for event in events:
                if isinstance(event, AskedEnd):
                    end = event.record()
                    if shows:
                        printer.end(event)
                else:
                    turns.append(event.record())
                    if shows:
                        printer.turn(event)
    return {
        "settings": {
            "policy": settings.policy,
            "index": job.index,
            "protocol": settings.protocol,
            "limits": settings.limits.model_dump(mode="json"),
            "temperature": job.temperature,
            "seed": job.seed,
            "engine": job.engine,
            "run_config": str(settings.run_config) if settings.run_config else None,
        },
        "turns": turns,
        "end": end,
    }
