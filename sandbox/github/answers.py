"""HTTP answers other than a query's result: refusals of the transport, limits, and breakdowns."""

from dataclasses import dataclass, field

import orjson

from sandbox.github import catalogue
from sandbox.github.catalogue import DOCS, GitHubError, Message
from sandbox.github.documents import Json, error_json
from sandbox.github.faults import Fault
from sandbox.github.limits import Budget

JSON = "application/json; charset=utf-8"
MEDIA_TYPE = "github.v4; format=json"
REST_DOCS = "https://docs.github.com/rest"
AUTH_DOCS = f"{DOCS}/guides/forming-calls-with-graphql#authenticating-with-graphql"
SECONDARY_DOCS = (
    "https://docs.github.com/free-pro-team@latest/rest/overview/"
    "rate-limits-for-the-rest-api#about-secondary-rate-limits"
)


@dataclass
class Answer:
    """What goes back over HTTP. A `cut` answer is none: the connection is dropped."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


CUT = Answer(status=0, cut=True)


def of_json(body: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, orjson.dumps(body), headers=named)


def of_errors(errors: list[Json], *, data: bool = False) -> Answer:
    return of_json({"data": None, "errors": errors} if data else {"errors": errors})


def of_error(error: GitHubError, *, data: bool = False) -> Answer:
    return of_errors([error_json(error)], data=data)


def refusal(message: Message, status: int, docs: str = DOCS) -> Answer:
    body = {"message": message.text, "documentation_url": docs, "status": str(status)}
    if message is catalogue.UNAUTHENTICATED:
        del body["status"]
    return of_json(body, status)


def no_user_agent() -> Answer:
    return Answer(403, catalogue.USER_AGENT_MISSING.text.encode(), "text/html; charset=utf-8")


def bad_gateway() -> Answer:
    return Answer(502, catalogue.UNICORN.encode(), "text/html; charset=utf-8")


def gateway_timeout() -> Answer:
    return of_json({"message": catalogue.TIMEOUT.text}, 504)


def something_wrong(error: GitHubError, status: int = 200) -> Answer:
    answer = of_error(error, data=True)
    answer.status = status
    return answer


def rate_limited(user_id: int, type_: str | None, *, rest: bool = False) -> Answer:
    """The primary limit: HTTP 200 with an error and no data; of two spellings the newer one."""
    if rest:
        return of_json(
            {"message": catalogue.RATE_LIMITED.text.format(id=user_id), "documentation_url": DOCS},
            403,
        )
    if type_ == "RATE_LIMITED":
        return of_error(catalogue.RATE_LIMITED.error(id=user_id))
    error = catalogue.RATE_LIMIT.error(id=user_id)
    error.code = "graphql_rate_limit"
    return of_error(error)


def secondary_limited(request_id: str, status: int = 403, retry_after: int | None = 60) -> Answer:
    body = {
        "documentation_url": SECONDARY_DOCS,
        "message": catalogue.SECONDARY_LIMIT.text.format(id=request_id),
    }
    answer = of_json(body, status)
    if retry_after is not None:
        answer.headers["retry-after"] = str(retry_after)
    return answer


def exhausted(budget: Budget) -> dict[str, str]:
    """Headers of a primary limit that a fault pretends was reached."""
    return {
        **budget.headers(),
        "x-ratelimit-remaining": "0",
        "x-ratelimit-used": str(budget.limit),
    }


def secondary_of(fault: Fault, request_id: str) -> Answer:
    return secondary_limited(request_id, fault.status or 403, fault.retry_after)
