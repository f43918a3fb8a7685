"""What GitHub says, literally, and what it means to us: for a read, and for a commit.

Each row goes over real HTTP, so that what the transport makes of it is judged, too.
"""

import time
from dataclasses import dataclass

import pytest

from api.documents import Json
from api.master import operations
from api.master.answers import commit_failure, landed, read_failure, retry_after
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
from api.master.transport import GitHub as Client
from tests.master.scripted import HTML, Said, Scripted

OLD = "1" * 40
NEW = "2" * 40
FIELD: Json = ["createCommitOnBranch"]
UNICORN = Said("<!DOCTYPE html><title>Unicorn!</title>", 502, {}, HTML)
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID C0DE:1."
)
SCOPES = (
    "Your token has not been granted the required scopes to execute this query. The 'id' field "
    "requires one of the following scopes: ['read:project'], but your token has only been granted "
    "the: ['repo'] scopes."
)
WENT_WRONG = (
    "Something went wrong while executing your query. This may be the result of a timeout, or it "
    "could be a GitHub bug. Please include `C0DE:1` when reporting this issue."
)
WENT_WRONG_NOW = (
    "Something went wrong while executing your query on 2026-11-20T10:00:00Z. "
    "Please include `C0DE:1` when reporting this issue."
)
TIMED_OUT = (
    "We couldn't respond to your request in time. Sorry about that. Please try resubmitting your "
    "request and contact us if the problem persists."
)
WORKFLOW = (
    "refusing to allow a Personal Access Token to create or update workflow "
    "`.github/workflows/x.yml` without `workflow` scope"
)
SAML = (
    "Resource protected by organization SAML enforcement. You must grant your Personal Access "
    "token access to this organization."
)


def refused(message: str, kind: str | None = None, **more: Json) -> Said:
    """An error of the mutation, in its common shape."""
    error: dict[str, Json] = {"path": FIELD, "message": message, **more}
    return Said.json(
        {
            "data": {"createCommitOnBranch": None},
            "errors": [{"type": kind, **error} if kind else error],
        }
    )


def errors(*listed: dict[str, Json], data: Json = None, status: int = 200) -> Said:
    body: dict[str, Json] = {"errors": list(listed)}
    return Said.json({"data": data, **body} if data else body, status)


def said(message: str, status: int, **headers: str) -> Said:
    return Said.json({"message": message, "documentation_url": "…"}, status, **headers)


@dataclass(frozen=True)
class Means:
    read: type[MasterError]
    commit: type[MasterError]
    wait: float | None = None  # seconds


LIMITED = Means(RateLimited, RateLimited, 60)
REFUSED = Means(AccessRefused, AccessRefused)
GAVE_UP = Means(TooMuchAsked, OutcomeUnknown)

