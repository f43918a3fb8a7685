"""What docs/runbook.md and README.md tell an operator to type and set exists, and links lead on."""

import re
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from api.cli import main
from api.gateway.errors import GatewayError
from api.settings import Settings
from workers.alerts import Kind

ROOT = Path(__file__).resolve().parents[1]
RUNBOOK, README = ROOT / "docs/runbook.md", ROOT / "README.md"
PAGES = pytest.mark.parametrize("page", [RUNBOOK, README], ids=lambda page: page.name)


@PAGES
def test_every_command_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/])annoris ([a-z][a-z-]*)", page.read_text()))

    assert named
    assert named <= main.commands.keys()


@PAGES
def test_every_option_is_one_of_the_commands_that_its_line_names(page: Path) -> None:
    lines = [line for line in page.read_text().splitlines() if "annoris " in line]
    checked = 0

    for line in lines:
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line))
        names = re.findall(r"(?<![\w/])annoris ([a-z][a-z-]*)", line)
        known = {option for name in names for option in options_of(main.commands[name])}
        assert options <= known, line
        checked += len(options)

    assert checked


@PAGES
def test_every_setting_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", page.read_text()))
    settings = {name.upper() for name in Settings.model_fields}

    assert named & settings
    assert named - settings <= answered()


@pytest.mark.parametrize("kind", Kind)
def test_every_alert_has_an_entry_by_its_name(kind: Kind) -> None:
    [target] = re.findall(
        rf"^\| alert: {re.escape(kind)} \| \[[^\]]*\]\(#([^)]*)\) \|$",
        RUNBOOK.read_text(),
        re.MULTILINE,
    )

    assert target in anchors(RUNBOOK)


@PAGES
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text())

    assert links
    for link in links:
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def options_of(command: click.Command) -> set[str]:
    """Its own, and those of the commands that it groups."""
    own = {option for parameter in command.params for option in parameter.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(options_of, below))


def answered() -> set[str]:
    """What answers spell like settings: codes of errors, and the values of the schema's enums."""
    codes = {kind.code for kind in GatewayError.__subclasses__()}
    schema = (ROOT / "schema.graphql").read_text()
    return codes | set(re.findall(r"^  ([A-Z][A-Z_]*)$", schema, re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
