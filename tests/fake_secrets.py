"""Secrets that open nothing, put together at run time: no scanner is to take this repository for
one that leaks.
"""

import random
import string

_CHOICE = random.Random(7)
_HEX, _ALNUM, _CAPITALS = "0123456789abcdef", string.ascii_letters + string.digits, "ABCDEFGH234567"


def some(count: int, of: str = _ALNUM) -> str:
    return "".join(_CHOICE.choice(of) for _ in range(count))


def _jwt() -> str:
    return ".".join(("ey" + "J" + some(30), "ey" + "J" + some(40), some(43)))


def _pem(kind: str) -> str:
    lines = "\n".join(some(64) for _ in range(4))
    edge = "-" * 5
    return f"{edge}BEGIN {kind}{edge}\n{lines}\n{some(20)}==\n{edge}END {kind}{edge}"


# By what a finding calls them.
TOKENS: list[tuple[str, str]] = [
    *(("GitHub token", f"gh{letter}_" + some(36)) for letter in "pousr"),
    ("GitHub token", "github" + "_pat_" + some(22) + "_" + some(59)),
    ("Annoris API key", "annoris" + "_" + some(43)),
    ("GitLab token", "gl" + "pat-" + some(20)),
    ("AWS access key", "AK" + "IA" + some(16, _CAPITALS)),
    ("AWS access key", "AS" + "IA" + some(16, _CAPITALS)),
    ("Slack token", "xo" + "xb-" + some(12, string.digits) + "-" + some(24)),
    ("Slack token", "https://hooks.slack" + ".com/services/T" + some(8) + "/B" + some(8) + "/x1Y"),
    ("Stripe key", "sk" + "_live_" + some(24)),
    ("SendGrid key", "S" + "G." + some(22) + "." + some(43)),
    ("Square secret", "sq0" + "csp-" + some(43)),
    ("PyPI token", "pypi-" + "AgEIcHlwaS5vcmc" + some(80)),
    ("npm token", "npm" + "_" + some(36)),
    ("Telegram bot token", some(10, "123456789") + ":" + "AA" + some(33)),
    ("Discord bot token", "M" + some(23) + "." + some(6) + "." + some(27)),
    ("webhook of Make", "hook.eu2." + "make.com/" + some(32, _HEX)),
    ("Twilio key", "S" + "K" + some(32, _HEX)),
    ("Mailchimp key", some(32, _HEX) + "-us" + "12"),
    ("Anthropic key", "sk-" + "ant-api03-" + some(80)),
    ("OpenAI key", "sk-" + "proj-" + some(48)),
    ("OpenAI key", "sk-" + some(48)),
    ("OpenRouter key", "sk-" + "or-v1-" + some(64, _HEX)),
    ("Google API key", "AI" + "za" + some(35)),
    ("Google OAuth secret", "GOC" + "SPX-" + some(28)),
    ("Hugging Face token", "hf" + "_" + some(34)),
    ("Groq key", "gs" + "k_" + some(52)),
    ("Docker token", "dckr" + "_pat_" + some(27)),
    ("DigitalOcean token", "dop" + "_v1_" + some(64, _HEX)),
    ("Supabase token", "sb" + "p_" + some(40, _HEX)),
    ("Notion token", "nt" + "n_" + some(46)),
    ("Linear key", "lin" + "_api_" + some(40)),
    ("Shopify token", "shp" + "at_" + some(32, _HEX)),
    ("JSON Web Token", _jwt()),
    ("private key", _pem("RSA PRIVATE " + "KEY")),
    ("private key", _pem("OPENSSH PRIVATE " + "KEY")),
    ("private key", _pem("PRIVATE " + "KEY").replace("\n", "\\n")),
    ("private key", _pem("ENCRYPTED PRIVATE " + "KEY").replace("\n", "\r\n")),
]
GITHUB_TOKEN = TOKENS[0][1]
PASSWORD = "Tr0ub" + "4dor-" + some(5)


def url(scheme: str = "postgresql", password: str = PASSWORD) -> str:
    return f"{scheme}:" + f"//annoris:{password}@" + "db.railway.internal:5432/notes"