TABLE: dict[str, tuple[Said, Means]] = {
    # Limits: two spellings of the primary one, and the secondary one without `errors`.
    "RATE_LIMIT": (
        errors(
            {
                "type": "RATE_LIMIT",
                "code": "graphql_rate_limit",
                "message": "API rate limit already exceeded for user ID 1.",
            }
        ),
        LIMITED,
    ),
    "RATE_LIMITED": (
        errors({"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}),
        LIMITED,
    ),
    "a limit without type": (
        errors({"message": "API rate limit exceeded for user ID 1."}),
        LIMITED,
    ),
    "secondary 403": (said(SECONDARY, 403), LIMITED),
    "secondary 403, retry-after": (
        said(SECONDARY, 403, retry_after="17"),
        Means(RateLimited, RateLimited, 17),
    ),
    "secondary 200": (said(SECONDARY, 200), LIMITED),
    "secondary 429": (said(SECONDARY, 429), LIMITED),
    "429 in HTML": (Said("<html>", 429, {}, HTML), LIMITED),
    "403 with retry-after in HTML": (
        Said("<html>", 403, {"retry-after": "5"}, HTML),
        Means(RateLimited, RateLimited, 5),
    ),
    "REST primary": (
        said("API rate limit exceeded for user ID 1.", 403, x_ratelimit_remaining="4"),
        LIMITED,
    ),
    # Credentials and rights.
    "bad credentials": (said("Bad credentials", 401), REFUSED),
    "no credentials": (said("This endpoint requires you to be authenticated.", 401), REFUSED),
    "no user agent": (Said("Request forbidden by administrative rules.", 403, {}, HTML), REFUSED),
    "SAML": (refused(SAML, "FORBIDDEN", extensions={"saml_failure": True}), REFUSED),
    "an app without rights": (
        refused(
            "Resource not accessible by integration",
            "FORBIDDEN",
            extensions={"saml_failure": False},
        ),
        REFUSED,
    ),
    "a token without rights": (
        refused("Resource not accessible by personal access token", "FORBIDDEN"),
        REFUSED,
    ),
    "scopes": (errors({"type": "INSUFFICIENT_SCOPES", "message": SCOPES}), REFUSED),
    "a workflow without scope": (refused(WORKFLOW), Means(Unreachable, AccessRefused)),
    # Not there.
    "a repository that is not there": (
        Said.json(
            {
                "data": {"repository": None},
                "errors": [
                    {
                        "type": "NOT_FOUND",
                        "path": ["repository"],
                        "message": "Could not resolve to a Repository with the name 'o/r'.",
                    }
                ],
            }
        ),
        Means(Missing, Missing),
    ),
    "a repository of whatever name": (
        refused("Could not resolve to a Repository with the name 'o/rate limit'.", "NOT_FOUND"),
        Means(Missing, Missing),
    ),
    "a branch that is not there": (refused("Branch not found"), Means(Unreachable, Missing)),
    "a wrong address": (said("Not Found", 404), Means(Missing, Missing)),
    "a redirect": (
        Said("<html>", 301, {"Location": "https://elsewhere.invalid/"}, HTML),
        Means(Missing, Missing),
    ),
    # The swap.
    "head moved before": (
        refused(
            f'Expected branch to point to "{OLD}" but it did not.  Pull and try again.',
            "STALE_DATA",
        ),
        Means(Unreachable, HeadMoved),
    ),
    "head moved meanwhile": (
        refused(f"Ref refs/heads/main is at {NEW} but expected {OLD}"),
        Means(Unreachable, HeadMoved),
    ),
    "head not known": (
        refused(f"No commit exists with specified expectedHeadOid '{OLD}'.", "NOT_FOUND"),
        Means(Missing, HeadUnknown),
    ),
    # Refusals for good.
    "classic protection": (
        refused("Changes must be made through a pull request.", "BRANCH_PROTECTION_RULE_VIOLATION"),
        Means(Unreachable, Protected),
    ),
    "ruleset": (
        refused(
            "Repository rule violations found\n\n3 of 3 required status checks are expected.\n\n",
            "FORBIDDEN",
        ),
        Means(AccessRefused, Protected),
    ),
    "merge queue": (
        refused("Changes must be made through the merge queue", "FORBIDDEN"),
        Means(AccessRefused, Protected),
    ),
    "protected ref": (
        refused("Cannot update this protected ref.", "FORBIDDEN"),
        Means(AccessRefused, Protected),
    ),
    "unsigned": (
        refused("Commits must have verified signatures", "FORBIDDEN"),
        Means(AccessRefused, Protected),
    ),
    "secret": (
        refused("Secret detected in content", "FORBIDDEN"),
        Means(AccessRefused, Rejected),
    ),
    "secret, by a ruleset": (
        refused("Repository rule violations found\n\nSecret detected in content", "FORBIDDEN"),
        Means(AccessRefused, Rejected),
    ),
    "deletion of nothing": (
        refused(f"A path was requested for deletion which does not exist as of commit oid `{OLD}`"),
        Means(Unreachable, Rejected),
    ),
    "validation of a field": (
        errors(
            {
                "path": ["mutation Commit", "createCommitOnBranch", "f"],
                "extensions": {"code": "undefinedField", "typeName": "User", "fieldName": "f"},
                "message": "Field 'f' doesn't exist on type 'User'",
            }
        ),
        Means(Unreachable, Rejected),
    ),
    "validation of a variable": (
        errors(
            {
                "message": "Variable $input of type CreateCommitOnBranchInput! was provided "
                "invalid value for expectedHeadOid (Expected value to not be null)"
            }
        ),
        Means(Unreachable, Rejected),
    ),
    "bad JSON": (said("Problems parsing JSON", 400), Means(Unreachable, Rejected)),
    "too large": (Said("<html>", 413, {}, HTML), Means(Unreachable, Rejected)),
    # GitHub gave up: what a commit came to is not known.
    "502 in HTML": (UNICORN, GAVE_UP),
    "503 in HTML": (Said("<html>", 503, {}, HTML), GAVE_UP),
    "504 in JSON": (said(TIMED_OUT, 504), GAVE_UP),
    "something went wrong": (errors({"message": WENT_WRONG}), GAVE_UP),
    "something went wrong, data null": (refused(WENT_WRONG_NOW), GAVE_UP),
    "something went wrong, 502": (errors({"message": WENT_WRONG_NOW}, status=502), GAVE_UP),
    "resource limits": (
        refused("Resource limits for this query exceeded.", "RESOURCE_LIMITS_EXCEEDED"),
        GAVE_UP,
    ),
    "too many nodes": (
        errors(
            {
                "type": "MAX_NODE_LIMIT_EXCEEDED",
                "message": "This query requests up to 500,001 possible nodes which exceeds the "
                "maximum limit of 500,000.",
            }
        ),
        GAVE_UP,
    ),
    "validation timeout": (errors({"message": "Timeout on validation of query"}), GAVE_UP),
    # The list of types is open.
    "an unknown type": (
        refused("Whatever", "INTERNAL"),
        Means(Unreachable, OutcomeUnknown),
    ),
    "an error without type": (refused("Whatever"), Means(Unreachable, OutcomeUnknown)),
    "an error of nulls": (
        Said.json({"data": None, "errors": [{"type": None, "message": None, "path": None}]}),
        Means(Unreachable, OutcomeUnknown),
    ),
    # A field of the commit failed, and null came up to the commit: it can have landed.
    "an error below the commit": (
        Said.json(
            {
                "data": {"createCommitOnBranch": {"commit": None}},
                "errors": [
                    {
                        "type": "FORBIDDEN",
                        "path": ["createCommitOnBranch", "commit", "tree"],
                        "message": "Resource not accessible by integration",
                    }
                ],
            }
        ),
        Means(AccessRefused, OutcomeUnknown),
    ),
    "an error below the commit that took all with it": (
        errors(
            {
                "type": "NOT_FOUND",
                "path": ["createCommitOnBranch", "commit", "tree"],
                "message": "Whatever",
            }
        ),
        Means(Missing, OutcomeUnknown),
    ),
    "a limit reached below the commit": (
        errors(
            {
                "type": "RATE_LIMITED",
                "path": ["createCommitOnBranch", "commit"],
                "message": "API rate limit exceeded for user ID 1.",
            }
        ),
        Means(RateLimited, OutcomeUnknown, 60),
    ),
    # No answer at all.
    "data null": (Said.json({"data": None}), Means(Unreachable, OutcomeUnknown)),
    "data a list": (Said.json({"data": [1]}), Means(Unreachable, OutcomeUnknown)),
    "errors a text": (
        Said.json({"data": None, "errors": "no"}),
        Means(Unreachable, OutcomeUnknown),
    ),
    "an empty object": (Said.json({}), Means(Unreachable, OutcomeUnknown)),
    "a list": (Said.json([]), Means(Unreachable, OutcomeUnknown)),
    "null": (Said.json(None), Means(Unreachable, OutcomeUnknown)),
    "an empty body": (Said(""), Means(Unreachable, OutcomeUnknown)),
    "HTML with 200": (Said("<html>", 200, {}, HTML), Means(Unreachable, OutcomeUnknown)),
    "half a JSON": (Said('{"data": {"repo'), Means(Unreachable, OutcomeUnknown)),
}


@pytest.mark.parametrize("name", TABLE)
async def test_github_says_and_we_understand(
    scripted: Scripted, scripted_client: Client, name: str
) -> None:
    says, means = TABLE[name]
    scripted.say(Said(says.body, says.status, {**says.headers, "x-github-request-id": "C0DE:1"}))
    answer = await scripted_client.graphql(operations.HEAD, {})
    read, commit = read_failure(answer), commit_failure(answer)
    assert (type(read), type(commit)) == (means.read, means.commit)
    for error in (read, commit):
        assert error is not None
        assert error.request_id == "C0DE:1"
        if isinstance(error, RateLimited):
            assert error.retry_after == means.wait


async def test_an_answer_in_two_voices_is_a_limit_first(
    scripted: Scripted, scripted_client: Client
) -> None:
    """Whatever else is said, a limit means that nothing ran and when to come again."""
    scripted.say(
        errors(
            {"type": "FORBIDDEN", "message": "Whatever"},
            {"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."},
        )
    )
    answer = await scripted_client.graphql(operations.HEAD, {})
    assert isinstance(read_failure(answer), RateLimited)
    assert isinstance(commit_failure(answer), RateLimited)


@pytest.mark.parametrize("status", [200, 502])
async def test_a_commit_that_is_named_landed_whatever_stands_beside_it(
    scripted: Scripted, scripted_client: Client, status: int
) -> None:
    commit: Json = {"oid": NEW, "committedDate": "2026-11-20T10:00:00Z"}
    scripted.say(
        errors(
            {
                "type": "FORBIDDEN",
                "path": ["createCommitOnBranch", "commit", "signature", "signer"],
                "message": "Resource not accessible by integration",
            },
            data={"createCommitOnBranch": {"commit": commit}},
            status=status,
        )
    )
    assert landed(await scripted_client.graphql(operations.HEAD, {})) == commit


FILE_NOT_FOUND: dict[str, Json] = {
    "type": "NOT_FOUND",
    "path": ["repository", "ref", "target", "file"],
    "message": "Could not resolve file for path 'autosaves/Rate Limits.md'.",
}
FILE = ("repository", "ref", "target", "file")


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (FILE_NOT_FOUND, type(None)),
        ({**FILE_NOT_FOUND, "path": ["repository"]}, Missing),
        ({"type": "NOT_FOUND", "message": "Whatever"}, Missing),
        (
            {"path": FILE_NOT_FOUND["path"], "message": "Could not resolve file over 10mb."},
            TooMuchAsked,
        ),
        ({**FILE_NOT_FOUND, "type": "FORBIDDEN", "message": "No"}, AccessRefused),
        ({**FILE_NOT_FOUND, "type": "RATE_LIMITED"}, RateLimited),
    ],
)
async def test_only_not_found_at_the_very_field_means_that_it_is_absent(
    scripted: Scripted,
    scripted_client: Client,
    error: dict[str, Json],
    means: type[MasterError | None],
) -> None:
    scripted.say(errors(error, data={"repository": {"ref": {"target": {"file": None}}}}))
    answer = await scripted_client.graphql(operations.HEAD, {})
    assert type(read_failure(answer, absent={FILE})) is means
    assert read_failure(answer) is not None, "to those who do not expect it, it is a failure"


def test_waiting_follows_the_header_then_the_reset_then_githubs_advice() -> None:
    in_a_while = str(int(time.time()) + 1_000)
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": in_a_while}
    assert retry_after({"retry-after": "7", **reset}) == 7
    assert 990 < retry_after(reset) <= 1_000
    assert retry_after({**reset, "x-ratelimit-remaining": "12"}) == 60
    assert retry_after({}) == 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 1),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60),
        ({"retry-after": "inf"}, 60),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 1),
        ({"x-ratelimit-remaining": "0"}, 60),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, 60),
    ],
)
def test_odd_headers_still_give_a_time_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds
