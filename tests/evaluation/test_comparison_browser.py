"""The page of a comparison in a real browser: light and dark, phone and desk, keyboard, hostile texts, no request."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evaluation.comparison import compare_runs
from evaluation.comparison_report import write_comparison
from evaluation.evaluation_suite import read_suites
from tests.evaluation.evaluations import block, record, write
from tests.evaluation.reports import NASTY
from tests.evaluation.viewer.chromium import browser

pytestmark = pytest.mark.slow

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BEFORE, AFTER = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0] * 5, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0] * 5


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    made = [record(em, comparability=block(model={"name": NASTY + str(i)})) for i, em in enumerate((BEFORE, AFTER))]
    for written in made:
        written["per_question"]["question"][1] = NASTY
        written["per_question"]["golden_answers"][1] = [NASTY]
    paths = [write(folder / name, m, trajectories=True) for name, m in zip(("old", "new"), made, strict=True)]
    return write_comparison(folder / "report", compare_runs(read_suites(paths)))


@contextmanager
def opened(chromium: Any, file: Path, **options: Any) -> Iterator[Any]:
    """The page with the browser's complaints in `page.complaints` and its requests in `page.asked`."""
    context = chromium.new_context(**options)
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    page.on("request", lambda request: page.asked.append(request.url))
    try:
        page.goto(file.as_uri())
        yield page
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_it_is_accessible_fits_and_asks_nobody(
    chromium: Any, page_file: Path, size: dict[str, int], scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(chromium, page_file, viewport=size, color_scheme=scheme) as page:
        page.wait_for_selector("#chart-differences .main-svg")
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page itself scrolls sideways"
        assert page.complaints == []
        assert page.asked == [page_file.as_uri()]
        red, green, blue = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert (red + green + blue < 150) == (scheme == "dark")


def test_a_regression_opens_by_keyboard_and_shows_both_trajectories(chromium: Any, page_file: Path) -> None:
    with opened(chromium, page_file, viewport=DESK) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('details.pair') !== null"):
                break
        assert not page.locator("details.pair article").first.is_visible()
        page.keyboard.press("Enter")
        shown = page.locator("details.pair[open] article")
        assert shown.count() == 2
        assert [shown.nth(i).locator("h3").inner_text() for i in range(2)] == ["old", "new"]
        left, right = (shown.nth(i).bounding_box() for i in range(2))
        assert left["x"] < right["x"]
        assert left["y"] == right["y"], "side by side on a desk"


def test_charts_follow_the_reader_from_light_to_dark(chromium: Any, page_file: Path) -> None:
    with opened(chromium, page_file, viewport=DESK, color_scheme="light") as page:
        label = page.locator("#chart-differences .ytick text").first
        before = label.evaluate("part => getComputedStyle(part).fill")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "before => getComputedStyle(document.querySelector('#chart-differences .ytick text')).fill !== before",
            arg=before,
        )
