"""Ten thousand hostile deliveries: nothing is done, nothing breaks, and a true one is heeded."""

import asyncio
import gzip
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from sandbox.github import GitHub
from sandbox.redis import Redis
from tests.http.deliveries import PATH, SECRET, deliver, digest, push, rings, signed
from tests.system import System, running
from tests.waiting import settled

DELIVERIES, CONNECTIONS = 10_000, 4
CAPTURED = push("1" * 40)  # a true delivery, which somebody has seen
TRUE = push("2" * 40)  # one that nobody has seen


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async with Redis() as server:
        yield server


@pytest.fixture
async def system(github: GitHub, database_url: str, redis: Redis) -> AsyncIterator[System]:
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, database_url, environment) as gateway:
        await gateway.sync()
        yield gateway


@dataclass(frozen=True)
class Attack:
    """What is sent, and the answers that are right. None: the connection ends without one."""

    sent: bytes
    answers: set[int | None]
    hangs_up: bool = False


def request(
    body: bytes, headers: dict[str, str], *, method: str = "POST", length: int | None = None
) -> bytes:
    lines = [f"{method} {PATH} HTTP/1.1", "Host: gateway"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "Transfer-Encoding" not in headers:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def forged(dice: random.Random) -> Attack:
    """A push that somebody else signed, or nobody, or badly."""
    body = push(f"{dice.getrandbits(160):040x}")
    true = digest(body)
    signature = dice.choice(
        [
            f"sha256={digest(body, 'guessed')}",
            f"sha256={digest(TRUE)}",
            f"sha1={true}",
            f"sha256={true[:-1]}",
            f"sha256={true}0",
            f"sha256= {true}",
            f"SHA256={true.upper()}",
            "sha256=" + "\xe9" * 64,
            "sha256=" + "0" * 10_000,
            "sha256=",
            "",
        ]
    )
    return Attack(request(body, signed(body) | {"X-Hub-Signature-256": signature}), {401})


def stripped(dice: random.Random) -> Attack:
    """A captured push without one of its headers, or without a body."""
    headers = signed(CAPTURED)
    del headers[dice.choice(list(headers))]
    body = dice.choice([CAPTURED, b""])
    return Attack(request(body, headers), {202, 401})


def replayed(dice: random.Random) -> Attack:
    """A captured push under a fresh id, as another type, or said to be another event."""
    headers = signed(CAPTURED, event=dice.choice(["push", "push", "ping", "create", "\xe9"]))
    if dice.random() < 0.2:
        headers["Content-Type"] = dice.choice(["text/plain", "multipart/form-data", "\xff"])
    return Attack(request(CAPTURED, headers), {202})


def changed(dice: random.Random) -> Attack:
    """A captured push with one bit turned."""
    body = bytearray(CAPTURED)
    body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
    return Attack(request(bytes(body), signed(CAPTURED)), {401})


def malformed(dice: random.Random) -> Attack:
    """What is no push, signed as if GitHub itself had gone mad."""
    wrong: object = dice.choice([None, True, 1, -1.5, [], {}, [[]], {"full_name": []}])
    body = dice.choice(
        [
            b"",
            b"{",
            b"null",
            b'"push"',
            b"NaN",
            b"[" * 10_000,
            b'{"repository":' * 5_000,
            b"9" * 5_000,
            b"\xff\xfe\x00",
            b"\xef\xbb\xbf" + TRUE,
            b'{"ref": "\\ud800"}',
            gzip.compress(TRUE),
            dice.randbytes(100),
            push(wrong),
            push("2" * 40, ref=wrong),
            push("2" * 40, name=wrong),
            push("2" * 40, ref="refs/heads/main\0"),
            push("2" * 40, name=""),
        ]
    )
    headers = signed(body)
    if dice.random() < 0.3:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    return Attack(request(body, headers), {202})


def oversized(dice: random.Random) -> Attack:
    """A body that is said to be larger than any."""
    length = dice.choice([25 * 1024 * 1024 + 1, 10**12, 10**19])
    return Attack(request(b"{", signed(b"{"), length=length), {413})


def cut(dice: random.Random) -> Attack:
    """A body that does not end, from somebody who hangs up."""
    if dice.random() < 0.5:
        return Attack(request(TRUE[:10], signed(TRUE), length=len(TRUE)), {None}, hangs_up=True)
    headers = signed(TRUE) | {"Transfer-Encoding": "chunked"}
    return Attack(
        request(f"{len(TRUE):x}\r\n".encode() + TRUE + b"\r\n", headers), {None}, hangs_up=True
    )


def no_http(dice: random.Random) -> Attack:
    """What no server takes for a request."""
    sent = dice.choice(
        [
            request(b"", {"X-Huge": "x" * 200_000}),
            request(b"", {f"X-{number}": "x" * 100 for number in range(2_000)}),
            request(TRUE, signed(TRUE) | {"Content-Length": "-1"}),
            request(TRUE, signed(TRUE) | {"Content-Length": "5, 6"}),
            request(b"zz\r\n", signed(TRUE) | {"Transfer-Encoding": "chunked"}),
            request(TRUE, signed(TRUE) | {"Transfer-Encoding": "gzip"}),
            request(TRUE, {"a b": "c"}),
            request(TRUE, {"": "c"}),
            b"\x16\x03\x01\x02\x00\x01\x00" + dice.randbytes(50) + b"\r\n\r\n",
            b"POST " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        ]
    )
    return Attack(sent, {400, 401, 501, None})


def other_method(dice: random.Random) -> Attack:
    method = dice.choice(["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"])
    right = 400 if method == "NONSENSE" else 405  # no method of HTTP is no HTTP
    return Attack(request(TRUE, signed(TRUE), method=method), {right})


KINDS: dict[Callable[[random.Random], Attack], int] = {
    forged: 30,
    replayed: 20,
    changed: 10,
    malformed: 20,
    stripped: 5,
    oversized: 5,
    cut: 3,
    no_http: 3,
    other_method: 4,
}


class Attacker:
    """One connection, which is opened again whenever the gateway has hung up."""

    def __init__(self, url: str) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, attack: Attack) -> int | None:
        """The status of the answer. None when there is none."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        try:
            self._writer.write(attack.sent)
            await self._writer.drain()
            if attack.hangs_up:
                await self.close()
                return None
            return await self._answer(self._reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            return None  # it hung up while we still sent

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        lines = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        if lines.get("connection") == "close":
            await reader.read()
            await self.close()
        else:
            await reader.readexactly(int(lines.get("content-length", 0)))
        return int(head.split()[1])

    async def close(self) -> None:
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None


async def test_ten_thousand_hostile_deliveries_do_nothing_and_break_nothing(
    system: System, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("api.gateway.gateway.LAG_SECONDS", 0.0)  # before it is looked for once more
        assert await deliver(system, CAPTURED) == 202
        assert await rings(system) >= 1
        await asyncio.wait({task for task in [system.parts.gateway._looking] if task})
        await settled(system)
    assert system.parts.doorbell.redis
    await system.parts.doorbell.redis.flushdb()
    asked, dice = system.requests, random.Random(4)
    kinds = iter(dice.choices(list(KINDS), list(KINDS.values()), k=DELIVERIES))
    wrong: list[tuple[str, int | None, bytes]] = []
    sent = 0

    async def attack() -> None:
        nonlocal sent
        attacker = Attacker(system.url)
        for kind in kinds:
            one = kind(dice)
            status = await attacker.send(one)
            sent += 1
            if status not in one.answers:
                wrong.append((kind.__name__, status, one.sent[:500]))
        await attacker.close()

    await asyncio.gather(*(attack() for _ in range(CONNECTIONS)))

    assert sent == DELIVERIES
    assert not wrong, wrong[:3]
    assert await rings(system) == 0
    assert system.requests == asked
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert (await system.ask("{ sessions { totalCount } }")).data["sessions"]["totalCount"] == 6
    assert await deliver(system, TRUE) == 202
    assert await rings(system) == 1
