"""GET /graphql in a browser: the page, and the files that it consists of."""

import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from graphql import OperationDefinitionNode, parse, validate

from api.graphql.schema import schema
from api.http.graphiql import assets_router, page
from api.http.graphiql.assets import GRAPHIQL, Asset, Bundle, integrity_of
from api.http.graphiql.tabs import DEFAULT_TABS, Tab
from tests.http.serving import serving

SMALL = Bundle("small", "1.0.0", (Asset("a.js", "dist/a.js", integrity_of(b"let a")),))


def settings_in(html: str) -> dict[str, dict[str, object]]:
    """What the page's script reads: {workers, props}."""
    found = re.search(
        r'<script type="application/json" id="settings">(.*?)</script>', html, re.DOTALL
    )
    assert found is not None
    settings: dict[str, dict[str, object]] = json.loads(found[1])
    return settings


def test_the_page_with_installed_files_names_no_other_host(tmp_path: Path) -> None:
    html = page(tmp_path)
    assert "<title>Annoris Gateway</title>" in html
    assert re.findall(r"https?://\S+", html) == []
    assert f'src="/graphiql/{GRAPHIQL.version}/graphiql.js"' in html


def test_the_page_without_installed_files_loads_the_same_bytes_from_the_cdn() -> None:
    html = page(None)
    package = re.escape(f"{GRAPHIQL.package}@{GRAPHIQL.version}")
    for tag in ("script defer src", 'link rel="stylesheet" href'):
        pattern = (
            rf'<{tag}="https://[^"]+/{package}/dist/[^"]+" integrity="(sha384-[^"]+)" crossorigin'
        )
        found = re.search(pattern, html)
        assert found is not None, tag
        assert found[1] in {asset.integrity for asset in GRAPHIQL.assets}
    for worker in settings_in(html)["workers"].values():
        assert isinstance(worker, dict)
        assert worker["url"].startswith(GRAPHIQL.cdn)
        assert worker["integrity"].startswith("sha384-")


@pytest.mark.parametrize("directory", [None, Path("installed")])
def test_the_policy_allows_the_one_inline_script_by_its_hash(directory: Path | None) -> None:
    html = page(directory)
    [script] = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert found is not None
    policy = found[1].replace("&#x27;", "'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_no_tab_can_break_out_of_the_page() -> None:
    tab = Tab("# </script><script>alert(1)</script>")
    html = page(None, [tab])
    assert "<script>alert" not in html
    assert settings_in(html)["props"]["defaultTabs"] == [{"query": tab.query, "variables": ""}]


def test_keys_typed_into_the_headers_are_not_kept() -> None:
    props = settings_in(page(None))["props"]
    assert props["shouldPersistHeaders"] is False
    assert props["showPersistHeadersSettings"] is False
    assert "headers" not in props


@pytest.mark.parametrize("tab", DEFAULT_TABS, ids=["newest", "verified", "status", "create"])
def test_default_queries_fit_the_schema(tab: Tab) -> None:
    document = parse(tab.query)
    assert validate(schema._schema, document) == []
    [operation] = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    declared = {each.variable.name.value for each in operation.variable_definitions or ()}
    assert set(json.loads(tab.variables or "{}")) == declared


Answer = tuple[int, dict[str, str], bytes]


def get(port: int, path: str) -> Answer:
    """Status, headers and body. The path goes out as it is: a client would tidy it up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def app_with(directory: Path | None, bundle: Bundle) -> FastAPI:
    app = FastAPI()
    app.include_router(assets_router(directory, bundle))
    return app


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server of the small bundle, with a file beside it that is none of it."""
    directory = tmp_path_factory.mktemp("installed")
    (directory / "a.js").write_bytes(b"let a")
    (directory / "secret.txt").write_bytes(b"not for you")
    with serving(app_with(directory, SMALL)) as port:
        yield port


def test_a_file_is_served_for_ever_under_its_version(port: int) -> None:
    status, headers, body = get(port, "/graphiql/1.0.0/a.js")
    assert (status, body) == (200, b"let a")
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/graphiql/1.0.0/",
        "/graphiql/1.0.0/secret.txt",
        "/graphiql/2.0.0/a.js",
        "/graphiql/1.0.0/../1.0.0/secret.txt",
        "/graphiql/1.0.0/%2e%2e/%2e%2e/etc/passwd",
        "/graphiql/1.0.0/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/graphiql/1.0.0/%2fetc/passwd",
        "/graphiql/1.0.0/a.js%00",
        "/graphiql/1.0.0/a.js/..",
    ],
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_without_installed_files_nothing_is_served() -> None:
    with serving(app_with(None, SMALL)) as port:
        assert get(port, "/graphiql/1.0.0/a.js")[0] == 404


def test_every_installed_file_is_served_with_its_type_and_as_pinned(assets: Path) -> None:
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    with serving(app_with(assets, GRAPHIQL)) as port:
        for asset in GRAPHIQL.assets:
            _, headers, body = get(port, GRAPHIQL.url(asset.name, installed=True))
            assert headers["content-type"] == types[Path(asset.name).suffix]
            assert integrity_of(body) == asset.integrity
