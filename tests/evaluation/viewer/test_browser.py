"""The pages in a real browser: dark and light, on a phone, by keyboard, under hostile texts, over a live run.

What a reader cannot see, reach or trust is found here and nowhere else.
"""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from evaluation.viewer.app import create_app
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.runs import Run
from retrieval.server.process import address_of, listening_socket
from retrieval.server.settings import ServerSettings
from tests.evaluation.episodes import good_trajectory
from tests.evaluation.viewer.chromium import browser
from tests.evaluation.viewer.sample_runs import (
    add_trajectories,
    bad_trajectory,
    hostile_run,
    whole_run,
    write_metrics,
    write_run,
)

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


@contextmanager
def served(folder: Path, cache: Path) -> Iterator[tuple[str, Catalogue]]:
    """A viewer on a port of its own, looking every tenth of a second."""
    catalogue = Catalogue([folder], (), cache)
    catalogue.fill()
    listener = listening_socket(ServerSettings(port=0))
    config = uvicorn.Config(create_app(catalogue, poll_s=0.1), log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address_of(listener), catalogue
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A viewer over a whole, another and a hostile run; its address and the pages by name."""
    folder = tmp_path_factory.mktemp("viewed")
    whole_run(folder / "runs" / "first")
    write_run(folder / "runs" / "second run", {1: [bad_trajectory("b"), good_trajectory("c")]}, finished=False)
    hostile_run(folder / "runs" / "<img src=x onerror=window.pwned=4>")
    with served(folder / "runs", folder / "cache") as (address, catalogue):
        yield address, pages(catalogue)


def pages(catalogue: Catalogue) -> dict[str, str]:
    """Every kind of page, over sample and hostile texts."""
    runs: dict[str, Run] = {run.name: run for run in catalogue.runs}
    first, second = runs["first"], runs["second run"]
    nasty = next(run for name, run in runs.items() if "onerror" in name)
    with catalogue.index(nasty).reading() as database:
        row = database.execute("SELECT * FROM trajectory").fetchone()
    from urllib.parse import quote

    return {
        "runs": "/",
        "run": f"/run/{first.key}",
        "trajectories": f"/run/{first.key}/trajectories",
        "trajectory": f"/run/{first.key}/trajectory?id=g-b",
        "tokens by mask": f"/run/{first.key}/trajectory?id=g-a&tokens=mask",
        "tokens by logprob": f"/run/{first.key}/trajectory?id=g-a&tokens=logprob",
        "tokens by advantage": f"/run/{first.key}/trajectory?id=g-a&tokens=advantage",
        "samples": f"/run/{first.key}/group?id=u-q1",
        "paraphrases": f"/run/{first.key}/group?id=u-views",
        "branches": f"/run/{first.key}/group?id=u-tree",
        "compare": f"/compare?a={first.key}&b={second.key}",
        "compare one": f"/compare?a={first.key}&b={second.key}&question=q1",
        "choose": "/compare",
        "ask": "/ask",
        "not there": "/run/none",
        "hostile run": f"/run/{nasty.key}",
        "hostile list": f"/run/{nasty.key}/trajectories",
        "hostile trajectory": f"/run/{nasty.key}/trajectory?at={row['segment']}-{row['offset']}&tokens=logprob",
        "hostile group": f"/run/{nasty.key}/group?id={quote(row['unit_id'], '')}",
        "hostile question": f"/compare?a={nasty.key}&b={nasty.key}&question={quote(row['question_id'], '')}",
    }


PAGES = (
    *("runs", "run", "trajectories", "trajectory", "tokens by mask", "tokens by logprob", "tokens by advantage"),
    *("samples", "paraphrases", "branches", "compare", "compare one", "choose", "ask", "not there"),
    *("hostile run", "hostile list", "hostile trajectory", "hostile group", "hostile question"),
)


@contextmanager
def opened(chromium: Any, address: str, path: str, **options: Any) -> Iterator[Any]:
    """A page, with every complaint of the browser kept in `page.complaints` and every request in `page.asked`."""
    context = chromium.new_context(**options)
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    try:
        page.goto(address + path)
        yield page
    finally:
        context.close()


def violations(page: Any) -> list[tuple[str, list[str]]]:
    """What axe-core calls serious or critical, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]


def test_the_check_sees_a_page_that_is_not_accessible(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, _ = viewer
    with opened(chromium, address, "/") as page:
        page.set_content("<main><img src='data:,'><p id=faint>hardly to be seen</p><select></select></main>")
        page.evaluate("faint.style.color = '#ddd'")
        assert {name for name, _ in violations(page)} >= {"image-alt", "color-contrast", "select-name"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_quiet_on_desk_and_phone(
    chromium: Any, viewer: tuple[str, dict[str, str]], name: str, scheme: str
) -> None:
    address, paths = viewer
    for size in (DESK, PHONE):
        with opened(chromium, address, paths[name], viewport=size, color_scheme=scheme) as page:
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                "the page itself scrolls sideways"
            )
            wanted = [text for text in page.complaints if "404 (Not Found)" not in text or name != "not there"]
            assert wanted == []
            assert {url.split("/")[2] for url in page.asked} == {address.split("/")[2]}, "it asks somewhere else"
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) is (scheme == "dark")


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("hostile")])
def test_hostile_texts_run_nothing_and_can_be_read(
    chromium: Any, viewer: tuple[str, dict[str, str]], name: str
) -> None:
    address, paths = viewer
    with opened(chromium, address, paths[name]) as page:
        page.wait_for_timeout(150)
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert "onerror" in page.inner_text("main")
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        assert page.evaluate("window.pwned") is None


