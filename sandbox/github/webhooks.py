"""Push webhooks: built from the repository, signed, and delivered as unreliably as asked for."""

import asyncio
import hmac
import json
import uuid
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from sandbox.github.breath import Breath
from sandbox.github.faults import Faults, Target
from sandbox.github.hosting import NO_OID, Hosting, Push
from sandbox.github.objects import iso, iso_with_offset
from sandbox.github.repository import CommitData, Person

DEADLINE = 10.0
"""Seconds in which a receiver has to answer."""

COMMITS_LISTED = 2_048
FILES_LISTED = 3_000
PAYLOAD_LIMIT = 25 * 1024 * 1024
AT_ONCE = 10
REMEMBERED = 1_000
HOOK_ID = 512_001


@dataclass(frozen=True)
class Webhook:
    """Where deliveries go. Without a secret they are not signed."""

    url: str
    secret: str | None = None


@dataclass
class Delivery:
    """One event; its GUID stays the same however often it is sent."""

    event: str
    body: bytes
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    attempts: list["Attempt"] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        return any(attempt.status and attempt.status // 100 == 2 for attempt in self.attempts)


@dataclass(frozen=True)
class Attempt:
    """`status` None: no answer in time, or no connection; `note` says which."""

    at: str
    status: int | None
    note: str = ""


def signature(secret: str, body: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret.encode(), body, algorithm).hexdigest()}"


def headers(webhook: Webhook, delivery: Delivery) -> dict[str, str]:
    found = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/5a4d0b1",
        "X-GitHub-Event": delivery.event,
        "X-GitHub-Delivery": delivery.guid,
        "X-GitHub-Hook-ID": str(HOOK_ID),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-GitHub-Hook-Installation-Target-ID": "4200001",
    }
    if webhook.secret:
        found["X-Hub-Signature-256"] = signature(webhook.secret, delivery.body)
        found["X-Hub-Signature"] = signature(webhook.secret, delivery.body, "sha1")
    return found


