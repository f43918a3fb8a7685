"""Judging GitHub's answers. Pure: an answer in, an error of ours out, or none.

The shapes are GitHub's own: errors come with HTTP 200, their `type` stands at the top level and
may be absent, limits have several spellings, and 5xx bodies may be HTML.
"""

import re
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from api.documents import Json
from api.master.errors import (
    AccessRefused,
    HeadMoved,
    HeadUnknown,
    MasterError,
    Missing,
    OutcomeUnknown,
    Protected,
    RateLimited,
    Rejected,
    TooMuchAsked,
    Unreachable,
)

COMMIT = "createCommitOnBranch"
RETRY_AFTER_UNSAID = 60.0  # seconds; GitHub's advice where it names no time itself


class GraphQLErrorJson(TypedDict, total=False):
    """One entry of `errors`, as GitHub writes it."""

    type: str
    message: str
    path: list[str | int]
    extensions: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, taken apart.

    `message` is the text of a body that is no GraphQL answer (limits, bad credentials, 5xx).
    """

    status: int
    headers: Mapping[str, str]
    data: Mapping[str, Json] | None = None
    errors: Sequence[GraphQLErrorJson] = field(default_factory=tuple)
    message: str | None = None

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-github-request-id")


def read_failure(
    answer: Answer, *, absent: Container[tuple[str | int, ...]] = ()
) -> MasterError | None:
    """The error that makes a read's answer unusable, or None.

    `absent`: the paths of fields that may be null because what they name does not exist.
    """
    if failure := _refusal(answer):
        return failure
    if answer.status >= 500:
        return TooMuchAsked(
            f"GitHub answered with status {answer.status}. Try again shortly.",
            request_id=answer.request_id,
        )
    if answer.data is None and not answer.errors:
        return Unreachable(
            f"GitHub answered with status {answer.status} and no result. Try again shortly.",
            request_id=answer.request_id,
        )
    for error in answer.errors:
        is_absence = error.get("type") == "NOT_FOUND" and tuple(error.get("path", ())) in absent
        if answer.data is None or not is_absence:
            return _read_error(error, answer.request_id)
    return None


def landed(answer: Answer) -> Mapping[str, Json] | None:
    """The commit that an answer names. Whatever errors stand beside it, it landed."""
    payload = (answer.data or {}).get(COMMIT)
    commit = payload.get("commit") if isinstance(payload, dict) else None
    return commit if isinstance(commit, dict) and commit.get("oid") else None


def commit_failure(answer: Answer) -> MasterError:
    """Why a commit's answer names no commit. Never a guess: what is not known says so."""
    if not _began(answer):
        if failure := _refusal(answer):
            return failure
        for error in answer.errors:
            if known := _commit_error(error, answer.request_id):
                return known
        if answer.status in {400, 413, 422}:
            return Rejected(
                f"GitHub refused the commit: {answer.message or f'status {answer.status}'}",
                request_id=answer.request_id,
            )
    return OutcomeUnknown(
        f"GitHub answered with status {answer.status} and did not say whether the commit landed.",
        request_id=answer.request_id,
    )


def _began(answer: Answer) -> bool:
    """Whether GitHub went on to describe a commit and failed at that: it can have landed."""
    paths = [error.get("path", []) for error in answer.errors]
    return (answer.data or {}).get(COMMIT) is not None or any(
        path[:1] == [COMMIT] and len(path) > 1 for path in paths
    )


def _refusal(answer: Answer) -> MasterError | None:
    """Limits, credentials and addresses: refused before anything ran, whatever was asked."""
    # The text of NOT_FOUND quotes a path, which may be anybody's words.
    errors = [error for error in answer.errors if error.get("type") != "NOT_FOUND"]
    texts = [answer.message or "", *(error.get("message", "") for error in errors)]
    if (
        any(error.get("type") in {"RATE_LIMIT", "RATE_LIMITED"} for error in errors)
        or any(re.search(r"rate limit", text, re.IGNORECASE) for text in texts)
        or answer.status == 429
        or (answer.status == 403 and "retry-after" in answer.headers)
    ):
        wait = retry_after(answer.headers)
        return RateLimited(
            f"GitHub's rate limit is used up. Try again in {wait:.0f} seconds.",
            retry_after=wait,
            request_id=answer.request_id,
        )
    if answer.status in {401, 403}:
        return AccessRefused(
            f"GitHub refused the credentials ({answer.message or 'no reason given'}). "
            "Check GITHUB_TOKEN or the GitHub App: it may be wrong, expired or not authorised for "
            "the organisation.",
            request_id=answer.request_id,
        )
    if answer.status == 404 or 300 <= answer.status < 400:
        return Missing(
            "GitHub does not find it. Check GITHUB_API_URL and GITHUB_REPOSITORY.",
            request_id=answer.request_id,
        )
    return None


