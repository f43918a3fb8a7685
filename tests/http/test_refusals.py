"""What is refused at the door is refused in the form of every other error."""

import asyncio
import json

import pytest

from sandbox.github import Fault, GitHub
from tests.http.wire import JSON, post
from tests.system import System, running

CREATE = 'mutation { createSession(input: {title: "T", markdown: "x"}) { cache } }'


def operation(query: object, **others: object) -> bytes:
    return json.dumps({"query": query, **others}).encode()


@pytest.mark.parametrize(
    "body",
    [
        operation("{"),
        operation("{ nothing }"),
        operation("{ __typename }", operationName="Other"),
        operation("subscription { x }"),
        operation('{ session(id: "a", atLeast: "\ud800") { id } }'),
        operation("{" * 5_000),
        operation("{ sessions(first: 99999999999) { totalCount } }"),
        operation("query ($n: Int!) { sessions(first: $n) { totalCount } }"),
    ],
)
def test_what_cannot_be_carried_out_is_bad_input_in_words(door: int, body: bytes) -> None:
    answer = post(door, body).content

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

    async with system.http.post(
        f"{system.url}/graphql", data=operation(query, variables={"i": written}), headers=JSON
    ) as response:
        answer = await response.json()

    assert (response.status, answer["errors"][0]["extensions"]["code"]) == (200, "BAD_INPUT")


async def test_a_mutation_is_not_carried_out_by_get(system: System) -> None:
    head = system.github.head

    async with system.http.get(f"{system.url}/graphql", params={"query": CREATE}) as response:
        answer = await response.json()

    assert answer["errors"][0]["extensions"]["code"] == "BAD_INPUT"
    assert system.github.head == head


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
