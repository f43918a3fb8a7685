"""Finding what must not get into a repository: tokens, keys and passwords in a text. Pure.

The shapes of many tokens come from detect-secrets; its detectors that guess (entropy, keywords)
and those that hostile text makes slow are replaced by narrower ones of ours. What is found is
known by its place and kind: no value is kept, so that none can get into an error or a log.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]

PASSWORD_IN_URL = "password in a URL"  # noqa: S105  # the name of a kind
PASSWORD = "password"  # noqa: S105
_REDACTED = "[REDACTED {}]"


@dataclass(frozen=True, slots=True)
class Found:
    """A secret by its place in the text: `line` from 1, characters from `start` up to `end`."""

    line: int
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one kind of secret looks. A text without any of the `marks` has none of them."""

    kind: str
    marks: tuple[str, ...]
    spans: Callable[[str], Iterable[Span]]


def find_secrets(text: str) -> list[Found]:
    """All secrets in a text, in their order. Takes time in proportion to the text's length."""
    lower = _lower(text)
    spans = sorted(
        (start, -end, number)
        for number, shape in enumerate(_SHAPES)
        if any(mark in lower for mark in shape.marks)
        for start, end in shape.spans(text)
    )
    found: list[Found] = []
    line, counted, done = 1, 0, 0
    for start, minus_end, number in spans:
        if start < done:  # part of the one before, or the rest of it
            if -minus_end > done:
                done = _word_end(text, -minus_end)
                last = found.pop()
                found.append(Found(last.line, last.kind, last.start, done))
            continue
        begin = _word_start(text, start, done)
        done = _word_end(text, -minus_end)
        line, counted = line + text.count("\n", counted, begin), begin
        found.append(Found(line, _SHAPES[number].kind, begin, done))
    return found


def redact(text: str) -> str:
    """The text with each secret replaced by its kind. Nothing is found in it any more."""
    while found := find_secrets(text):  # what stood beside a secret may be one without it
        parts, done = [], 0
        for secret in found:
            parts += [text[done : secret.start], _REDACTED.format(secret.kind)]
            done = secret.end
        text = "".join([*parts, text[done:]])
    return text


# A secret goes with the whole word that it stands in: half a token may be enough to guess the
# other, and what is left could look like another secret.
_WORD = re.compile(r"[A-Za-z0-9_-]*+")
_NO_WORD = re.compile(r"[^A-Za-z0-9_-]")


def _word_end(text: str, end: int) -> int:
    rest = _WORD.match(text, end)
    return rest.end() if rest else end


def _word_start(text: str, start: int, least: int) -> int:
    while start > least and not _NO_WORD.match(text[start - 1]):
        start -= 1
    return start


# Tokens of a known shape


def _of_detect_secrets(module: str, name: str) -> Callable[[str], Iterator[Span]]:
    """The spans of a detector of detect-secrets.

    It is imported when a text has one of its marks for the first time: it brings a library for
    HTTP along, which costs 0.1 seconds and 19 MB, and hardly a process ever needs it.
    """

    @cache
    def patterns() -> tuple[re.Pattern[str], ...]:
        detector = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        return tuple(detector.denylist)

    def spans(text: str) -> Iterator[Span]:
        for pattern in patterns():
            for match in pattern.finditer(text):
                yield match.span()

    return spans


def _of(pattern: str, flags: int = 0) -> Callable[[str], Iterator[Span]]:
    """The spans of an expression, or of its group `secret`."""
    compiled = re.compile(pattern, flags)
    group: int | str = "secret" if "secret" in compiled.groupindex else 0

    def spans(text: str) -> Iterator[Span]:
        return (match.span(group) for match in compiled.finditer(text))

    return spans


def _token(kind: str, *shapes: tuple[str, str]) -> _Shape:
    """A kind of token that begins with a prefix of its own, and what comes after it."""
    joined = "|".join(re.escape(prefix) + rest for prefix, rest in shapes)
    marks = tuple(prefix.lower() for prefix, _ in shapes)
    return _Shape(kind, marks, _of(rf"(?<![A-Za-z0-9])(?:{joined})"))


# A key in PEM: the lines of its body are what makes it one. Dashes end the body, so that no part
# of a text is looked at for two headers.
_GAP = r"(?:[\s>]|\\[nr])"
_PRIVATE_KEY = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rf"{_GAP}{{0,20}}+(?:[A-Za-z-]{{1,30}}:[^\n]{{0,200}}\n{_GAP}{{0,20}}+){{0,5}}+"
    r"[A-Za-z0-9+/=]{24,}+"
    rf"(?:{_GAP}{{1,20}}+[A-Za-z0-9+/=]{{16,}}+)*+"
    rf"(?:{_GAP}{{0,20}}+[A-Za-z0-9+/=]{{0,80}}+{_GAP}{{0,20}}+(?:=[A-Za-z0-9+/]{{4}}{_GAP}{{0,20}}+)?"
    r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)

