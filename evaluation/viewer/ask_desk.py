"""Questions asked from the page: one at a time, of the policy of a viewed run, as it was trained.

The episode runs on a thread with an event loop of its own, so that loading a model holds up no other page. It is opened
for each question and closed after it: what the page keeps in memory between two questions is nothing.
"""

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.question_book import found_from
from evaluation.viewer.runs import Run

if TYPE_CHECKING:
    from evaluation.ask_job import AskJob
    from evaluation.asked_turn import AskedEnd, AskedTurn

MOST_CHARACTERS = 4_000


class AskDesk:
    """The place where questions are asked."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._busy = threading.Lock()

    def choices(self) -> list[Run]:
        """Runs that have a policy and name what it searches."""
        return sorted((run for run in self._catalogue.runs if _can_be_asked(run)), key=lambda run: run.name)

    def job(self, run: Run, question: str) -> "AskJob":
        """What is asked of a run.

        Raises:
            ValueError: a question that is empty or too long, a run that cannot be asked, or one whose model brings code
                of its own, which a page does not run.
        """
        from evaluation.ask_job import AskJob

        if not question.strip() or len(question) > MOST_CHARACTERS:
            raise ValueError(f"a question has 1 to {MOST_CHARACTERS} characters; this one has {len(question.strip())}")
        if not _can_be_asked(run):
            raise ValueError(f"{run.name} has no policy yet, or its config names no index")
        index = run.config["data"]["index"]
        if isinstance(index, str) and "://" not in index:
            index = str(found_from(Path(index), run.path))
        known = self._catalogue.questions.file_with(question, run.path, run.config)
        job = AskJob(policy=str(run.path), index=index, question=question, questions=known)
        if job.settings().trust_remote_code:  # of the config that the episode goes by, wherever below the run it lies
            raise ValueError("this run's model brings code of its own; ask it with: waymark ask")
        return job

    def ask(self, job: "AskJob") -> "Iterator[AskedTurn | AskedEnd | str]":
        """Each turn, and the end; a sentence where something failed. Only one caller at a time is served."""
        if not self._busy.acquire(blocking=False):
            yield "Another question is being asked; wait until it is answered."
            return
        told: queue.Queue[Any] = queue.Queue()
        left = threading.Event()
        try:
            worker = threading.Thread(target=self._follow, args=(job, told, left), name="waymark-view-ask", daemon=True)
            worker.start()
            while (event := told.get()) is not None:
                yield event
        finally:
            left.set()  # the reader went away: the episode ends with its turn
            worker.join(timeout=0.1)

    def _follow(self, job: "AskJob", told: "queue.Queue[Any]", left: threading.Event) -> None:
        from evaluation.ask import follow

        async def all_events() -> None:
            async with aclosing(follow(job)) as events:
                async for event in events:
                    told.put(event)
                    if left.is_set():
                        return

        try:
            asyncio.run(all_events())
        except Exception as error:  # whatever a model or an index raises belongs on the page, not in a dead stream
            told.put(f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
        finally:
            self._busy.release()
            told.put(None)


def _can_be_asked(run: Run) -> bool:
    data = run.config.get("data")
    has_policy = (run.path / "model").is_dir() or any((run.path / "checkpoints").glob("step-*/model"))
    return has_policy and isinstance(data, dict) and bool(data.get("index"))
