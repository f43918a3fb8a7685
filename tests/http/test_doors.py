"""Who may come in: every query and every mutation, with every kind of key that will not do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import aiohttp
import pytest

from api.access import Scope, new_key
from api.graphql.schema import schema
from sandbox.github import GitHub
from tests.clone import git
from tests.system import System, running
from tests.waiting import until

OID = "0" * 40
NEW = {"title": "T", "markdown": "# T\n"}
NEW_PROJECT = {"name": "P", "markdown": "# P\n"}
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("node", "session", "project", "priority"), f'(id: "{DRILL}")'),
    "createSession": '(input: {title: "T", markdown: "x"})',
    "createPriority": '(input: {title: "T", markdown: "x"})',
    "createProject": '(input: {name: "P", markdown: "x"})',
    **{
        f"update{kind}": f'(input: {{id: "{DRILL}", status: "x"}})'
        for kind in ("Session", "Project", "Priority")
    },
    **{
        f"delete{kind}": f'(input: {{id: "{DRILL}"}})'
        for kind in ("Session", "Project", "Priority")
    },
    "commitDocuments": f'(operations: [{{delete: {{id: "{DRILL}"}}}}])',
}


def operations() -> list[tuple[str, Scope]]:
    """Each field that can be asked for, and the scope that it needs."""
    found = []
    for kind, root, scope in (
        ("query", schema._schema.query_type, Scope.READ),
        ("mutation", schema._schema.mutation_type, Scope.WRITE),
    ):
        assert root
        found += [
            (f"{kind} {{ {name}{ARGUMENTS.get(name, '')} {{ __typename }} }}", scope)
            for name in root.fields
        ]
    return found


@dataclass
class House:
    """A gateway with keys, of which some are not valid any more."""

    system: System
    secrets: Mapping[str, str] = field(repr=False)

    async def ask(
        self, query: str, key: str | None, **headers: str
    ) -> tuple[aiohttp.ClientResponse, dict[str, object]]:
        if key is not None:
            headers["Authorization"] = f"Bearer {self.secrets.get(key, key)}"
        async with self.system.http.post(
            f"{self.system.url}/graphql", json={"query": query}, headers=headers
        ) as response:
            return response, await response.json()


@pytest.fixture
async def house(github: GitHub, database_url: str) -> AsyncIterator[House]:
    made = {
        "reader": new_key("reader", [Scope.READ]),
        "writer": new_key("writer", [Scope.WRITE]),
        "agent": new_key("agent", [Scope.READ, Scope.WRITE], date.max),
        "admin": new_key("admin", [Scope.ADMIN]),
        "ended": new_key("ended", [Scope.ADMIN], date(2026, 1, 1)),
        "revoked": new_key("revoked", [Scope.ADMIN]),
    }
    configured = ",".join(str(key) for name, (_, key) in made.items() if name != "revoked")
    async with running(github, database_url, {"API_KEYS": configured}) as system:
        await system.sync()
        yield House(system, {name: secret for name, (secret, _) in made.items()})


def codes(answer: Mapping[str, object]) -> set[str]:
    errors = answer.get("errors", [])
    assert isinstance(errors, list)
    return {error["extensions"]["code"] for error in errors}


@pytest.mark.parametrize("key", [None, "wrong", "revoked", "ended", ""])
async def test_without_a_valid_key_nothing_is_told_and_nothing_done(
    house: House, key: str | None
) -> None:
    head, requests, statements = (
        house.system.github.head,
        house.system.requests,
        house.system.statements,
    )
    for query, _ in (*operations(), ("{ __typename }", Scope.READ), ("{", Scope.READ)):
        response, answer = await house.ask(query, key)

        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer ")
        assert codes(answer) == {"UNAUTHENTICATED"}
        assert "data" not in answer
    assert house.system.github.head == head
    assert (house.system.requests, house.system.statements) == (requests, statements)


@pytest.mark.parametrize(("key", "has"), [("reader", Scope.READ), ("writer", Scope.WRITE)])
async def test_a_key_is_good_for_its_scopes_only(house: House, key: str, has: Scope) -> None:
    head = house.system.github.head
    for query, needs in operations():
        if needs is has:
            continue
        response, answer = await house.ask(query, key)

        assert response.status == 403
        assert codes(answer) == {"FORBIDDEN"}
        assert "data" not in answer
        assert f"needs the scope {needs}" in str(answer)
    assert house.system.github.head == head


@pytest.mark.parametrize("key", ["agent", "admin"])
async def test_a_key_with_the_scope_is_let_in(house: House, key: str) -> None:
    for query, _ in operations():
        response, answer = await house.ask(query, key)

        assert response.status == 200
        assert codes(answer) & {"UNAUTHENTICATED", "FORBIDDEN"} == set()
    assert house.system.github.head


async def test_a_kept_answer_is_not_given_to_who_may_not_read(house: House) -> None:
    query = "{ sessions { nodes { title } } }"

    async def is_kept() -> bool:
        before = house.system.statements
        assert (await house.ask(query, "reader"))[0].status == 200
        return house.system.statements == before

    await until(is_kept, "the answer is given again")

    assert (await house.ask(query, None))[0].status == 401
    assert (await house.ask(query, "ended"))[0].status == 401
    assert (await house.ask(query, "writer"))[0].status == 403


async def test_the_name_of_the_key_stands_in_the_commit_and_the_key_nowhere(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    query = f"mutation {{ createSession{ARGUMENTS['createSession']} {{ commit {{ oid }} }} }}"

    _, answer = await house.ask(query, "agent")

    message = git(house.system.github.path, "log", "-1", "--format=%B").decode()
    assert "\nAnnoris-Caller: agent\n" in message
    assert f"agent: saved as of {house.system.github.head}" in caplog.text
    for secret in house.secrets.values():
        assert secret not in message + caplog.text + str(answer)


async def test_two_callers_may_choose_the_same_idempotency_key(house: House) -> None:
    query = (
        'mutation { createSession(input: {title: "T", markdown: "x", idempotencyKey: "k"}) '
        "{ session { id } commit { oid } } }"
    )
    (_, first), (_, again), (_, other) = [
        await house.ask(query, key) for key in ("agent", "agent", "admin")
    ]

    assert first == again
    assert codes(other) == set()
    assert other != first


async def test_whoever_may_not_come_in_has_no_body_read(house: House) -> None:
    """A body of any size is refused by its headers, and the connection closed."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536
            await asyncio.sleep(0)

    async with asyncio.timeout(20):
        try:
            async with house.system.http.post(
                f"{house.system.url}/graphql",
                data=endless(),
                headers={"Content-Type": "application/json"},
            ) as response:
                assert response.status == 401
        except aiohttp.ClientConnectionError:
            pass  # it was closed while the client wrote on


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_get_needs_a_key_as_well(house: House, method: str) -> None:
    async with house.system.http.request(
        method, f"{house.system.url}/graphql", params={"query": "{ __typename }"}
    ) as response:
        assert response.status == 401


