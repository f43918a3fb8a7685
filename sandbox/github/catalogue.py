"""What GitHub says when it refuses: every message the stand-in can send, and how sure we are.

`RECORDED` text was seen in the wild or is documented; `ASSUMED` text (or an assumed `type`)
fills a gap that nobody has pinned down. A test may match on recorded words and must never
assert on assumed ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DOCS = "https://docs.github.com/graphql"


class Basis(StrEnum):
    RECORDED = "recorded"
    ASSUMED = "assumed"


class GitHubError(Exception):
    """An error of one field of an answer, as GitHub reports it: HTTP 200 and `type` on top."""

    def __init__(
        self,
        message: str,
        type: str | None = None,  # noqa: A002 - GitHub's name for it
        *,
        code: str | None = None,
        extensions: Mapping[str, object] | None = None,
        beside: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.code = code
        self.extensions = extensions
        self.beside = beside
        """Fields below the failed one to append to the reported path."""


@dataclass(frozen=True)
class Message:
    """One refusal: a template for `str.format`, GitHub's `type`, and the basis of each."""

    text: str
    type: str | None = None
    basis: Basis = Basis.RECORDED
    type_basis: Basis = Basis.RECORDED
    extensions: Mapping[str, object] | None = field(default=None, hash=False)

    def error(self, **values: object) -> GitHubError:
        return GitHubError(self.text.format(**values), self.type, extensions=self.extensions)


def _recorded(text: str, type_: str | None = None, **extensions: object) -> Message:
    return Message(text, type_, extensions=extensions or None)


def _assumed(text: str, type_: str | None = None) -> Message:
    return Message(text, type_, Basis.ASSUMED, Basis.ASSUMED)


def _type_assumed(text: str, type_: str | None = None) -> Message:
    return Message(text, type_, Basis.RECORDED, Basis.ASSUMED)


# --- createCommitOnBranch -------------------------------------------------------------------

STALE_DATA: Final = _recorded(
    'Expected branch to point to "{expected}" but it did not.  Pull and try again.', "STALE_DATA"
)
REF_MOVED: Final = _type_assumed("Ref {ref} is at {actual} but expected {expected}")
EXPECTED_HEAD_UNKNOWN: Final = _recorded(
    "No commit exists with specified expectedHeadOid '{oid}'.", "NOT_FOUND"
)
BRANCH_NOT_FOUND: Final = _type_assumed("Branch not found", "NOT_FOUND")
DELETION_MISSING: Final = _type_assumed(
    "A path was requested for deletion which does not exist as of commit oid `{head}`",
    "UNPROCESSABLE",
)
PATH_COLLISION: Final = _assumed(
    "A file was requested at `{path}` where a directory or a file is in the way.", "UNPROCESSABLE"
)
PATH_DUPLICATE: Final = _assumed(
    "A path was specified more than once in the file changes: `{path}`", "UNPROCESSABLE"
)
PATH_MALFORMED: Final = _assumed(
    "A path was requested for addition which is malformed: `{path}`", "UNPROCESSABLE"
)
BRANCH_AMBIGUOUS: Final = _assumed(
    "Exactly one of `id` or both `repositoryNameWithOwner` and `branchName` must be given.",
    "UNPROCESSABLE",
)
HEADLINE_EMPTY: Final = _assumed("A commit message headline must be given.", "UNPROCESSABLE")
BRANCH_PROTECTION: Final = _recorded(
    "Changes must be made through a pull request.", "BRANCH_PROTECTION_RULE_VIOLATION"
)
RULESET: Final = _recorded("Repository rule violations found\n\n{rule}\n\n", "FORBIDDEN")
FORBIDDEN_INTEGRATION: Final = _recorded(
    "Resource not accessible by integration", "FORBIDDEN", saml_failure=False
)
FORBIDDEN_PAT: Final = _recorded(
    "Resource not accessible by personal access token", "FORBIDDEN", saml_failure=False
)
SAML: Final = _recorded(
    "Resource protected by organization SAML enforcement. "
    "You must grant your Personal Access token access to this organization.",
    "FORBIDDEN",
    saml_failure=True,
)
SIGNER_FORBIDDEN: Final = _recorded("Resource not accessible by integration", "FORBIDDEN")
ARCHIVED: Final = _assumed("Repository was archived so is read-only.", "FORBIDDEN")
WORKFLOW_SCOPE: Final = _type_assumed(
    "refusing to allow a Personal Access Token to create or update workflow `{path}` "
    "without `workflow` scope",
    "FORBIDDEN",
)
REF_EXISTS: Final = _recorded(
    'A ref named "{ref}" already exists in the repository.', "UNPROCESSABLE"
)
REF_NOT_FAST_FORWARD: Final = _assumed("Update is not a fast forward", "UNPROCESSABLE")

