"""Secrets stay out of git: refused, redacted or allowed, and told to nobody."""

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from api.access import Scope, new_key
from api.gateway.changes import Create, Request
from api.gateway.cleaning import cleaned
from sandbox.github import GitHub
from tests.clone import Clone, git
from tests.fake_secrets import GITHUB_TOKEN, PASSWORD, url
from tests.system import Answer, System, running
from tests.waiting import until
from tests.writes.asking import (
    DRILL,
    ROOM,
    SEEDS,
    SYNC_RU,
    at_master,
    attempt,
    cached,
    cached_head,
    commit_documents,
    last_message,
    mutation,
    write,
)

SCOPES = {"agent": Scope.WRITE, "admin": Scope.ADMIN}
LEAK = f"# Итоги дня 🌱\r\n\r\nБаза: {url()}\r\nТокен: {GITHUB_TOKEN}\r\n"
VALUES = (GITHUB_TOKEN, PASSWORD)
COMMIT_WITH_POLICY = """
mutation Commit($operations: [DocumentOperation!]!, $message: String, $secrets: SecretsPolicy) {
  commitDocuments(operations: $operations, message: $message, secrets: $secrets) {
    documents { id markdown } commit { oid }
  }
}
"""


def new(**input: object) -> dict[str, object]:
    return {"title": "T", "markdown": "text"} | input


async def assert_refused(system: System, answer: Answer, head: str | None) -> dict[str, Any]:
    """Nothing was saved and nothing told. Returns what the error has beside its message."""
    assert answer.code == "BAD_INPUT"
    [error] = answer.errors
    assert error["message"].endswith("Nothing was saved.")
    assert "revoke" in error["message"]
    assert system.github.head == head
    assert await cached_head(system) == head
    for value in VALUES:
        assert value not in str(answer)
    extensions: dict[str, Any] = error["extensions"]
    return extensions