async def test_graphiql_and_the_signs_of_life_need_no_key(house: House) -> None:
    for path, accept in (("/graphql", "text/html"), ("/healthz", "*/*"), ("/readyz", "*/*")):
        async with house.system.http.get(
            house.system.url + path, headers={"Accept": accept}
        ) as response:
            assert response.status == 200
            text = await response.text()
    for secret in house.secrets.values():
        assert secret not in text


# Without keys


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example:80", 403),
        ("", 403),
    ],
)
async def test_without_keys_only_names_of_this_machine_are_answered(
    system: System, host: str, status: int
) -> None:
    """A page of somebody else's may have its own name lead here."""
    async with system.http.post(
        f"{system.url}/graphql", json={"query": "{ __typename }"}, headers={"Host": host}
    ) as response:
        assert response.status == status


async def test_graphiql_and_introspection_can_be_switched_off(
    github: GitHub, database_url: str
) -> None:
    settings = {"GRAPHIQL": "false", "INTROSPECTION": "false"}
    async with running(github, database_url, settings) as system:
        async with system.http.get(
            f"{system.url}/graphql", headers={"Accept": "text/html, */*;q=0.5"}
        ) as response:
            assert response.status == 400
            assert "html" not in response.headers["Content-Type"]
        for query in ("{ __schema { types { name } } }", '{ __type(name: "Session") { name } }'):
            answer = await system.ask(query)
            assert answer.data is None
            assert {error["extensions"]["code"] for error in answer.errors} == {"BAD_INPUT"}
        assert (await system.ask("{ __typename }")).errors == []