# Passwords and keys that are known by what stands before them

_PLACEHOLDER = re.compile(
    r"redacted|example|placeholder|change_?-?me|^your|replace|dummy|\.\.\.|…|\*\*\*|xxxx|%\(|\$\{"
    r"|\{\{|\$\(|^[<\[{$%]",
    re.IGNORECASE,
)
_PLAIN = frozenset(
    ("pass", "passwd", "password", "passw0rd", "pwd", "token", "key", "пароль", "токен")
)


def _is_placeholder(value: str) -> bool:
    """Whether a value says only that there should be one."""
    return (
        bool(_PLACEHOLDER.search(value))
        or value.strip("_-:.").lower() in _PLAIN
        or (len(value) > 2 and len(set(value)) == 1)
    )


# Passwords may have "@" in them, so the last one before the host's end counts. A host has no "/".
_URL = re.compile(
    r"""://(?P<user>[^\s/:@?\#<>"'`]{0,128}+):"""
    r"""(?=(?P<secret>[^\s/?\#"'`<>]{1,200})@(?P<host>[\w\[.-]{1,100}))"""
)


def _passwords_in_urls(text: str) -> Iterator[Span]:
    for match in _URL.finditer(text):
        secret, host = match["secret"], match["host"].lower()
        is_local = "." not in host or host == "127.0.0.1"  # as in everybody's docker-compose.yml
        if not _is_placeholder(secret) and not (is_local and secret == match["user"]):
            yield match.span("secret")


# What stands between a name and its value, which may have the line below for itself. The value is
# only looked at: it may have a name and a value in it again.
# No "]" but after a quote, so that "[REDACTED password]" is no name.
_CLOSING, _OPENING = r"""(?:["'`]\]|["'`*_)]{0,4}+)""", r"""["'`*]{0,4}+[ \t]?["'`]?"""
_EQUALS = r"[ \t]{0,4}+(?:=>|:=|[:=])[ \t]{0,4}+"
_BELOW = r"[*_`]{0,4}[ \t]{0,4}\r?\n(?:[ \t]{0,4}```[a-z]{0,10}\r?\n)?[ \t]{0,4}(?:[->*][ \t])?`?"
_ALONE = r"`?[ \t]{0,4}(?:\r?\n|\Z)"


def _named(
    kind: str,
    names: tuple[str, ...],
    value: str,
    is_secret: Callable[[str], bool],
    *,
    before: str = "",
    after: str = "",
    opening: str = _OPENING,
) -> _Shape:
    """A kind of secret that is known by the name before it.

    `before` and `after`: expressions for what stands right before and after the name.
    """
    name = "(?:" + "|".join(map(re.escape, names)) + ")"
    start = f"{name}{_CLOSING}{after}{_EQUALS}"
    patterns = (
        re.compile(f"{start}{opening}(?=(?P<secret>{value}))", re.IGNORECASE),
        re.compile(f"{start}{_BELOW}(?=(?P<secret>{value}){_ALONE})", re.IGNORECASE),
    )
    ends = re.compile(f"(?:{before})$", re.IGNORECASE)

    def spans(text: str) -> Iterator[Span]:
        for place in _places(_lower(text), names):
            for pattern in patterns:
                match = pattern.match(text, place)
                found = match["secret"].rstrip(_TAIL) if match else ""
                if (
                    match
                    and is_secret(found)
                    and not _is_placeholder(found)
                    and ends.search(text[max(0, place - 12) : place])
                ):
                    yield match.start("secret"), match.start("secret") + len(found)

    return _Shape(kind, names, spans)


def _places(text: str, names: Iterable[str]) -> Iterator[int]:
    """Where a name is found. Much quicker than an expression with all of them."""
    for name in names:
        place = text.find(name)
        while place >= 0:
            yield place
            place = text.find(name, place + 1)


def _lower(text: str) -> str:
    """In lower case, with every character where it was."""
    return text.replace("İ", "I").lower()  # the only one that becomes two


