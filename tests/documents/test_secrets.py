"""What is taken for a secret, what is not, and that nothing of one is left."""

import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents.secrets import find_secrets, redact
from tests.clone import git
from tests.corpus import corpus_bundle
from tests.fake_secrets import GITHUB_TOKEN, PASSWORD, TOKENS, some, url

AROUND = [
    "{}",
    "The key is {}.",
    "`{}`",
    "KEY={}",
    '"k": "{}",',
    "**Ключ:** {} 🔑\r\n",
    "вот:\n- {}",
]


def kinds(text: str) -> list[str]:
    return [found.kind for found in find_secrets(text)]


@pytest.mark.parametrize(("kind", "token"), TOKENS)
@pytest.mark.parametrize("around", AROUND)
def test_a_token_is_known_by_its_shape_wherever_it_stands(
    kind: str, token: str, around: str
) -> None:
    text = around.format(token)

    [found] = find_secrets(text)

    assert found.kind == kind
    assert token in text[found.start : found.end]
    assert redact(text) == around.format(f"[REDACTED {kind}]")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "https", "redis", "mongodb+srv"])
@pytest.mark.parametrize(
    "password", [PASSWORD, "p%40ss%2Fw0rd", "a@b@c1", "пароль№1", "letmein", "p"]
)
def test_of_a_url_only_the_password_goes(scheme: str, password: str) -> None:
    text = f"See {url(scheme, password)} for it."

    assert redact(text) == f"See {url(scheme, '[REDACTED password in a URL]')} for it."


def test_a_url_may_have_a_password_and_no_user() -> None:
    text = "redis:" + f"//:{PASSWORD}@cache.example:6379/0"

    assert kinds(text) == ["password in a URL"]


@pytest.mark.parametrize(
    "text",
    [
        "password: {}",
        "**Password:** {}",
        "**Password**: `{}`",
        "- Password for the database: {}",
        'DB_PASSWORD="{}"',
        "PGPASSWORD: {}",
        "pwd={};Server=db",
        '{{"password": "{}", "port": 5432}}',
        "Пароль: {}",
        "**Пароль от базы:** {}",
        "ПАРОЛЬ = {}",
        "**PostgreSQL Password:**\n```\n{}\n```\n",
        "Пароль:\r\n`{}`\r\n",
        "password:\n- {}",
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, "hunter22", "qWeRTyUIopASdFGhjKlzXCvbNm"])
def test_a_password_is_known_by_its_name(text: str, password: str) -> None:
    said = text.format(password)

    assert kinds(said) == ["password"]
    assert password not in redact(said)
    assert redact(said) == text.format("[REDACTED password]")


@pytest.mark.parametrize(
    "text",
    ["API key: {}", "SECRET_KEY={}", "auth_token: '{}'", "Токен: {}", "**API-ключ:**\n{}\n"],
)
def test_a_token_without_a_shape_is_known_by_its_name_and_its_randomness(text: str) -> None:
    said = text.format("9f8a7b6c" + "5d4e3f2a1b0c")

    assert kinds(said) == ["key or token"]


def test_a_uuid_is_a_secret_only_where_it_is_said_to_be_one() -> None:
    identity = "3f2504e0-4f89-41d3-9a0c-" + "0305e82c3301"

    assert kinds(f"RAILWAY_TOKEN={identity}") == ["key or token"]
    assert kinds(f"Project ID: {identity}") == []


def test_credentials_of_a_request_are_found() -> None:
    assert kinds("curl -H 'Authorization: Bearer " + some(6) + "1a2B3c4D5e6F7g" + "' https://x.y")
    basic = "dXNlcjpodW50ZXIy" + "MTIz"
    assert kinds(f"Authorization: Basic {basic}") == ["credentials of a request"]


def test_an_aws_secret_is_known_by_its_name() -> None:
    assert kinds("aws_secret_access_" + "key = " + some(20) + "/+" + some(18)) == ["AWS secret key"]