async def test_a_text_with_secrets_is_refused_by_line_and_kind(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    head, before = system.github.head, system.requests

    answer = await attempt(system, "createSession", **new(markdown=LEAK))

    told = await assert_refused(system, answer, head)
    assert told["secrets"] == [
        {"text": "markdown", "line": 3, "kind": "password in a URL"},
        {"text": "markdown", "line": 4, "kind": "GitHub token"},
    ]
    message = answer.errors[0]["message"]
    assert "line 3 of the markdown (password in a URL)" in message
    assert "line 4 of the markdown (GitHub token)" in message
    assert "secrets: REDACT" in message
    assert system.requests == before
    for value in VALUES:
        assert value not in caplog.text


@pytest.mark.parametrize(
    ("name", "input", "text"),
    [
        ("createSession", new(title=f"About {GITHUB_TOKEN}"), "title"),
        ("createSession", new(status=f"waits for {GITHUB_TOKEN}"), "status"),
        ("createSession", new(tags=["git", GITHUB_TOKEN]), "tags"),
        ("createSession", new(agent=GITHUB_TOKEN), "agent"),
        ("createSession", new(project=f"autosaves/projects/{GITHUB_TOKEN}.md"), "project"),
        ("createSession", new(path=f"autosaves/{GITHUB_TOKEN}.md"), "path"),
        ("createSession", new(message=f"Use {url()}"), "message"),
        ("createProject", {"name": GITHUB_TOKEN, "markdown": "x"}, "name"),
        ("updateSession", {"id": DRILL, "markdown": f"x {GITHUB_TOKEN}"}, "markdown"),
        ("updateSession", {"id": DRILL, "priority": GITHUB_TOKEN}, "priority"),
        ("updateProject", {"id": ROOM, "status": "x", "message": GITHUB_TOKEN}, "message"),
        ("deletePriority", {"id": SEEDS, "message": GITHUB_TOKEN}, "message"),
    ],
)
async def test_no_text_that_gets_into_git_may_have_one(
    system: System, name: str, input: dict[str, object], text: str
) -> None:
    head = system.github.head

    answer = await attempt(system, name, **input)

    told = await assert_refused(system, answer, head)
    [seen] = told["secrets"]
    assert (seen["text"], seen["line"]) == (text, 1)


async def test_of_many_operations_the_one_with_the_secret_is_named(system: System) -> None:
    head = system.github.head

    answer = await commit_documents(
        system,
        {"updateProject": {"id": ROOM, "status": "resting"}},
        {"createSession": new(markdown=LEAK)},
    )

    assert (await assert_refused(system, answer, head))["operation"] == 1


async def test_the_message_of_many_operations_is_looked_through_and_a_new_path_too(
    system: System,
) -> None:
    head = system.github.head
    delete = {"delete": {"id": DRILL}}
    rename = {"rename": {"id": DRILL, "path": f"autosaves/{GITHUB_TOKEN}.md"}}

    await assert_refused(system, await commit_documents(system, delete, message=url()), head)
    await assert_refused(system, await commit_documents(system, rename), head)


async def test_a_hundred_secrets_are_counted_and_a_few_are_named(system: System) -> None:
    head = system.github.head

    answer = await attempt(system, "createSession", **new(markdown=f"{GITHUB_TOKEN}\n" * 300))

    told = await assert_refused(system, answer, head)
    assert len(told["secrets"]) == 100
    assert "and 295 more" in answer.errors[0]["message"]


# Redacted


async def test_redacted_each_is_replaced_by_its_kind_in_git_and_in_the_cache(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    saved = await write(
        system,
        "createSession",
        **new(
            title=f"With {GITHUB_TOKEN}",
            markdown=LEAK,
            status=f"has {GITHUB_TOKEN}",
            tags=[GITHUB_TOKEN, "git"],
            message=f"Save {url()}",
            secrets="REDACT",
        ),
    )

    session = saved["session"]
    assert session["title"] == "With [REDACTED GitHub token]"
    assert session["status"] == "has [REDACTED GitHub token]"
    assert session["tags"] == ["[REDACTED GitHub token]", "git"]
    expected = LEAK.replace(GITHUB_TOKEN, "[REDACTED GitHub token]").replace(
        PASSWORD, "[REDACTED password in a URL]"
    )
    assert session["markdown"].endswith(expected)
    assert at_master(system, session["id"]).decode() == session["markdown"]
    row = await cached(system, session["id"])
    assert row is not None
    assert row.markdown == session["markdown"]
    assert "Save postgresql://annoris:[REDACTED password in a URL]@" in last_message(system)
    everything = git(system.github.path, "log", "-1", "-p", "--format=%B").decode()
    for value in VALUES:
        assert value not in everything + caplog.text + str(saved)


async def test_a_path_cannot_be_redacted(system: System) -> None:
    head = system.github.head

    answer = await attempt(
        system, "createSession", **new(path=f"autosaves/{GITHUB_TOKEN}.md", secrets="REDACT")
    )

    assert answer.code == "BAD_INPUT"
    assert "choose another" in answer.errors[0]["message"]
    assert GITHUB_TOKEN not in str(answer)
    assert system.github.head == head


async def test_sent_again_with_its_key_what_was_redacted_gets_its_first_outcome(
    system: System,
) -> None:
    input = new(markdown=LEAK, secrets="REDACT", idempotencyKey="once")
    first = await write(system, "createSession", **input)

    again = await write(system, "createSession", **input)

    assert (again["commit"], again["session"]["id"]) == (first["commit"], first["session"]["id"])
    other = await attempt(system, "createSession", **(input | {"markdown": "other"}))
    assert other.code == "BAD_INPUT"


async def test_what_was_refused_uses_up_no_key(system: System) -> None:
    input = new(markdown=LEAK, idempotencyKey="once")
    assert (await attempt(system, "createSession", **input)).code == "BAD_INPUT"

    await write(system, "createSession", **input, secrets="REDACT")


async def test_the_digest_in_the_commit_is_of_no_secret(system: System) -> None:
    """Who knows all of a text but its password could try passwords until the digest is right."""
    said = new(occurredAt="2026-11-21T10:00:00Z", secrets="REDACT", idempotencyKey="guess")
    one = await write(system, "createSession", **said | {"markdown": f"password: {PASSWORD}"})

    other = "password: " + "hunter22"
    same = await write(system, "createSession", **said | {"markdown": other})

    assert same["commit"] == one["commit"]


# Allowed


async def test_allowed_it_is_saved_byte_for_byte(system: System) -> None:
    saved = await write(
        system, "createSession", **new(markdown=LEAK, message=GITHUB_TOKEN, secrets="ALLOW")
    )

    assert saved["session"]["markdown"].endswith(LEAK)
    assert last_message(system).startswith(GITHUB_TOKEN)


@pytest.mark.parametrize("where", ["operation", "commit"])
async def test_a_commit_of_many_has_one_policy_and_each_operation_may_have_its_own(
    system: System, where: str
) -> None:
    policies = ("REFUSE", "ALLOW") if where == "operation" else ("ALLOW", None)

    answer = await system.ask(
        COMMIT_WITH_POLICY,
        operations=[
            {"createSession": new(markdown=LEAK, secrets=policies[1])},
            {"updateSession": {"id": DRILL, "markdown": LEAK, "secrets": "REDACT"}},
        ],
        secrets=policies[0],
    )

    assert answer.errors == []
    allowed, redacted = answer.data["commitDocuments"]["documents"]
    assert GITHUB_TOKEN in allowed["markdown"]
    assert "[REDACTED GitHub token]" in redacted["markdown"]
    assert GITHUB_TOKEN not in redacted["markdown"]


@pytest.mark.usefixtures("system")
async def test_to_have_one_saved_is_for_admins(github: GitHub, database_url: str) -> None:
    made = {name: new_key(name, [scope]) for name, scope in SCOPES.items()}
    configured = ",".join(str(key) for _, key in made.values())

    async def ask(gateway: System, name: str, query: str, **variables: object) -> Answer:
        headers = {"Authorization": f"Bearer {made[name][0]}"}
        async with gateway.http.post(
            f"{gateway.url}/graphql",
            json={"query": query, "variables": variables},
            headers=headers,
        ) as response:
            answer = await response.json()
        return Answer(answer.get("data"), answer.get("errors", []))

    async with running(github, database_url, {"API_KEYS": configured}) as gateway:
        head = github.head
        create, input = mutation("createPriority"), new(markdown=LEAK, secrets="ALLOW")
        operation = {"createSession": input}

        for refused in (
            await ask(gateway, "agent", create, input=input),
            await ask(gateway, "agent", COMMIT_WITH_POLICY, operations=[operation]),
            await ask(gateway, "agent", COMMIT_WITH_POLICY, operations=[], secrets="ALLOW"),
        ):
            assert refused.code == "FORBIDDEN"
            assert "scope admin" in refused.errors[0]["message"]
            assert GITHUB_TOKEN not in str(refused)
        assert github.head == head
        redacted = input | {"title": "Redacted", "secrets": "REDACT"}
        assert (await ask(gateway, "agent", create, input=redacted)).errors == []
        assert (await ask(gateway, "admin", create, input=input)).errors == []

    async with running(
        github, database_url, {"API_KEYS": configured, "SECRETS": "allow"}
    ) as gateway:
        again = input | {"title": "Again"}
        assert (await ask(gateway, "agent", create, input=again)).errors == []


# What is usual


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("usual", ["refuse", "redact", "allow"])
async def test_the_setting_decides_where_a_mutation_does_not(
    github: GitHub, database_url: str, usual: str
) -> None:
    async with running(github, database_url, {"SECRETS": usual}) as gateway:
        answer = await attempt(gateway, "createSession", **new(markdown=LEAK))
        null = await attempt(gateway, "createSession", **new(markdown=LEAK, secrets=None))
        refused = await attempt(gateway, "createSession", **new(markdown=LEAK, secrets="REFUSE"))

    assert refused.code == "BAD_INPUT"
    assert answer.code == null.code == ("BAD_INPUT" if usual == "refuse" else None)
    if usual != "refuse":
        markdown = answer.data["createSession"]["session"]["markdown"]
        assert (GITHUB_TOKEN in markdown) is (usual == "allow")


# What is there already


async def test_a_document_with_an_old_secret_can_be_changed_and_moved(
    system: System, clone: Clone
) -> None:
    clone.push({SYNC_RU: f"# Старое\n\n**Статус:** open\n\n{LEAK}"})
    await system.sync()

    await write(system, "updateSession", id=SYNC_RU, status="done")
    answer = await commit_documents(
        system, {"rename": {"id": SYNC_RU, "path": "autosaves/moved.md"}}
    )

    assert answer.errors == []
    moved = at_master(system, "autosaves/moved.md").decode()
    assert moved == f"# Старое\n\n**Статус:** done\n\n{LEAK}"


async def test_an_old_secret_can_be_taken_out_with_redact(system: System, clone: Clone) -> None:
    clone.push({DRILL: LEAK})
    await system.sync()
    text = (await cached(system, DRILL)) or pytest.fail("it is not there")

    await write(system, "updateSession", id=DRILL, markdown=text.markdown, secrets="REDACT")

    assert GITHUB_TOKEN not in at_master(system, DRILL).decode()


async def test_of_one_caller_one_long_text_is_looked_through_at_a_time(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it sends at once would have all CPUs; others and short texts do not wait for it."""
    keys = {name: new_key(name, [Scope.WRITE]) for name in ("claude", "ann")}
    let_go, looking = threading.Event(), Counter[str]()

    def held(request: Request, *arguments: Any, **more: Any) -> Request:
        [change] = request.changes
        assert isinstance(change, Create)
        if len(change.markdown) > 100_000:
            looking[request.caller or ""] += 1
            assert let_go.wait(60)
        return cleaned(request, *arguments, **more)

    monkeypatch.setattr("api.gateway.writes.cleaned", held)
    environment = {"API_KEYS": ",".join(str(key) for _, key in keys.values())}
    async with running(github, database_url, environment) as system:

        async def save(name: str, length: int) -> int:
            variables = {"input": {"title": "T", "markdown": "word " * (length // 5)}}
            async with system.http.post(
                f"{system.url}/graphql",
                json={"query": mutation("createSession"), "variables": variables},
                headers={"Authorization": f"Bearer {keys[name][0]}"},
            ) as response:
                assert "errors" not in await response.json()
            return length

        async def one_of_each() -> bool:
            return looking == {"claude": 1, "ann": 1}

        long = [asyncio.create_task(save("claude", 200_000)) for _ in range(3)]
        long.append(asyncio.create_task(save("ann", 200_000)))
        await until(one_of_each, "each is looked through")
        assert await save("claude", 1_000)
        assert await one_of_each()
        let_go.set()
        await asyncio.gather(*long)
    assert looking == {"claude": 3, "ann": 1}


async def test_who_waits_in_vain_for_a_look_at_a_long_text_is_told_that_nothing_was_saved(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    def held(*arguments: Any, **more: Any) -> Request:
        assert let_go.wait(60)
        return cleaned(*arguments, **more)

    monkeypatch.setattr("api.gateway.writes.cleaned", held)
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "1"}) as system:
        head = system.github.head
        long = new(markdown="word " * 40_000, idempotencyKey="k")
        both = [asyncio.create_task(attempt(system, "createSession", **long)) for _ in range(2)]
        [waited], [looked_at] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        let_go.set()

        assert waited.result().code == "RATE_LIMITED"
        assert (await looked_at).code == "MASTER_UNAVAILABLE"  # there was no time left for GitHub
        assert "whether an earlier try was saved is not known" in str(waited.result().errors)
        assert system.github.head == head


@pytest.mark.parametrize("text", ["markdown", "title", "message", "tags"])
async def test_whatever_long_text_it_is_the_loop_is_not_kept_by_looking_through_it(
    system: System, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    threads: list[threading.Thread] = []

    def seen(*arguments: Any, **more: Any) -> Request:
        threads.append(threading.current_thread())
        return cleaned(*arguments, **more)

    monkeypatch.setattr("api.gateway.writes.cleaned", seen)
    long = "word " * 20_000
    await attempt(system, "createSession", **new(**{text: [long] if text == "tags" else long}))

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
