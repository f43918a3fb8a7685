"""Mutations as an agent sends them, and what git and the cache have of them afterwards."""

from typing import Any

from api.cache.rows import WITH_BODIES
from api.documents.listing import Indexed
from tests.clone import git
from tests.system import Answer, System

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
SYNC_RU = "autosaves/2026/11/autosave_2026-11-18_pervaya-sinhronizaciya.md"
ROOM = "autosaves/projects/reading-room.md"
SEEDS = "autosaves/priorities/order-seeds.md"
NO_OID = "0" * 40

_COMMIT = "commit { oid committedAt url } cache"
_DOCUMENT = "id path revision title markdown metadata bytes hot provenance { source commit stale }"
_OWN = {
    "Session": "occurredAt status priority agent tags project { id name }",
    "Project": "name status rank",
    "Priority": "rank status dueOn project { id name }",
}
COMMIT_DOCUMENTS = """
mutation Commit($operations: [DocumentOperation!]!, $message: String, $idempotencyKey: String) {
  commitDocuments(operations: $operations, message: $message, idempotencyKey: $idempotencyKey) {
    documents { __typename id revision markdown } commit { oid committedAt } cache
  }
}
"""


def mutation(name: str) -> str:
    """The text of a mutation like `updateProject`, which asks for all that it can tell."""
    verb, kind = (name[:6], name[6:])
    if verb == "delete":
        return (
            f"mutation Write($input: DeleteDocumentInput!) {{ {name}(input: $input)"
            f" {{ id {_COMMIT} }} }}"
        )
    upper = verb.capitalize()
    return (
        f"mutation Write($input: {upper}{kind}Input!) {{ {name}(input: $input)"
        f" {{ {kind.lower()} {{ {_DOCUMENT} {_OWN[kind]} }} {_COMMIT} }} }}"
    )


async def write(system: System, name: str, /, **input: object) -> dict[str, Any]:
    """What a mutation that succeeds answers."""
    answer = await attempt(system, name, **input)
    assert answer.errors == []
    payload: dict[str, Any] = answer.data[name]
    return payload


async def attempt(system: System, name: str, /, **input: object) -> Answer:
    return await system.ask(mutation(name), input=input)


async def commit_documents(system: System, *operations: object, **said: object) -> Answer:
    return await system.ask(COMMIT_DOCUMENTS, operations=list(operations), **said)


def at_master(system: System, path: str, commit: str = "main") -> bytes:
    return git(system.github.path, "show", f"{commit}:{path}")


def revision_of(system: System, path: str) -> str:
    return git(system.github.path, "rev-parse", f"main:{path}").decode().strip()


def paths_at_master(system: System) -> set[str]:
    return set(git(system.github.path, "ls-tree", "-r", "--name-only", "main").decode().split("\n"))


def subjects(system: System) -> list[str]:
    """The first lines of all commit messages, newest first."""
    return git(system.github.path, "log", "--format=%s").decode().splitlines()


def last_message(system: System) -> str:
    return git(system.github.path, "log", "-1", "--format=%B").decode().strip()


async def cached(system: System, path: str) -> Indexed | None:
    async with system.parts.gateway.cache.snapshot() as snapshot:
        return (await snapshot.documents([path], WITH_BODIES)).get(path)


async def cached_head(system: System) -> str | None:
    async with system.parts.gateway.cache.snapshot() as snapshot:
        return snapshot.head.commit if snapshot.head else None