class Webhooks:
    """Sends deliveries in the background; `stop` ends them all."""

    def __init__(self, hosting: Hosting, faults: Faults) -> None:
        self._hosting = hosting
        self._faults = faults
        self._webhook: Webhook | None = None
        self._greeted: Webhook | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._held: Delivery | None = None
        self.deliveries: deque[Delivery] = deque(maxlen=REMEMBERED)

    # --- life ---------------------------------------------------------------------------

    @property
    def webhook(self) -> Webhook | None:
        return self._webhook

    @webhook.setter
    def webhook(self, webhook: Webhook | None) -> None:
        self._webhook = webhook
        self._greet()

    def start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._greet()

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def idle(self, timeout: float = 15) -> None:  # noqa: ASYNC109
        """Return once nothing is on its way any more."""
        async with asyncio.timeout(timeout):
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    def _greet(self) -> None:
        """A new webhook is greeted with a ping, once and as soon as the server runs."""
        if self._webhook is None or self._session is None or self._webhook is self._greeted:
            return
        self._greeted = self._webhook
        hook = {
            "type": "Repository",
            "id": HOOK_ID,
            "name": "web",
            "active": True,
            "events": ["push"],
            "config": {"content_type": "json", "insecure_ssl": "0", "url": self._webhook.url},
        }
        body = {
            "zen": "Keep it logically awesome.",
            "hook_id": HOOK_ID,
            "hook": hook,
            "repository": self._repository(),
            "sender": self._user(self._hosting.owner, 77),
        }
        self._send(Delivery("ping", json.dumps(body).encode()))

    # --- sending ------------------------------------------------------------------------

    def announce(self, push: Push) -> None:
        """Send a push event for a ref that moved, in the background."""
        if self._webhook is not None and self._session is not None:
            self._spawn(self._announce(push))

    async def redeliver(self, guid: str) -> Delivery | None:
        """Send one again under its old GUID, and wait for the answer."""
        delivery = next((one for one in self.deliveries if one.guid == guid), None)
        if delivery is not None:
            await self._attempt(delivery)
        return delivery

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self, push: Push) -> None:
        async with self._slots:
            body = json.dumps(await self.payload(push)).encode()
        if len(body) <= PAYLOAD_LIMIT:
            self._send(Delivery("push", body))

    def _send(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        draw = self._faults.draw(Target("webhook", delivery.event))
        if draw.take("webhook_drop"):
            delivery.attempts.append(Attempt(_now(), None, "dropped on purpose"))
            return
        delay = draw.take("webhook_delay")
        seconds = delay.duration() if delay else 0.0
        if self._held is None and draw.take("webhook_reorder"):
            # Kept until the next delivery has gone out before it.
            self._held = delivery
            return
        held, self._held = self._held, None
        self._spawn(self._deliver(delivery, seconds, held))
        if draw.take("webhook_duplicate"):
            self._spawn(self._deliver(delivery, seconds, None))

    async def _deliver(self, delivery: Delivery, delay: float, then: Delivery | None) -> None:
        if delay:
            await asyncio.sleep(delay)
        async with self._slots:
            await self._attempt(delivery)
            if then is not None:
                await self._attempt(then)

    async def _attempt(self, delivery: Delivery) -> None:
        webhook, session = self._webhook, self._session
        if webhook is None or session is None:
            return
        status: int | None = None
        note = ""
        try:
            async with session.post(
                webhook.url, data=delivery.body, headers=headers(webhook, delivery)
            ) as response:
                status = response.status
        except TimeoutError:
            note = "timed out"
        except aiohttp.ClientError as error:
            note = f"failed to connect: {type(error).__name__}"
        delivery.attempts.append(Attempt(_now(), status, note))

    # --- payloads -----------------------------------------------------------------------

    async def payload(self, push: Push) -> dict[str, object]:
        """The body of a push event (docs: "Webhook events and payloads", push)."""
        created, deleted = push.before == NO_OID, push.after == NO_OID
        oids = [] if deleted or push.ref.startswith("refs/tags/") else list(self._news(push))
        listed: list[dict[str, object]] = []
        breath = Breath()
        for oid in oids[:COMMITS_LISTED][::-1]:
            listed.append(self._commit(oid))
            await breath.take()
        repository = self._hosting.repository
        head = None if deleted else repository.peel_to_commit(push.after)
        base = None if created else repository.peel_to_commit(push.before)
        forced = bool(base and head) and not repository.reaches(str(head), str(base))
        return {
            "ref": push.ref,
            "before": push.before,
            "after": push.after,
            "repository": self._repository(),
            "pusher": {"name": push.pusher.login, "email": push.pusher.commit_email},
            "sender": self._user(push.pusher.login, push.pusher.id),
            "created": created,
            "deleted": deleted,
            "forced": forced,
            "base_ref": None,
            "compare": f"{self._hosting.url}/{self._hosting.name}"
            f"/compare/{push.before[:12]}...{push.after[:12]}",
            "commits": listed,
            "head_commit": self._commit(head) if head else None,
        }

    def _news(self, push: Push) -> Iterator[str]:
        """Commits that the push brought to the ref, newest first."""
        repository = self._hosting.repository
        hidden = [push.before] if push.before != NO_OID else []
        if not hidden:
            head = self._hosting.head()
            hidden = [head] if head and push.ref != self._hosting.head_ref else []
        yield from repository.reachable(push.after, hidden, COMMITS_LISTED)

    def _commit(self, oid: str) -> dict[str, object]:
        repository = self._hosting.repository
        commit: CommitData = repository.commit(oid)
        parent = repository.commit(commit.parents[0]).tree if commit.parents else None
        changes = repository.changes(parent, commit.tree)
        small = len(changes) <= FILES_LISTED
        return {
            "id": oid,
            "tree_id": commit.tree,
            "distinct": True,
            "message": commit.message,
            "timestamp": iso_with_offset(commit.committer.when),
            "url": f"{self._hosting.url}/{self._hosting.name}/commit/{oid}",
            "author": self._person(commit.author),
            "committer": self._person(commit.committer),
            "added": changes.added if small else [],
            "removed": changes.removed if small else [],
            "modified": changes.modified if small else [],
        }

    def _person(self, person: Person) -> dict[str, object]:
        found: dict[str, object] = {"name": person.name, "email": person.email}
        identity = self._hosting.users.get(person.email)
        if identity is not None:
            found["username"] = identity.login
        return found

    def _repository(self) -> dict[str, object]:
        hosting = self._hosting
        return {
            "id": 4_200_001,
            "name": hosting.short_name,
            "full_name": hosting.name,
            "private": True,
            "owner": {**self._user(hosting.owner, 77), "name": hosting.owner},
            "html_url": f"{hosting.url}/{hosting.name}",
            "clone_url": f"{hosting.url}/{hosting.name}.git",
            "default_branch": hosting.branch,
            "master_branch": hosting.branch,
            "created_at": int(hosting.created_at.timestamp()),
            "pushed_at": int((hosting.pushed_at or hosting.created_at).timestamp()),
        }

    def _user(self, login: str, id_: int) -> dict[str, object]:
        return {"login": login, "id": id_, "type": "User", "site_admin": False}


def _now() -> str:
    return iso(datetime.now(UTC))