def token_failure(answer: Answer) -> MasterError:
    """Why GitHub gave an App no token. Nothing that the token was wanted for was sent."""
    refusal = _refusal(answer)
    if isinstance(refusal, RateLimited):
        return refusal
    said, request_id = answer.message or "no reason given", answer.request_id
    if answer.status == 401:
        return AccessRefused(
            f"GitHub refused the App's key ({said}). Check GITHUB_APP_ID and "
            "GITHUB_APP_PRIVATE_KEY, and the clock of this machine.",
            request_id=request_id,
        )
    if answer.status == 403:
        return AccessRefused(
            f"GitHub gives the App no token ({said}). Look at its installation in the settings "
            "of the repository's owner: it may be suspended.",
            request_id=request_id,
        )
    if answer.status == 404:
        return Missing(
            f"GitHub does not find the App's installation ({said}). Check GITHUB_APP_ID, "
            "GITHUB_APP_INSTALLATION_ID and GITHUB_API_URL, and that the App is installed.",
            request_id=request_id,
        )
    return refusal or Unreachable(
        f"GitHub answered with status {answer.status} when the App asked for a token. "
        "Try again shortly.",
        request_id=request_id,
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait: retry-after, else until a used-up quota's reset, else 60."""
    try:
        if "retry-after" in headers:
            return max(1.0, int(headers["retry-after"]))
        if headers.get("x-ratelimit-remaining") == "0":
            return max(1.0, int(headers["x-ratelimit-reset"]) - time.time())
    except (KeyError, ValueError):
        pass
    return RETRY_AFTER_UNSAID


def _read_error(error: GraphQLErrorJson, request_id: str | None) -> MasterError:
    kind, message = error.get("type"), error.get("message", "")
    if kind == "NOT_FOUND":
        return Missing(f"GitHub does not find it: {message}", request_id=request_id)
    if kind in {"FORBIDDEN", "INSUFFICIENT_SCOPES"}:
        return AccessRefused(f"GitHub refused access: {message}", request_id=request_id)
    # A file over 10 MB is too much for `Commit.file`; the listing of its directory still names it.
    if kind in {"RESOURCE_LIMITS_EXCEEDED", "MAX_NODE_LIMIT_EXCEEDED"} or re.search(
        r"something went wrong|timeout on validation|over 10 ?mb", message, re.IGNORECASE
    ):
        return TooMuchAsked(f"GitHub gave up on the request: {message}", request_id=request_id)
    return Unreachable(f"GitHub could not answer: {message}", request_id=request_id)


def _commit_error(error: GraphQLErrorJson, request_id: str | None) -> MasterError | None:
    """What an error says for certain, or None: types and texts are an open list."""
    kind, message = error.get("type"), error.get("message", "")

    def says(pattern: str) -> bool:
        return re.search(pattern, message, re.IGNORECASE) is not None

    if kind == "STALE_DATA" or says(r"is at \S+ but expected"):
        return HeadMoved("The branch moved on before the commit.", request_id=request_id)
    if kind == "NOT_FOUND" and says("expectedHeadOid"):
        return HeadUnknown(
            "GitHub does not know the commit that this one was to build on.", request_id=request_id
        )
    if says("branch not found|could not resolve to a repository"):
        return Missing(f"GitHub does not find it: {message}", request_id=request_id)
    is_of_content = says("secret|file path|file size|file extension|path length")
    if not is_of_content and (
        kind == "BRANCH_PROTECTION_RULE_VIOLATION"
        or says("rule violations found|protected ref|must be made through|verified signatures")
    ):
        return Protected(
            f"The branch is protected and GitHub refused the commit: {' '.join(message.split())} "
            "Allow the token's owner to bypass the rule, or choose another GITHUB_BRANCH.",
            request_id=request_id,
        )
    if says("read-only"):
        return Protected(f"GitHub refused the commit: {message}", request_id=request_id)
    if (
        kind in {"UNPROCESSABLE", "NOT_FOUND"}
        or "code" in error.get("extensions", {})
        or says(
            "provided invalid value|deletion which does not exist|rule violations|secret detected"
        )
    ):
        return Rejected(f"GitHub refused the commit: {message}", request_id=request_id)
    if kind in {"FORBIDDEN", "INSUFFICIENT_SCOPES"} or says("refusing to allow"):
        return AccessRefused(
            f"GitHub refused the commit: {message} The token needs write access to contents.",
            request_id=request_id,
        )
    return None
