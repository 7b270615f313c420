"""Debian's Chromium for the tests of the page; where it is missing they fail, because a skipped test proves nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""No sandbox, because tests run as root in containers; no request of the browser's own."""

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    """Path of the browser: WAYMARK_CHROMIUM, else one on the PATH."""
    named = os.environ.get("WAYMARK_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        pytest.fail(
            "the tests of the viewer's pages need Chromium: apt-get install chromium (./scripts/test.sh --all does it "
            "where it may), or name one with WAYMARK_CHROMIUM",
            pytrace=False,
        )
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        try:
            yield running
        finally:
            running.close()
