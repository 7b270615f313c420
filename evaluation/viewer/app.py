"""The viewer as a web application: addresses to pages, all made on the server. No page changes anything on the disk."""

import asyncio
import json
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote

import jinja2
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from evaluation.page_templates import page_environment
from evaluation.report import format_number, format_signed
from evaluation.viewer.ask_desk import MOST_CHARACTERS, AskDesk
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.curve_svg import Line
from evaluation.viewer.live import POLL_S, Snapshot, events
from evaluation.viewer.run_pages import index_counts, list_page, run_page, trajectories_page
from evaluation.viewer.runs import Run
from evaluation.viewer.security import LOCAL_NAMES, Guard
from evaluation.viewer.trajectory_filter import written
from evaluation.viewer.trajectory_pages import (
    PageError,
    compare_page,
    group_page,
    place,
    tokens_part,
    trajectory_page,
)

PART_ENDS = "\x1e"
_MOST_BODY = 100_000
STATIC = {"viewer.css": "text/css", "viewer.js": "text/javascript", "icon.svg": "image/svg+xml"}


def templates() -> jinja2.Environment:
    """The pages' templates: every value is escaped, and a name that is missing is an error."""
    environment = page_environment("evaluation.viewer")
    environment.filters |= {
        "number": format_number,
        "signed": format_signed,
        "q": lambda text: quote(str(text), "", errors="replace"),
    }
    environment.globals |= {"place": place, "points_json": points_json, "written": written}
    return environment


def points_json(lines: Sequence[Line]) -> str:
    """The points of a curve as its page's script reads them, five digits each."""
    rounded = [
        {"name": line.name, "points": [[float(f"{x:.8g}"), float(f"{y:.5g}")] for x, y in line.points]}
        for line in lines
    ]
    return json.dumps(rounded, separators=(",", ":"))


def create_app(
    catalogue: Catalogue, *, hosts: Collection[str] = LOCAL_NAMES, poll_s: float = POLL_S, fill: bool = True
) -> FastAPI:
    """The application over a catalogue.

    Args:
        catalogue: the runs.
        hosts: names under which the page may be asked for (`evaluation.viewer.security`).
        poll_s: how often a live page is looked after.
        fill: whether indexes are filled on a thread while the application runs.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if fill:
            catalogue.start()
        yield
        catalogue.stop()

    app = FastAPI(title="Waymark viewer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.add_middleware(Guard, hosts=hosts)
    environment = templates()
    desk, asked = AskDesk(catalogue), environment.get_template("asked.html.j2")

    def render(name: str, context: dict[str, Any], status: int = 200) -> HTMLResponse:
        text = environment.get_template(name).render(**context)
        return HTMLResponse(text.encode("utf-8", "replace"), status_code=status)

    def run_of(key: str) -> Run:
        catalogue.runs.look(every_s=1.0)
        run = catalogue.runs.get(key)
        if run is None:
            raise PageError(404, f"There is no run {key!r} below the folders that are viewed.")
        return run

    @app.exception_handler(PageError)
    def not_there(request: Request, error: PageError) -> Response:
        return render("trouble.html.j2", {"message": str(error), "status": error.status}, error.status)

    @app.exception_handler(HTTPException)
    def no_page(request: Request, error: HTTPException) -> Response:
        message = "There is no such page." if error.status_code == 404 else str(error.detail)
        return render("trouble.html.j2", {"message": message, "status": error.status_code}, error.status_code)

    @app.exception_handler(sqlite3.DatabaseError)
    def busy(request: Request, error: sqlite3.DatabaseError) -> Response:
        message = f"The index of this run cannot be read just now ({error}); load the page again."
        return render("trouble.html.j2", {"message": message, "status": 503}, 503)

    @app.get("/")
    def runs() -> Response:
        return render("runs.html.j2", list_page(catalogue))

    @app.get("/run/{key}")
    def run(key: str) -> Response:
        return render("run.html.j2", run_page(catalogue, run_of(key)))

    @app.get("/run/{key}/trajectories")
    def trajectories(key: str, request: Request) -> Response:
        return render("trajectories.html.j2", trajectories_page(catalogue, run_of(key), request.query_params))

    @app.get("/run/{key}/trajectory")
    def trajectory(key: str, request: Request) -> Response:
        return render("trajectory.html.j2", trajectory_page(catalogue, run_of(key), request.query_params))

    @app.get("/run/{key}/tokens")
    def tokens(key: str, request: Request) -> Response:
        return render("tokens.html.j2", tokens_part(catalogue, run_of(key), request.query_params))

    @app.get("/run/{key}/group")
    def group(key: str, request: Request) -> Response:
        return render("group.html.j2", group_page(catalogue, run_of(key), request.query_params))

    @app.get("/compare")
    def compare(request: Request) -> Response:
        return render("compare.html.j2", compare_page(catalogue, request.query_params))

    @app.get("/ask")
    def ask_form(request: Request) -> Response:
        return ask_page(request.query_params.get("run", ""), "", [])

    def ask_page(chosen: str, question: str, events: Sequence[Markup]) -> Response:
        context = {"runs": desk.choices(), "chosen": chosen, "question": question, "events": events}
        return render("ask.html.j2", {**context, "most": MOST_CHARACTERS})

    @app.post("/ask")
    async def ask(request: Request) -> Response:
        """The turns as they come, a separator after each, for the page's script; without it the whole page."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BODY:
                raise PageError(413, "That is too long for a question.")
        fields = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        run, question = fields.get("run", ""), fields.get("question", "")

        def parts() -> Iterator[str]:
            try:
                happens: Iterator[Any] = desk.ask(desk.job(run_of(run), question))
                for event in happens:
                    yield asked.render(event=event)
            except (ValueError, OSError, PageError) as error:
                yield asked.render(event=str(error))

        if request.headers.get("x-part") is None:
            events = await asyncio.to_thread(lambda: [Markup(part) for part in parts()])
            return ask_page(run, question, events)
        return StreamingResponse((part + PART_ENDS for part in parts()), media_type="text/html; charset=utf-8")

    def stream(request: Request, look: Callable[[], Snapshot]) -> Response:
        return StreamingResponse(events(look, request.is_disconnected, every_s=poll_s), media_type="text/event-stream")

    @app.get("/events")
    def list_events(request: Request) -> Response:
        return stream(request, lambda: {"runs": [[r.key, r.state, r.last_written] for r in catalogue.runs]})

    @app.get("/run/{key}/events")
    def run_events(key: str, request: Request) -> Response:
        one = run_of(key)
        return stream(request, lambda: snapshot(catalogue, one))

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise PageError(404, "There is no such file.")
        text = (resources.files("evaluation.viewer") / "static" / name).read_text(encoding="utf-8")
        return PlainTextResponse(text, media_type=STATIC[name])

    return app


def snapshot(catalogue: Catalogue, run: Run) -> Snapshot:
    """What a live page of a run is told: when one of these changes, it asks for itself again."""
    run.metrics.refresh()
    counts = index_counts(catalogue, run)
    numbers = {k: v for k, v in run.metrics.last.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    figures = {k: v for k, v in numbers.items() if abs(v) < math.inf}  # JSON has no other numbers
    return {
        "state": run.state,
        "step": figures.get("step"),
        "alarms": len(run.alarms),
        "trajectories": counts["total"],
        "read": counts["read"],
        "damaged": counts["damaged"] + counts["bad_lines"],
        "last": figures,
    }
