"""Keys are known by their digests, and tell nothing else."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access import (
    ANYBODY,
    ApiKey,
    Keyring,
    Scope,
    Unauthenticated,
    is_loopback,
    new_key,
    read_keys,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
keys = st.builds(
    new_key,
    names,
    st.sets(st.sampled_from(Scope), min_size=1),
    st.none() | st.dates(),
)


@given(st.lists(keys, unique_by=lambda key: key[1].name))
def test_what_is_configured_is_read_as_it_was_made(made: list[tuple[str, ApiKey]]) -> None:
    text = ",\n ".join(str(key) for _, key in made)

    assert list(read_keys(text)) == [key for _, key in made]
    for secret, _ in made:
        assert secret not in text


@given(keys)
def test_a_key_opens_for_its_owner_and_no_other(made: tuple[str, ApiKey]) -> None:
    secret, key = made
    lasting = ApiKey(key.name, key.scopes, key.digest)
    ring = Keyring([lasting, new_key("other", [Scope.ADMIN])[1]])

    for header in (f"Bearer {secret}", f"bearer  {secret} "):
        caller = ring.caller(header.encode(), NOW)
        assert (caller.name, caller.scopes) == (key.name, key.scopes)
    wrong = [secret, f"Basic {secret}", f"Bearer {secret}x", f"Bearer {secret[:-1]}", "Bearer", ""]
    for header in (*wrong, f"Bearer {key.digest}", f"Bearer {key}", "Bearer ключ"):
        with pytest.raises(Unauthenticated) as refused:
            ring.caller(header.encode(), NOW)
        assert secret not in str(refused.value)


@pytest.mark.parametrize(("last_day", "opens"), [(27, False), (28, True), (29, True)])
def test_a_key_is_valid_to_the_end_of_its_last_day(last_day: int, opens: bool) -> None:
    secret, key = new_key("claude", [Scope.READ], date(2026, 11, last_day))
    ring, header = Keyring([key]), f"Bearer {secret}".encode()

    if opens:
        assert ring.caller(header, NOW).name == "claude"
        end = datetime(2026, 11, last_day, tzinfo=UTC) + timedelta(days=1)
        assert ring.caller(header, end - timedelta.resolution).name == "claude"
    else:
        with pytest.raises(Unauthenticated, match="ended on 2026-11-27"):
            ring.caller(header, NOW)


def test_no_two_keys_are_alike_and_scanners_know_one() -> None:
    made = {new_key("a", [Scope.READ])[0] for _ in range(100)}

    assert len(made) == 100
    assert all(re.fullmatch(r"annoris_[A-Za-z0-9_-]{43}", secret) for secret in made)


def test_without_keys_anybody_may_do_all() -> None:
    for header in (None, b"Bearer x", b"\xff"):
        assert Keyring([]).caller(header, NOW) is ANYBODY
    assert all(map(ANYBODY.may, Scope))


def test_scopes_are_apart_and_admin_has_them_all() -> None:
    for scope in Scope:
        secret, key = new_key("a", [scope])
        caller = Keyring([key]).caller(f"Bearer {secret}".encode(), NOW)
        assert {s for s in Scope if caller.may(s)} == (
            set(Scope) if scope is Scope.ADMIN else {scope}
        )


DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("canary", "name:scopes:digest"),
        ("a:read:canary", "a digest has 64 hexadecimal digits"),
        (f"a:canary:{DIGEST}", "scopes must be some of read+write+admin"),
        (f"a::{DIGEST}", "scopes must be some of"),
        (f"canary canary:read:{DIGEST}", "name:scopes:digest"),
        (f"кanary:read:{DIGEST}", "a name has up to 64 letters"),
        (f"{'a' * 65}:read:{DIGEST}", "a name has up to 64 letters"),
        (f":read:{DIGEST}", "a name has up to 64 letters"),
        (f"a:read:{DIGEST}:canary", "last day must be a date"),
        (f"a:read:{DIGEST}:2026-02-30", "last day must be a date"),
        (f"a:read:{DIGEST}:2026-01-01:canary", "name:scopes:digest"),
        (f"a:read:{DIGEST.upper()}", "a digest has 64 hexadecimal digits"),
        (f"first:read:{DIGEST}", "entry 2: its name is taken"),
    ],
)
def test_a_wrong_entry_is_named_and_not_quoted(entry: str, problem: str) -> None:
    with pytest.raises(ValueError, match="entry 2: ") as wrong:
        read_keys(f"first:read:{DIGEST}, {entry}")
    assert problem in str(wrong.value)
    assert "canary" not in str(wrong.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "LocalHost")),
        ("app.localhost", True),
        *((host, False) for host in ("10.1.1.1", "::", "", "10.0.0.1", "localhost.example")),
        ("127.0.0.1.example", False),
        ("notlocalhost", False),
    ],
)
def test_what_is_of_this_machine_alone(host: str, local: bool) -> None:
    assert is_loopback(host) is local