@pytest.mark.parametrize(
    "text",
    [
        "postgres://user:password@host/db",
        "postgres://USER:PASSWORD@HOST/db",
        "postgresql://u:<password>@h/db",
        "postgresql://u:***@h/db",
        "postgresql://u:${DB_PASSWORD}@h/db",
        "postgresql://u:$PGPASSWORD@h/db",
        "postgresql://u:{password}@h/db",
        "postgresql://u:your-password@h/db",
        "postgresql://u:example@h/db",
        "postgresql://u:xxxxxx@h/db",
        "postgresql://u:...@h/db",
        "postgresql://u:пароль@h/db",
        "postgresql://u:REDACTED@h/db",
        "postgres://postgres:postgres@localhost:5432/db",
        "postgres://annoris:annoris@db/annoris",
        "http://localhost:8080/@someone",
        "https://example.com:443/a?mail=a@b.example",
        "git@github.com:octocat/notes.git",
        "ssh://git@host:22/x",
        "time 12:30, mail a@b.example",
    ],
)
def test_a_url_with_a_placeholder_or_without_a_password_is_left_alone(text: str) -> None:
    assert find_secrets(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "password: see the vault",
        "Password: REDACTED",
        "Пароль: сохранён в 1Password",
        "Пароль: ********",
        "password = os.environ['DB1_PASSWORD']",
        "password=get_password2()",
        "password: ${DB_PASSWORD1}",
        "password: DB_PASSWORD_2",
        "password: settings.database1.password",
        "Password hashing: argon2id",
        "Password rotation: 2025-10-20",
        "Password reset at: 12:30:15",
        "password length: 12characters",
        "password: /run/secrets/db1",
        "Password: user1@example.com",
        "TOKEN USAGE: 127000 of 190000",
        "Remaining: ~78K tokens",
        "API key: создан",
        "api_key: my-application-key-for-2025",
        "secret: autosave_2025-10-20_context-recovery",
        '"NextToken": "AbC1dEf2GhI3jKl4MnO5"',
        "Commit 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a",
        "id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "ghp_... and sk-ant-... and github_pat_<yours>",
        "-----BEGIN PRIVATE " + "KEY----- is how one begins, and then come its lines.",
        "AKIAIOSFODNN7" + "EXAMPLE",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    ],
)
def test_what_only_speaks_of_secrets_is_left_alone(text: str) -> None:
    assert find_secrets(text) == []


def test_each_is_found_in_its_line_whatever_ends_lines() -> None:
    text = f"Строка 🔥\r\n\r\npassword: {PASSWORD}\r\nи\n{GITHUB_TOKEN} {url()}\n"

    found = find_secrets(text)

    assert [(one.line, one.kind) for one in found] == [
        (3, "password"),
        (5, "GitHub token"),
        (5, "password in a URL"),
    ]


def test_a_finding_does_not_have_the_value_in_it() -> None:
    assert GITHUB_TOKEN[4:] not in repr(find_secrets(f"x {GITHUB_TOKEN}"))


def test_no_part_of_a_longer_token_is_left() -> None:
    assert redact(f"a {GITHUB_TOKEN}MORE-of_it b") == "a [REDACTED GitHub token] b"


def test_a_token_in_a_url_is_one_secret() -> None:
    text = "https:" + f"//x-access-token:{GITHUB_TOKEN}@github.com/octocat/notes"

    [found] = find_secrets(text)

    assert text[found.start : found.end] == GITHUB_TOKEN


# For every text

PARTS = st.sampled_from(
    [token for _, token in TOKENS]
    + [f"password: {PASSWORD}", "Пароль: ", "token=", url(), "://a:", "@b", PASSWORD, "password"]
    + ["Words. ", " ", "\n", "\r\n", "ё", "🔑", "`", '"', "-", "_", "=", ":", "x", "[REDACTED", "]"]
    + ["-----BEGIN PRIVATE " + "KEY-----", "```\n", "AK" + "IA", "ey" + "J", "sk-", "<", "1a"]
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PARTS, st.text(max_size=3))).map("".join))


@given(TEXTS)
def test_nothing_is_found_in_what_was_redacted(text: str) -> None:
    redacted = redact(text)

    assert find_secrets(redacted) == []
    assert redact(redacted) == redacted


@given(TEXTS)
def test_nothing_changes_but_what_was_found(text: str) -> None:
    found = find_secrets(text)
    redacted = redact(text)

    if not found:
        assert redacted == text
        return
    assert redacted.startswith(text[: found[0].start])
    assert redacted.endswith(text[found[-1].end :]) or find_secrets(text[found[-1].end :])
    assert [one.start for one in found] == sorted(one.start for one in found)
    for one, following in pairwise(found):
        assert one.end <= following.start
    for one in found:
        assert 0 <= one.start < one.end <= len(text)
        assert one.line == text.count("\n", 0, one.start) + 1