_NO_PASSWORD = re.compile(
    r"[\w.]+[(\[]"  # a call, an item
    r"|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$"  # an attribute, a file
    r"|[A-Z][A-Z0-9]*_[A-Z0-9_]+$"  # a variable of the environment
    r"|\d+[A-Za-z]+$|v?\d+(?:[.:/-]\d+)+"  # a length, a version, a date, a time
    r"|[./~@&-]|\w+://|[^@\s]+@[\w-]+\.\w+"  # a path, an option, a URL, an address
    r"|(?:argon|b?crypt|scrypt|sha|md|pbkdf|oauth|base|utf|aes|rsa|ed|rfc|http|totp|ntlm)-?\d"
)
_PIECES = re.compile(r"[A-Za-z0-9]{12,}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TURNS = re.compile(r"(?=[A-Za-z][0-9]|[0-9][A-Za-z])")
_CASE_TURNS, _CAPITALS = re.compile(r"[a-z][A-Z]"), re.compile(r"[A-Z]{2}")
_TAIL = ",.;:)*]}"  # what ends a value, and is none of it


def _may_be_password(value: str) -> bool:
    """Words are left alone: most often they say what is with the password."""
    is_mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return _has_randomness(value) or (
        is_mixed and len(value) >= 6 and not _NO_PASSWORD.match(value)
    )


def _has_randomness(value: str) -> bool:
    """Whether it is, or has in it, what nobody would make up."""
    return any(map(_is_random, _PIECES.findall(value))) or bool(_UUID.fullmatch(value))


def _is_random(piece: str) -> bool:
    """Whether letters and digits, or small letters and capitals, alternate as in no words."""
    return len(_TURNS.findall(piece)) >= 3 or (
        len(piece) >= 16
        and len(_CASE_TURNS.findall(piece)) >= 3
        and len(_CAPITALS.findall(piece)) >= 2
    )


_SHAPES: tuple[_Shape, ...] = (
    _Shape("private key", ("private key",), _of(_PRIVATE_KEY)),
    _Shape("age key", ("age-secret-key-1",), _of(r"AGE-SECRET-KEY-1[0-9A-Z]{50,}")),
    _token("Annoris API key", ("annoris_", r"[A-Za-z0-9_-]{40,}+")),
    _Shape(
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        _of_detect_secrets("github_token", "GitHubTokenDetector"),
    ),
    _token("GitHub token", ("github_pat_", r"[A-Za-z0-9_]{36,}+")),
    _Shape(
        "GitLab token",
        ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "gr1348941", "glcbt-"),
        _of_detect_secrets("gitlab_token", "GitLabTokenDetector"),
    ),
    _Shape(
        "AWS access key",
        ("akia", "asia", "abia", "acca", "a3t"),
        # Those in the manuals of AWS end with EXAMPLE.
        _of(r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}(?<!EXAMPLE)"),
    ),
    _Shape(
        "AWS secret key",
        ("secret",),
        _of(
            r"""secret[_ -]?(?:access[_ -]?)?key["'`*]{0,3}[ \t]{0,4}[:=][ \t]{0,4}["'`]?"""
            r"(?P<secret>[A-Za-z0-9/+]{40})(?<!EXAMPLEKEY)(?![A-Za-z0-9/+=])",
            re.IGNORECASE,
        ),
    ),
    _Shape(
        "Azure storage key",
        ("accountkey=",),
        _of_detect_secrets("azure_storage_key", "AzureStorageKeyDetector"),
    ),
    _Shape(
        "Slack token",
        ("xoxa-", "xoxb-", "xoxp-", "xoxo-", "xoxs-", "xoxr-", "hooks.slack.com/services/"),
        _of_detect_secrets("slack", "SlackDetector"),
    ),
    _token("Slack token", ("xapp-", r"\d-[A-Z0-9]{8,}+-\d+-[a-z0-9]{32,}+")),
    _Shape("Stripe key", ("k_live_",), _of_detect_secrets("stripe", "StripeDetector")),
    _token("Stripe webhook secret", ("whsec_", r"[A-Za-z0-9+/=]{32,}+")),
    _Shape("SendGrid key", ("sg.",), _of(r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")),
    _Shape(
        "Square secret", ("sq0csp-",), _of_detect_secrets("square_oauth", "SquareOAuthDetector")
    ),
    _Shape("PyPI token", ("pypi-ag",), _of_detect_secrets("pypi_token", "PypiTokenDetector")),
    _token("npm token", ("npm_", r"[A-Za-z0-9]{36}")),
    _Shape(
        "Telegram bot token",
        (":aa",),
        _of_detect_secrets("telegram_token", "TelegramBotTokenDetector"),
    ),
    _Shape(
        "Discord bot token",
        (".",),
        _of(
            r"(?<![A-Za-z0-9_-])[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}"
            r"\.[A-Za-z0-9_-]{27,38}(?![A-Za-z0-9_-])"
        ),
    ),
    _Shape(
        "Discord webhook",
        ("/api/webhooks/",),
        _of(r"discord(?:app)?\.com/api/webhooks/\d{15,20}/[A-Za-z0-9_-]{60,}+"),
    ),
    _Shape(
        "webhook of Make",
        (".make.com/",),
        _of(r"hook\.[a-z0-9.]{0,20}make\.com/[A-Za-z0-9_-]{20,}+"),
    ),
    _Shape("Twilio key", ("sk",), _of(r"(?<![A-Za-z0-9])SK[0-9a-f]{32}(?![A-Za-z0-9])")),
    _Shape(
        "Mailchimp key", ("-us",), _of(r"(?<![A-Za-z0-9])[0-9a-f]{32}-us[0-9]{1,2}(?![A-Za-z0-9])")
    ),
    _token("Mailgun key", ("key-", r"[0-9a-f]{32}(?![A-Za-z0-9])")),
    _token("Anthropic key", ("sk-ant-", r"[A-Za-z0-9_-]{20,}+")),
    _token(
        "OpenAI key",
        ("sk-proj-", r"[A-Za-z0-9_-]{20,}+"),
        ("sk-svcacct-", r"[A-Za-z0-9_-]{20,}+"),
        ("sk-admin-", r"[A-Za-z0-9_-]{20,}+"),
        ("sk-", r"[A-Za-z0-9]{32,}+"),
    ),
    _token("OpenRouter key", ("sk-or-v1-", r"[0-9a-f]{32,}+")),
    _token("Google API key", ("AIza", r"[A-Za-z0-9_-]{35}")),
    _token("Google OAuth secret", ("GOCSPX-", r"[A-Za-z0-9_-]{24,}+")),
    _token("Google OAuth token", ("ya29.", r"[A-Za-z0-9_-]{40,}+")),
    _token("Hugging Face token", ("hf_", r"[A-Za-z0-9]{30,}+")),
    _token("Groq key", ("gsk_", r"[A-Za-z0-9]{40,}+")),
    _token("xAI key", ("xai-", r"[A-Za-z0-9]{60,}+")),
    _token("Replicate token", ("r8_", r"[A-Za-z0-9]{37,}+")),
    _token("Perplexity key", ("pplx-", r"[A-Za-z0-9]{40,}+")),
    _token("Docker token", ("dckr_pat_", r"[A-Za-z0-9_-]{27,}+")),
    _token("DigitalOcean token", ("dop_v1_", r"[0-9a-f]{64}"), ("doo_v1_", r"[0-9a-f]{64}")),
    _token("Supabase token", ("sbp_", r"[0-9a-f]{40}"), ("sb_secret_", r"[A-Za-z0-9_-]{20,}+")),
    _token("Notion token", ("ntn_", r"[A-Za-z0-9]{40,}+"), ("secret_", r"[A-Za-z0-9]{43}")),
    _token("Linear key", ("lin_api_", r"[A-Za-z0-9]{32,}+")),
    _token("Figma token", ("figd_", r"[A-Za-z0-9_-]{36,}+")),
    _token("Shopify token", ("shpat_", r"[0-9a-fA-F]{32}"), ("shpss_", r"[0-9a-fA-F]{32}")),
    _token("Atlassian token", ("ATATT3", r"[A-Za-z0-9_=-]{60,}+")),
    _token("Grafana token", ("glsa_", r"[A-Za-z0-9_]{32,}+"), ("glc_", r"[A-Za-z0-9+/=]{32,}+")),
    _token("Vault token", ("hvs.", r"[A-Za-z0-9_-]{24,}+"), ("hvb.", r"[A-Za-z0-9_-]{24,}+")),
    _token("Databricks token", ("dapi", r"[0-9a-f]{32}(?![A-Za-z0-9])")),
    _Shape(
        "JSON Web Token",
        ("eyj",),
        _of(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{4,}+\.[A-Za-z0-9_-]{16,}+"),
    ),
    _Shape(PASSWORD_IN_URL, ("://",), _passwords_in_urls),
    _named(
        "credentials of a request",
        ("authorization",),
        r"[\w+/=.~-]{16,256}",
        _has_randomness,
        opening=r"""["'`]?(?:bearer|basic|token)[ \t]{1,4}+""",
    ),
    _named(
        PASSWORD,
        ("password", "passwd", "passphrase", "pwd", "пароль", "пароля", "пароле", "паролем"),
        r"[!\#-&(-+\--:<-_a-~]{6,128}",  # neither space nor quote, comma or semicolon
        _may_be_password,
        after=r"(?:[ \t][^\n:=\]]{0,30}+)?",
    ),
    _named(
        "key or token",
        ("secret", "token", "секрет", "токен", "ключ"),
        r"[\w+/=.~-]{16,256}",
        _has_randomness,
        before="(?<!next)(?<!page)(?<!lock)(?<!idempotency)",
    ),
    _named(
        "key or token",
        ("key",),
        r"[\w+/=.~-]{16,256}",
        _has_randomness,
        before="(?:api|access|private|secret|encryption|signing|account|апи)[ _-]?",
    ),
)
