"""`annoris up`: the whole system as a newcomer starts it, over real documents."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.clone import Clone, git
from tests.http.browser import run_query_in_browser

LEVELS = ["CACHE", "MASTER", "VERIFIED"]
CORPUS_HEAD = "ef70f1fdb62b1e712d65a5651c2591a8b86b780f"


@dataclass(frozen=True)
class Up:
    """A running `annoris up`."""

    process: subprocess.Popen[str]
    url: str
    clone_url: str
    data: Path

    def ask(self, query: str, **variables: object) -> dict[str, object]:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, object] = json.load(response)
        assert "errors" not in answer, answer
        data = answer["data"]
        assert isinstance(data, dict)
        return data


def start(data: Path, *options: str) -> Up:
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "up", "--port", "0", "--data", str(data), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "GITHUB_TOKEN": "not ours", "DATABASE_URL": "nor this"},
    )
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "curl" in line:
            url = re.search(r"http://\S+(?=/graphql\n)", text)
            clone = re.search(r"git clone (\S+)", text)
            assert url is not None
            assert clone is not None
            return Up(process, url[0], clone[1], data)
    raise AssertionError(f"it did not come up: {text}")


def stop(up: Up, number: signal.Signals = signal.SIGINT) -> list[psutil.Process]:
    """Stop it, and return the processes it left behind."""
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.process.send_signal(number)
    up.process.wait(60)
    if up.process.stdout:
        up.process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    return alive


@pytest.fixture(scope="module")
def up(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = start(tmp_path_factory.mktemp("up") / "data", "--repo", str(corpus))
    try:
        yield running
    finally:
        assert stop(running) == []


@pytest.fixture(scope="module")
def at_start(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a system that nobody has read from or written to says of itself."""
    running = start(tmp_path_factory.mktemp("at_start") / "data", "--repo", str(corpus))
    try:
        return running.ask(
            """{ sessions(first: 100) { totalCount nodes { hot } provenance { source } }
                 projects(first: 100) { totalCount nodes { rank } }
                 cacheStatus { documents hot unreadable } }"""
        )
    finally:
        assert stop(running) == []


@pytest.fixture(scope="module")
def documents(up: Up) -> dict[str, bytes]:
    """Every document of the corpus, as git shows it."""
    bare = up.data / "repository.git"
    listed = git(bare, "ls-tree", "-r", "-z", "--name-only", CORPUS_HEAD).decode().split("\0")
    paths = [path for path in listed if path.endswith(".md")]
    return {path: git(bare, "show", f"{CORPUS_HEAD}:{path}") for path in paths}


def test_all_sessions_and_projects_are_listed_with_true_totals_and_sessions_are_cold(
    at_start: dict[str, object],
) -> None:
    sessions, projects = at_start["sessions"], at_start["projects"]
    assert isinstance(sessions, dict)
    assert isinstance(projects, dict)
    assert (sessions["totalCount"], len(sessions["nodes"])) == (88, 88)
    assert sessions["provenance"] == {"source": "CACHE"}
    assert not any(node["hot"] for node in sessions["nodes"])
    assert (projects["totalCount"], [p["rank"] for p in projects["nodes"]]) == (4, [1, 2, 3, None])
    assert at_start["cacheStatus"] == {"documents": 92, "hot": 4, "unreadable": 0}


@pytest.mark.parametrize("level", LEVELS)
def test_every_document_is_readable_at_every_level_byte_for_byte(
    up: Up, documents: dict[str, bytes], level: str
) -> None:
    answer = up.ask(
        """query All($level: Consistency!) {
          sessions(first: 100, consistency: $level) { nodes { id markdown } }
          projects(first: 100, consistency: $level) { nodes { id markdown } }
        }""",
        level=level,
    )
    read = {
        node["id"]: node["markdown"].encode()
        for found in answer.values()
        if isinstance(found, dict)
        for node in found["nodes"]
    }
    assert {path: read.get(path) for path in documents} == documents
    assert len(documents) == 92


def test_a_push_with_plain_git_arrives(up: Up, tmp_path: Path) -> None:
    clone = Clone.of(up.clone_url, tmp_path / "clone")
    pushed = clone.push({"autosaves/pushed.md": "# Pushed with plain git\n"})

    for _ in range(500):
        status = up.ask("{ cacheStatus { head } }")["cacheStatus"]
        assert isinstance(status, dict)
        if status["head"] == pushed:
            break
        time.sleep(0.02)
    found = up.ask('{ session(id: "autosaves/pushed.md") { title provenance { source } } }')
    assert found["session"] == {
        "title": "Pushed with plain git",
        "provenance": {"source": "CACHE"},
    }


def test_a_session_that_is_created_is_in_the_log_of_the_repository(up: Up) -> None:
    created = up.ask(
        'mutation { createSession(input: {title: "Из теста", markdown: "текст"}) '
        "{ session { id revision } commit { oid } } }"
    )["createSession"]
    assert isinstance(created, dict)

    bare = up.data / "repository.git"
    path = created["session"]["id"]
    assert (
        git(bare, "log", "--format=%H", "-1", "--", path).decode().strip()
        == (created["commit"]["oid"])
    )
    assert git(bare, "rev-parse", f"main:{path}").decode().strip() == created["session"]["revision"]


def test_a_person_opens_graphiql_in_a_browser_and_runs_the_default_query(up: Up) -> None:
    answer = json.loads(run_query_in_browser(f"{up.url}/graphql"))

    assert answer["data"]["sessions"]["provenance"]["source"] == "CACHE"


@pytest.mark.usefixtures("up")
def test_the_original_is_never_written(corpus: Path) -> None:
    assert git(corpus.parent, "bundle", "list-heads", str(corpus)).decode().split()[0] == (
        CORPUS_HEAD
    )


def test_what_was_saved_is_there_after_a_restart_and_nothing_runs_on(tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    created = first.ask(
        'mutation { createSession(input: {title: "Kept", markdown: "x"}) { session { id } } }'
    )["createSession"]
    assert isinstance(created, dict)
    assert stop(first) == []

    second = start(tmp_path / "data")
    found = second.ask(
        "query Kept($id: ID!) { session(id: $id) { title } }", id=created["session"]["id"]
    )

    assert found["session"] == {"title": "Kept"}
    assert stop(second, signal.SIGKILL) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--repo", "/nonexistent"], "/nonexistent"),
        (["--repo", __file__], "neither"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    tmp_path: Path, options: list[str], says: str
) -> None:
    refused(tmp_path, options, says)


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(tmp_path, ["--port", str(taken.getsockname()[1])], "--port")


def refused(tmp_path: Path, options: list[str], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "up", "--data", str(tmp_path / "data"), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "Traceback" not in done.stderr