MEGABYTES = 2_000_000
EDGE = "-" * 5
BIG = {
    "one word": "x",
    "spaces": " ",
    "lines": "\n",
    "digits": "1",
    "colons": ":",
    "schemes": "://",
    "users": "://" + "a" * 120 + ":" + "b" * 190,
    "a host without end": "a://b:" + "c" * 300_000,
    "at signs": "a://b:" + "@" * 1_000_000,
    "passwords without a value": "password",
    "passwords one in the other": "password=",
    "passwords and spaces": "password    ",
    "passwords and gaps": "пароль от всего на свете ",
    "short names": "pwd:",
    "names and lines": "pwd:\n",
    "placeholders": "password: xxxx\n",
    "secret keys": "secret_key=",
    "tokens": "token: a1b2c3d4e5f6",
    "keys": "api_key ",
    "headers of keys": f"{EDGE}BEGIN PRIVATE " + f"KEY{EDGE}\n",
    "headers and bodies": f"{EDGE}BEGIN PRIVATE " + f"KEY{EDGE}\n" + "A" * 64 + "\n",
    "a body without end": f"{EDGE}BEGIN PRIVATE " + f"KEY{EDGE}\n" + ("A" * 64 + "\n") * 40_000,
    "a body of gaps": f"{EDGE}BEGIN PRIVATE " + f"KEY{EDGE}\n" + "A" * 64 + ">" * 1_000_000,
    "beginnings of JWTs": "ey" + "J",
    "halves of JWTs": "ey" + "Jaaaaaaaaaa.",
    "beginnings of Slack's": "xo" + "xb-1-",
    "beginnings of npm's": "//a/:_authToken=",
    "beginnings of OpenAI's": "sk-",
    "beginnings of AWS's": "AK" + "IA",
    "Discord's": "M" * 24 + ".",
    "Telegram's": "1234567890:AA",
    "GitLab's": "gl" + "pat-",
    "tokens in a row": GITHUB_TOKEN,
    "tokens with spaces": GITHUB_TOKEN + " ",
    "AWS keys in a row": "AK" + "IA2345672345672345",
    "URLs": url() + "\n",
    "random": some(1000),
}


@pytest.mark.parametrize("seed", BIG.values(), ids=BIG.keys())
def test_two_megabytes_of_anything_are_looked_through_in_linear_time(seed: str) -> None:
    """A backtracking expression would run into the suite's time limit here."""
    text = (seed * (MEGABYTES // len(seed) + 1))[:MEGABYTES]
    start = time.process_time()

    assert find_secrets(redact(text)) == []

    assert time.process_time() - start < 30


def test_two_megabytes_of_shuffled_pieces_are_redacted_in_linear_time() -> None:
    choice = random.Random(1)
    pieces = [token for _, token in TOKENS] + [
        "password: ",
        "://a:",
        "@b",
        " ",
        "\n",
        "x",
        "=",
        "-",
    ]
    text = "".join(choice.choice(pieces) for _ in range(MEGABYTES // 30))

    assert find_secrets(redact(text)) == []


def test_looking_for_secrets_where_there_are_none_loads_no_detector() -> None:
    """They bring a library for HTTP along; an API that never sees a token is to stay small."""
    code = (
        "import sys; from api.documents.secrets import find_secrets;"
        "find_secrets('# Заметка\\n\\nWords, https://example.com, a task.\\n');"
        "sys.exit('detect_secrets' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_of_a_hundred_real_documents_less_than_one_is_taken_for_a_leak(tmp_path: Path) -> None:
    """All versions of all of them. Their secrets were taken out, so what is found is an error."""
    git(tmp_path, "clone", "--quiet", "--bare", str(corpus_bundle()), "corpus.git")
    listed = git(tmp_path / "corpus.git", "rev-list", "--objects", "--all").decode().splitlines()
    blobs = {line[:40] for line in listed if line.endswith(".md")}
    texts = [
        git(tmp_path / "corpus.git", "cat-file", "blob", oid).decode(errors="replace")
        for oid in sorted(blobs)
    ]

    wrong = [text for text in texts if find_secrets(text)]

    assert len(texts) > 90
    assert len(wrong) / len(texts) < 0.01