# --- reads ----------------------------------------------------------------------------------

REPOSITORY_NOT_FOUND: Final = _recorded(
    "Could not resolve to a Repository with the name '{name}'.", "NOT_FOUND"
)
NODE_NOT_FOUND: Final = _recorded(
    "Could not resolve to a node with the global id of '{id}'.", "NOT_FOUND"
)
FILE_NOT_FOUND: Final = _recorded("Could not resolve file for path '{path}'.", "NOT_FOUND")
FILE_TOO_LARGE: Final = _type_assumed("Could not resolve file over 10mb.")
TOO_MANY_IDS: Final = _recorded(
    "You may not provide more than 100 node ids; you provided {count}.", "ARGUMENT_LIMIT"
)
NO_PAGE_BOUNDS: Final = _recorded(
    "You must provide a `first` or `last` value to properly paginate the `{field}` connection.",
    "MISSING_PAGINATION_BOUNDARIES",
)
PAGE_TOO_LARGE: Final = _recorded(
    "Requesting {count} records on the `{field}` connection exceeds the `{argument}` limit "
    "of 100 records.",
    "EXCESSIVE_PAGINATION",
)
PAGE_TOO_SMALL: Final = _assumed(
    "`{argument}` on the `{field}` connection cannot be less than zero.", "INVALID_PAGINATION"
)
CURSOR_INVALID: Final = _recorded(
    "`{cursor}` does not appear to be a valid cursor.", "INVALID_CURSOR_ARGUMENTS"
)
TOO_MANY_NODES: Final = _recorded(
    "This query requests up to {count:,} possible nodes which exceeds the maximum limit "
    "of 500,000.",
    "MAX_NODE_LIMIT_EXCEEDED",
)
RESOURCE_LIMITS: Final = _recorded(
    "Resource limits for this query exceeded.", "RESOURCE_LIMITS_EXCEEDED"
)

# --- whole answers --------------------------------------------------------------------------

SOMETHING_WENT_WRONG: Final = _recorded(
    "Something went wrong while executing your query on {time}. "
    "Please include `{id}` when reporting this issue."
)
SOMETHING_WENT_WRONG_OLD: Final = _recorded(
    "Something went wrong while executing your query. This may be the result of a timeout, or "
    "it could be a GitHub bug. Please include `{id}` when reporting this issue."
)
QUERY_MISSING: Final = _recorded("A query attribute must be specified and must be a string.")
NO_OPERATION: Final = _assumed('No operation named "{name}"')
RATE_LIMIT: Final = _recorded("API rate limit already exceeded for user ID {id}.", "RATE_LIMIT")
RATE_LIMITED: Final = _recorded("API rate limit exceeded for user ID {id}.", "RATE_LIMITED")
SECONDARY_LIMIT: Final = _recorded(
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID {id}."
)
TIMEOUT: Final = _recorded(
    "We couldn't respond to your request in time. Sorry about that. Please try resubmitting "
    "your request and contact us if the problem persists."
)
BAD_CREDENTIALS: Final = _recorded("Bad credentials")
UNAUTHENTICATED: Final = _recorded("This endpoint requires you to be authenticated.")
REQUIRES_AUTHENTICATION: Final = _assumed("Requires authentication")
JWT_UNREADABLE: Final = _recorded("A JSON web token could not be decoded")
JWT_EXPIRED: Final = _recorded(
    "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
    "which the assertion expires"
)
JWT_TOO_LONG: Final = _recorded("'Expiration time' claim ('exp') is too far in the future")
JWT_ISSUED_LATER: Final = _recorded(
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was "
    "issued"
)
APP_NOT_FOUND: Final = _recorded("Integration not found")
INSTALLATION_SUSPENDED: Final = _recorded("This installation has been suspended")
BAD_JSON: Final = _recorded("Problems parsing JSON")
REST_NOT_FOUND: Final = _recorded("Not Found")
REST_SHA_MALFORMED: Final = _assumed("The sha parameter must be exactly 40 characters.")
USER_AGENT_MISSING: Final = _assumed(
    "Request forbidden by administrative rules. Please make sure your request has a User-Agent "
    "header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api"
    "#user-agent-required). Check https://developer.github.com for other possible causes.\n"
)

UNICORN: Final = (
    "<!DOCTYPE html>\n<html>\n<head><title>Unicorn! &middot; GitHub</title></head>\n"
    "<body><h1>Whoa there!</h1><p>This page is taking too long to load.</p>"
    "<p>Sorry about that. Please try refreshing and contact us if the problem persists.</p>"
    "</body>\n</html>\n"
)
"""The page that a 502 or 504 carries instead of JSON; its wording is assumed."""

ALL: Final[Mapping[str, Message]] = {
    name: value for name, value in dict(globals()).items() if isinstance(value, Message)
}
