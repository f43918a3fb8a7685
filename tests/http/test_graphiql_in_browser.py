"""GraphiQL in a headless Chromium, over an endpoint that knows little more than to greet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import strawberry
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from playwright.sync_api import expect
from strawberry.fastapi import GraphQLRouter

from api.http.graphiql import PAGE_HEADERS, assets_router, page
from api.http.graphiql.assets import GRAPHIQL
from api.http.graphiql.tabs import Tab
from tests.http.browser import (
    graphiql,
    open_tab,
    run_query,
    run_query_in_browser,
    wait_until_stored,
    write_headers,
    write_query,
)
from tests.http.serving import serving

HELLO = '<img src="x" onerror="alert(1)"> **hello** <b>you</b>'
HEADERS = '{"Authorization": "Bearer a-secret-key"}'
TABS = (
    Tab("# A greeting.\nquery Hello {\n  hello\n}\n"),
    Tab("query Other($name: String!) { greet(name: $name) }", '{"name": "Ada"}'),
)


def greet(name: str) -> str:
    return f"Hello, {name}"


def authorization(info: strawberry.Info) -> str | None:
    value: str | None = info.context["request"].headers.get("authorization")
    return value


@strawberry.type
class Query:
    hello: str = strawberry.field(
        resolver=lambda: HELLO, description="Greets. <b>Not HTML</b>, but **Markdown**."
    )
    greet: str = strawberry.field(resolver=greet)
    authorization: str | None = strawberry.field(resolver=authorization)


class Endpoint(GraphQLRouter[object, None]):
    def __init__(self, html: str) -> None:
        super().__init__(strawberry.Schema(Query))
        self._html = html

    async def render_graphql_ide(self, request: Request) -> HTMLResponse:  # noqa: ARG002
        return HTMLResponse(self._html, headers=PAGE_HEADERS)


@contextmanager
def endpoint(directory: Path | None) -> Iterator[str]:
    """Yields the address of a page that uses these files, or the CDN."""
    app = FastAPI()
    app.include_router(Endpoint(page(directory, TABS)), prefix="/graphql")
    app.include_router(assets_router(directory))
    with serving(app) as port:
        yield f"http://127.0.0.1:{port}/graphql"


@pytest.fixture(scope="module")
def url(assets: Path) -> Iterator[str]:
    with endpoint(assets) as url:
        yield url


def test_the_default_query_runs(url: str) -> None:
    assert json.loads(run_query_in_browser(url)) == {"data": {"hello": HELLO}}


def test_a_typed_query_runs_with_the_key_typed_into_the_headers(url: str) -> None:
    answer = run_query_in_browser(url, query="{ authorization }", headers=HEADERS)
    assert json.loads(answer) == {"data": {"authorization": "Bearer a-secret-key"}}


def test_a_typed_key_is_kept_nowhere(url: str) -> None:
    with graphiql(url) as tab:
        write_headers(tab, HEADERS)
        run_query(tab)
        # Tabs are stored half a second after an edit; the later edit comes after the key's.
        write_query(tab, "query Renamed { hello }")
        wait_until_stored(tab, "graphiql:tabState", "Renamed")
        kept = tab.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert "a-secret-key" not in kept + tab.url
        assert tab.context.cookies() == []


def test_edits_stay_out_of_the_address(url: str) -> None:
    with graphiql(url) as tab:
        write_query(tab, "query Renamed { hello }")
        run_query(tab)
        assert tab.url == url


def test_answers_are_shown_as_text(url: str) -> None:
    with graphiql(url) as tab:
        run_query(tab)
        pane = tab.locator(".result-window")
        expect(pane).to_contain_text("<img src=")
        assert pane.locator("img, b, strong").count() == 0


def test_the_documentation_explorer_shows_the_schema_and_no_html(url: str) -> None:
    with graphiql(url) as tab:
        tab.get_by_role("button", name="Show Documentation Explorer").click()
        tab.get_by_role("link", name="Query").click()
        docs = tab.locator(".graphiql-doc-explorer")
        expect(docs).to_contain_text("Greets. <b>Not HTML</b>, but Markdown.")


def test_each_default_tab_runs_with_its_variables(url: str) -> None:
    with graphiql(url) as tab:
        open_tab(tab, "Other")
        assert json.loads(run_query(tab)) == {"data": {"greet": "Hello, Ada"}}


def test_the_same_files_from_the_cdn_work(assets: Path) -> None:
    cdn = {GRAPHIQL.url(each.name, installed=False): assets / each.name for each in GRAPHIQL.assets}
    with endpoint(None) as url, graphiql(url, cdn) as tab:
        assert json.loads(run_query(tab)) == {"data": {"hello": HELLO}}
