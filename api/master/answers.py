"""Judging GitHub's answers. Pure: an answer in, an error of ours out, or none.

The shapes are GitHub's own: errors come with HTTP 200, their `type` stands at the top level and
may be absent, limits have several spellings, and 5xx bodies may be HTML.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from api.documents import Json
from api.master.errors import (
    AccessRefused,
    HeadMoved,
    MasterError,
    Missing,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    TooMuchAsked,
    Unreachable,
)

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


def read_failure(answer: Answer, *, partial: tuple[str, ...] | None = None) -> MasterError | None:
    """The error that makes a read's answer unusable, or None.

    `partial`: the path below which the reader copes with nulls that errors left behind.
    """
    if failure := _refusal(answer):
        return failure
    if answer.status == 404:
        return Missing(
            "GitHub does not find it. Check GITHUB_API_URL and GITHUB_REPOSITORY.",
            request_id=answer.request_id,
        )
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
        below = partial is not None and tuple(error.get("path", ()))[: len(partial)] == partial
        if answer.data is None or not below:
            return _read_error(error, answer.request_id)
    return None


def commit_failure(answer: Answer) -> MasterError:
    """Why a commit's answer carries no commit oid. Never a guess: what is not known says so."""
    if failure := _refusal(answer):
        return failure
    for error in answer.errors:
        if known := _commit_error(error, answer.request_id):
            return known
    return OutcomeUnknown(
        f"GitHub answered with status {answer.status} and did not say whether the commit landed.",
        request_id=answer.request_id,
    )


def _refusal(answer: Answer) -> MasterError | None:
    """Limits and credentials: refused before anything ran, whatever was asked."""
    texts = [answer.message or "", *(e.get("message", "") for e in answer.errors)]
    types = {e.get("type") for e in answer.errors}
    limited = types & {"RATE_LIMIT", "RATE_LIMITED"} or any(
        re.search(r"rate limit", t, re.IGNORECASE) for t in texts
    )
    if (
        limited
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
            "Check GITHUB_TOKEN: it may be wrong, expired or not authorised for the organisation.",
            request_id=answer.request_id,
        )
    return None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait: retry-after, else until a used-up quota's reset, else 60."""
    try:
        if "retry-after" in headers:
            return max(1.0, float(headers["retry-after"]))
        if headers.get("x-ratelimit-remaining") == "0":
            return max(1.0, float(headers["x-ratelimit-reset"]) - time.time())
    except (KeyError, ValueError):
        pass
    return RETRY_AFTER_UNSAID


def _read_error(error: GraphQLErrorJson, request_id: str | None) -> MasterError:
    kind, message = error.get("type"), error.get("message", "")
    if kind == "NOT_FOUND":
        return Missing(f"GitHub does not find it: {message}", request_id=request_id)
    if kind in {"FORBIDDEN", "INSUFFICIENT_SCOPES"}:
        return AccessRefused(f"GitHub refused access: {message}", request_id=request_id)
    gave_up = kind in {"RESOURCE_LIMITS_EXCEEDED", "MAX_NODE_LIMIT_EXCEEDED"}
    if gave_up or "Something went wrong" in message:
        return TooMuchAsked(f"GitHub gave up on the request: {message}", request_id=request_id)
    return Unreachable(f"GitHub could not answer: {message}", request_id=request_id)


def _commit_error(error: GraphQLErrorJson, request_id: str | None) -> MasterError | None:
    kind, message = error.get("type"), error.get("message", "")
    stale = (
        kind == "STALE_DATA"
        or re.search(r"is at \S+ but expected", message)
        or (kind == "NOT_FOUND" and "expectedHeadOid" in message)
    )
    if stale:
        return HeadMoved("The branch moved on before the commit.", request_id=request_id)
    if re.search(r"branch not found|Could not resolve to a Repository", message, re.IGNORECASE):
        return Missing(f"GitHub does not find it: {message}", request_id=request_id)
    protected = kind == "BRANCH_PROTECTION_RULE_VIOLATION" or re.search(
        r"rule violations found|protected|through a pull request|verified signatures",
        message,
        re.IGNORECASE,
    )
    if protected:
        return Rejected(
            f"The branch is protected and GitHub refused the commit: {' '.join(message.split())} "
            "Allow the token's owner to bypass the rule, or choose another GITHUB_BRANCH.",
            request_id=request_id,
        )
    if kind in {"FORBIDDEN", "INSUFFICIENT_SCOPES"}:
        return AccessRefused(
            f"GitHub refused the commit: {message} The token needs write access to contents.",
            request_id=request_id,
        )
    if kind or "code" in error.get("extensions", {}):
        return Rejected(f"GitHub refused the commit: {message}", request_id=request_id)
    if "requested for deletion which does not exist" in message:
        return Rejected(f"GitHub refused the commit: {message}", request_id=request_id)
    return None
