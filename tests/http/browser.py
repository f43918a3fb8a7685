"""GraphiQL in a real browser: headless Chromium, as the system has it installed."""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Response, Route, expect, sync_playwright

PATIENCE = 30_000.0
"""Milliseconds that any one condition may take. On an idle machine all take a second."""

_ARGUMENTS = (
    "--no-sandbox",  # Chromium refuses to run as root with one, and containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_QUERY = ".graphiql-query-editor"
_TOOL = ".graphiql-editor-tool .graphiql-editor:not(.hidden)"

_PASTE = """(area, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    area.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


def chromium() -> str:
    """Path of the browser. Skips the test where there is none."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser on PATH, looked for {', '.join(_NAMES)}")


def run_query_in_browser(url: str, *, query: str | None = None, headers: str | None = None) -> str:
    """Open GraphiQL, run a query as a person would, return the answer's JSON as it came.

    Without `query` the first tab's default query runs. `headers` is typed into the headers
    editor, as JSON. Fails if the page asks any other machine for anything, or if the browser's
    console shows an error.
    """
    with graphiql(url) as page:
        if query is not None:
            write_query(page, query)
        if headers is not None:
            write_headers(page, headers)
        return run_query(page)


@contextmanager
def graphiql(url: str, cdn: Mapping[str, Path] | None = None) -> Iterator[Page]:
    """GraphiQL, opened in a new browser with an empty profile, its editor and schema loaded.

    `cdn` maps addresses on other machines to the files that stand in for them; all other
    requests that leave this machine are refused and fail the test when the block ends.
    """
    program = chromium()
    files = cdn or {}
    strays: list[str] = []
    errors: list[str] = []

    def guard(route: Route) -> None:
        address = route.request.url
        if urlsplit(address).hostname in _LOOPBACK or address.startswith(("data:", "blob:")):
            route.fallback()
        elif address in files:
            allowed = {"Access-Control-Allow-Origin": "*"}
            route.fulfill(path=files[address], headers=allowed)
        else:
            strays.append(address)
            route.abort()

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=_ARGUMENTS) as browser,
        browser.new_page(viewport={"width": 1400, "height": 1000}) as page,
    ):
        page.set_default_timeout(PATIENCE)
        page.route("**", guard)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        with page.expect_response(_is_introspection, timeout=PATIENCE):
            page.goto(url)
        page.locator(f"{_QUERY} .view-line").first.wait_for()
        yield page
        assert strays == []
        assert errors == []


def open_tab(page: Page, name: str) -> None:
    """Go to the tab of the operation with this name."""
    page.get_by_role("button", name=name, exact=True).click()
    _wait_until_read(page, name)


def write_query(page: Page, text: str) -> None:
    _write(page.locator(_QUERY), text)
    _wait_until_read(page, text)


def write_headers(page: Page, text: str) -> None:
    page.get_by_role("button", name="Headers", exact=True).click()
    _write(page.locator(_TOOL), text)


def _wait_until_read(page: Page, query: str) -> None:
    """The page reads its editor a moment later, and would run the former operation till then."""
    wait_until_stored(page, "graphiql:query", query)


def _write(editor: Locator, text: str) -> None:
    """Replace what an editor contains, by pasting: it closes brackets that are typed."""
    editor.locator(".view-lines").click()
    editor.page.keyboard.press("Control+A")
    editor.locator("textarea").evaluate(_PASTE, text)


def wait_until_stored(page: Page, key: str, part: str) -> None:
    """Wait until the page's local storage has this text as a part of this key's value."""
    deadline = time.monotonic() + PATIENCE / 1000
    # Asked again and again, as the page's policy forbids the conditions that are sent to it.
    while part not in (page.evaluate("key => localStorage.getItem(key)", key) or ""):
        assert time.monotonic() < deadline, f"{part!r} did not get into {key}"
        page.wait_for_timeout(20)


def run_query(page: Page) -> str:
    """Press the run button, wait until the answer shows, return its JSON as it came."""
    with page.expect_response(_is_answer) as posted:
        page.get_by_role("button", name="Execute query").click()
    answer = posted.value.text()
    # The pane shows what fits on the screen, so its beginning is what can be waited for.
    beginning = "".join(json.dumps(json.loads(answer), ensure_ascii=False).split())[:40]
    spaced = re.compile(r"\s*".join(map(re.escape, beginning)))
    expect(page.locator(".result-window .view-lines")).to_contain_text(spaced, timeout=PATIENCE)
    return answer


def _is_introspection(response: Response) -> bool:
    return "__schema" in (response.request.post_data or "")


def _is_answer(response: Response) -> bool:
    return response.request.method == "POST" and not _is_introspection(response)
