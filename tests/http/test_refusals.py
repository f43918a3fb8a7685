"""What is refused at the door is refused in the form of every other error."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from sandbox.github import Fault, GitHub
from tests.system import System, running

JSON = "application/json"
CREATE = 'mutation { createSession(input: {title: "T", markdown: "x"}) { cache } }'


def operation(query: object, **others: object) -> bytes:
    return json.dumps({"query": query, **others}).encode()


async def post(system: System, body: bytes, content_type: str = JSON) -> tuple[int, dict[str, Any]]:
    async with system.http.post(
        f"{system.url}/graphql", data=body, headers={"content-type": content_type}
    ) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"null", JSON),
        (b"1", JSON),
        (b"[]", JSON),
        (b'[{"query": "{ __typename }"}]', JSON),
        (b"\xff\xfe\x00", JSON),
        (b"[" * 100_000, JSON),
        (b"{}", JSON),
        (operation(None), JSON),
        (operation(5), JSON),
        (operation(""), JSON),
        (operation("{"), JSON),
        (operation("{ nothing }"), JSON),
        (operation("{ __typename }", variables=[]), JSON),
        (operation("{ __typename }", operationName="Other"), JSON),
        (operation("subscription { x }"), JSON),
        (operation('{ session(id: "a", atLeast: "\ud800") { id } }'), JSON),
        (operation("{" * 5_000), JSON),
        (operation("{ sessions(first: 99999999999) { totalCount } }"), JSON),
        (operation("query ($n: Int!) { sessions(first: $n) { totalCount } }"), JSON),
        (operation("{ __typename }"), "text/plain"),
        (operation("{ __typename }"), "multipart/form-data; boundary=x"),
    ],
)
async def test_what_is_no_operation_is_bad_input_in_words(
    system: System, body: bytes, content_type: str
) -> None:
    _, answer = await post(system, body, content_type)

    assert answer.get("data") is None
    for error in answer["errors"]:
        assert error["extensions"]["code"] == "BAD_INPUT"
        assert error["message"]
        assert "Traceback" not in json.dumps(error)


async def test_a_surrogate_that_was_sent_comes_back_in_an_answer_that_can_be_read(
    system: System,
) -> None:
    query = "mutation ($i: CreateSessionInput!) { createSession(input: $i) { cache } }"
    written = {"title": "T", "markdown": "x", "path": "autosaves/\ud800.md"}

    status, answer = await post(system, operation(query, variables={"i": written}))

    assert (status, answer["errors"][0]["extensions"]["code"]) == (200, "BAD_INPUT")


async def test_a_mutation_is_not_carried_out_by_get(system: System) -> None:
    head = system.github.head

    async with system.http.get(f"{system.url}/graphql", params={"query": CREATE}) as response:
        answer = await response.json()

    assert answer["errors"][0]["extensions"]["code"] == "BAD_INPUT"
    assert system.github.head == head


async def test_the_payload_of_a_webhook_is_not_read_beyond_its_limit(
    github: GitHub, database_url: str
) -> None:
    async def endless() -> Any:
        for _ in range(1_000):
            yield b"x" * 1_000_000

    async with running(github, database_url, {"GITHUB_WEBHOOK_SECRET": "s"}) as system:
        try:
            async with system.http.post(
                f"{system.url}/webhooks/github", data=endless()
            ) as response:
                assert response.status == 413
        except aiohttp.ClientOSError:
            pass  # it hung up while we still sent


async def test_readyz_answers_many_though_both_stores_are_mute(
    github: GitHub,
) -> None:
    environment = {"MASTER_TIMEOUT_SECONDS": "300", "DATABASE_TIMEOUT_SECONDS": "300"}
    url = "postgresql://u@/d?host=/nonexistent"
    async with running(github, url, environment) as system:
        github.faults.add(Fault(kind="hang", operation="query", count=None))

        async def ready() -> tuple[int, set[str]]:
            async with system.http.get(f"{system.url}/readyz") as response:
                return response.status, set((await response.json())["down"])

        answers = await asyncio.gather(*(ready() for _ in range(50)))

    assert answers == [(503, {"postgres", "github", "redis"})] * 50
