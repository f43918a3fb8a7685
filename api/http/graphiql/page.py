"""The HTML of GET /graphql."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template

from api.http.graphiql.assets import GRAPHIQL, SCRIPT, STYLE, WORKERS
from api.http.graphiql.tabs import DEFAULT_TABS, Tab

PAGE_HEADERS = {
    # The page carries the rest of its policy itself, but browsers take this part from here only.
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

_TEMPLATE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_INLINE_SCRIPT = _TEMPLATE.partition('<script type="module">')[2].partition("</script>")[0]


def page(assets: Path | None, tabs: Sequence[Tab] = DEFAULT_TABS) -> str:
    """GraphiQL over the address that the page itself has.

    With `assets` (from `installed_assets`) the browser talks to the gateway alone, without them
    it loads the same files from the CDN. Either way it refuses a file that is not the pinned one.
    """
    installed = assets is not None
    values = {
        "policy": _policy(installed=installed),
        "style": GRAPHIQL.url(STYLE, installed=installed),
        "style_integrity": GRAPHIQL.asset(STYLE).integrity,
        "script": GRAPHIQL.url(SCRIPT, installed=installed),
        "script_integrity": GRAPHIQL.asset(SCRIPT).integrity,
    }
    escaped = {name: html.escape(value, quote=True) for name, value in values.items()}
    settings = _settings(tabs, installed=installed)
    return Template(_TEMPLATE).substitute(escaped, settings=settings)


def _policy(*, installed: bool) -> str:
    """The Content-Security-Policy: whatever an answer contains, no page or script of others."""
    digest = hashlib.sha256(_INLINE_SCRIPT.encode()).digest()
    inline = f"'sha256-{base64.b64encode(digest).decode()}'"
    files = "'self'" if installed else GRAPHIQL.cdn
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {inline} {files}",
            f"style-src 'unsafe-inline' {files}",  # the editor makes its colours at run time
            "font-src data:",
            "img-src data:",
            "connect-src 'self'" if installed else f"connect-src 'self' {files}",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _settings(tabs: Sequence[Tab], *, installed: bool) -> str:
    """What the inline script reads, as JSON that cannot end its element: {workers, props}."""
    settings = {
        "workers": {
            label: {
                "url": GRAPHIQL.url(name, installed=installed),
                "integrity": GRAPHIQL.asset(name).integrity,
            }
            for label, name in WORKERS.items()
        },
        "props": {
            "title": "Annoris Gateway",
            "logo": "",
            "query": None,  # the bundle's own welcome text would take the first tab's place
            "defaultTabs": [asdict(tab) for tab in tabs],
            # API keys are typed into the headers: they stay in the page's memory.
            "shouldPersistHeaders": False,
            "showPersistHeadersSettings": False,
        },
    }
    return json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c")