def test_a_live_run_is_followed_without_reloading(chromium: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "live", {1: [good_trajectory("a")]}, steps=2, finished=False)
    with served(tmp_path / "runs", tmp_path / "cache") as (address, catalogue):
        (key,) = [run.key for run in catalogue.runs]
        with (
            opened(chromium, address, "/") as listed,
            opened(chromium, address, f"/run/{key}") as curves,
            opened(chromium, address, f"/run/{key}/trajectories") as table,
        ):
            for page in (listed, curves, table):
                page.evaluate("window.sameDocument = true")
                page.wait_for_selector("#live:not([hidden])")
            before = curves.locator("svg.curve .line").first.get_attribute("d")
            write_metrics(run, range(3, 9))
            add_trajectories(run, {2: [bad_trajectory("late")]})
            curves.wait_for_selector("text=step 8")
            curves.wait_for_function(
                "old => document.querySelector('svg.curve .line').getAttribute('d') !== old", arg=before
            )
            table.wait_for_selector("text=2 of 2 trajectories")
            table.wait_for_selector("td:has-text('Bergen')")
            listed.wait_for_selector(".run-numbers:has-text('8')")
            for page in (listed, curves, table):
                assert page.evaluate("window.sameDocument") is True and page.complaints == []
            shutil.rmtree(run)
            curves.wait_for_selector("text=The folder of this run is gone")
            listed.wait_for_selector(".state-gone")


def test_everything_is_reached_by_keyboard(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, _ = viewer
    with opened(chromium, address, "/") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(9):
            page.keyboard.press("j")
            if page.evaluate("document.activeElement.textContent") == "first":
                break
        page.keyboard.press("Enter")
        page.wait_for_url("**/run/first-*")
        page.get_by_role("link", name="Trajectories").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/trajectories")
        page.keyboard.press("/")
        page.keyboard.type("bergen")
        page.keyboard.press("Enter")
        page.wait_for_url("**text=bergen**")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/trajectory?at=*")
        before = page.url
        page.keyboard.press("[")
        page.wait_for_function("old => location.href !== old", arg=before)
        page.keyboard.press("]")
        page.wait_for_url(before)
        page.get_by_role("link", name="by logprob").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#tokens .tok.lp1")
        assert "tokens=logprob" in page.url and page.complaints == []


def test_every_stop_of_the_tab_key_can_be_seen(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, paths = viewer
    for name in ("trajectory", "branches", "trajectories"):
        with opened(chromium, address, paths[name]) as page:
            stops = 0
            for _ in range(80):
                page.keyboard.press("Tab")
                stop = page.evaluate(
                    "() => { const e = document.activeElement; if (e === document.body) return null;"
                    "const s = getComputedStyle(e);"
                    "return [e.outerHTML.slice(0, 90), s.outlineStyle, s.outlineWidth]; }"
                )
                if stop is None:
                    break
                stops += 1
                assert stop[1] != "none" and stop[2] != "0px", stop[0]
            assert stops > 10, name


def test_curves_tell_their_values_under_the_pointer(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, paths = viewer
    with opened(chromium, address, paths["run"]) as page:
        page.locator("svg.curve").first.hover()
        tip = page.locator(".tip").inner_text()
        assert tip.startswith("step ") and "sampled" in tip
        page.mouse.move(1, 1)
        assert page.locator(".tip").count() == 0


def test_curves_tell_their_values_by_the_arrow_keys(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, paths = viewer
    with opened(chromium, address, paths["run"]) as page:
        page.locator("svg.curve").first.focus()
        page.keyboard.press("ArrowRight")
        first = page.locator(".tip").inner_text()
        page.keyboard.press("ArrowRight")
        assert first.startswith("step 1") and page.locator(".tip").inner_text().startswith("step 2")
        page.keyboard.press("Tab")
        assert page.locator(".tip").count() == 0


def test_a_question_is_sent_by_the_form_itself(chromium: Any, tmp_path: Path) -> None:
    """A browser that hides where a form comes from would be refused as a stranger's page."""
    run = whole_run(tmp_path / "runs" / "first")
    config = (run / "config.yaml").read_text().replace("data:", "data:\n  index: nowhere/at/all")
    (run / "config.yaml").write_text(config)
    with (
        served(tmp_path / "runs", tmp_path / "cache") as (address, _),
        opened(chromium, address, "/ask", java_script_enabled=False) as page,
    ):
        page.get_by_role("textbox").fill("Who?")
        page.get_by_role("button", name="Ask").click()
        assert page.locator("#asked .troubles").count() == 1


def test_the_theme_is_switched_and_stays(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, paths = viewer
    with opened(chromium, address, "/", color_scheme="light") as page:
        page.get_by_role("button", name="Switch between light and dark").click()
        page.goto(address + paths["trajectory"])
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_page_works_without_its_script(chromium: Any, viewer: tuple[str, dict[str, str]]) -> None:
    address, paths = viewer
    with opened(chromium, address, paths["trajectories"], java_script_enabled=False) as page:
        page.get_by_role("searchbox").fill("bergen")
        page.get_by_role("button", name="Filter").click()
        page.locator("tbody th a").first.click()
        page.get_by_role("link", name="by mask").click()
        assert page.locator("#tokens .tok.sampled").count() > 0
