"""The doors of the API: GraphQL and REST requests, from authentication to the last fault."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson
from aiohttp import web

from sandbox.github import answers, catalogue, execution, rest, schema
from sandbox.github.answers import Answer
from sandbox.github.apps import App, Apps, RefusedProof
from sandbox.github.call import Call, new_request_id
from sandbox.github.catalogue import GitHubError
from sandbox.github.documents import Documents, Refused, check_nodes
from sandbox.github.faults import Draw, Faults, Operation, Target, When
from sandbox.github.hosting import Hosting
from sandbox.github.identity import Identity
from sandbox.github.limits import Meter, Resource
from sandbox.github.recorder import Kind, Request, Requests

EXECUTION_LIMIT = 10.0
"""Seconds after which GitHub gives up on a query."""

HANG_LIMIT = 120.0
"""Seconds that a `hang` fault holds a request before it cuts the connection."""

BODY_LIMIT = 40 * 1024 * 1024
"""Bytes of a request that are too much for GitHub, as reported; it answers 502."""


@dataclass
class _Seen:
    """What is known about a request so far, for the record and the headers."""

    kind: Kind = "invalid"
    resource: Resource = "graphql"
    request_id: str = ""
    operation_name: str | None = None
    identity: Identity | None = None
    app: App | None = None
    draw: Draw | None = None
    cost: int = 0
    size: int = 0


class Api:
    """Answers requests about one hosted repository."""

    def __init__(
        self,
        hosting: Hosting,
        faults: Faults,
        meter: Meter,
        requests: Requests,
        *,
        tokens: Mapping[str, Identity],
        apps: Apps,
    ) -> None:
        self._hosting = hosting
        self._tokens = tokens
        self._apps = apps
        self._faults = faults
        self._meter = meter
        self._requests = requests
        self._documents = Documents(schema.load())
        self.closing = asyncio.Event()
        """Set when the server stops: whoever waits on purpose lets go."""

    async def graphql(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "graphql", self._graphql)

    async def rest(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "core", self._rest)

    async def access_token(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "core", self._access_token)

    # --- the frame of every request -------------------------------------------------------

    async def _serve(
        self,
        request: web.Request,
        resource: Resource,
        answer_to: Callable[[web.Request, _Seen], Awaitable[Answer]],
    ) -> web.StreamResponse:
        started = time.monotonic()
        seen = _Seen(resource=resource, request_id=new_request_id())
        answer = answers.CUT
        self._requests.running += 1
        try:
            answer = self._refuse_stranger(request, seen) or await self._counted(
                request, seen, answer_to
            )
            return self._response(request, seen, answer)
        finally:
            self._requests.running -= 1
            self._requests.add(
                Request(
                    kind=seen.kind,
                    operation_name=seen.operation_name,
                    status=answer.status,
                    seconds=time.monotonic() - started,
                    request_bytes=seen.size,
                    response_bytes=len(answer.body),
                    cost=seen.cost,
                    faults=tuple(seen.draw.struck) if seen.draw else (),
                    path=request.path,
                )
            )

    async def _counted(
        self,
        request: web.Request,
        seen: _Seen,
        answer_to: Callable[[web.Request, _Seen], Awaitable[Answer]],
    ) -> Answer:
        user = seen.identity.login if seen.identity else ""
        try:
            if not self._meter.begin(user):
                return answers.secondary_limited(seen.request_id)
            return await answer_to(request, seen)
        finally:
            self._meter.end(user)

    def _refuse_stranger(self, request: web.Request, seen: _Seen) -> Answer | None:
        if not request.headers.get("User-Agent"):
            return answers.no_user_agent()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if "installation" in request.match_info:
            return self._refuse_app(token, seen)
        if not token or scheme.lower() not in ("bearer", "token"):
            if seen.resource == "core":
                return answers.refusal(catalogue.REQUIRES_AUTHENTICATION, 401)
            return answers.refusal(catalogue.UNAUTHENTICATED, 401, answers.AUTH_DOCS)
        seen.identity = self._tokens.get(token) or self._apps.identity(token)
        if seen.identity is None or seen.identity.has_ended:
            seen.identity = None
            return answers.refusal(catalogue.BAD_CREDENTIALS, 401)
        return None

    def _refuse_app(self, proof: str, seen: _Seen) -> Answer | None:
        seen.kind = "token"
        try:
            seen.app = self._apps.prove(proof)
        except RefusedProof as refused:
            return answers.refusal(refused.message, refused.status, answers.REST_DOCS)
        seen.identity = seen.app.identity
        return None

    def _response(self, request: web.Request, seen: _Seen, answer: Answer) -> web.StreamResponse:
        if answer.cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        headers = {"x-github-request-id": seen.request_id, "Server": "github.com"}
        if answer.status < 500 and seen.identity is not None:
            headers["x-github-media-type"] = answers.MEDIA_TYPE
            headers.update(self._meter.budget(seen.identity.login, seen.resource).headers())
            if seen.identity.credential == "personal access token":
                headers["x-oauth-scopes"] = "repo"
                headers["x-accepted-oauth-scopes"] = "repo"
            if ends := seen.identity.token_ends:
                headers["github-authentication-token-expiration"] = f"{ends:%Y-%m-%d %H:%M:%S} UTC"
        headers["Content-Type"] = answer.content_type
        headers.update(answer.headers)
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    # --- faults ---------------------------------------------------------------------------

    async def pause(self, seconds: float) -> bool:
        """Wait; False when the server stops meanwhile."""
        if seconds <= 0:
            return not self.closing.is_set()
        try:
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        except TimeoutError:
            return True
        return False

    async def _break(self, seen: _Seen, draw: Draw, *, after: bool) -> Answer | None:
        """The answer of a fault that replaces the real one, before or after the work."""
        when: When = "after" if after else "before"
        latency = draw.take("latency", when)
        if latency and not await self.pause(latency.duration()):
            return answers.CUT
        if draw.take("hang", when):
            await self.pause(HANG_LIMIT)
            return answers.CUT
        if draw.take("dropped", when):
            return answers.CUT
        if draw.take("bad_gateway", when):
            return answers.bad_gateway()
        if draw.take("gateway_timeout", when):
            return answers.gateway_timeout()
        if wrong := draw.take("something_wrong", when):
            error = execution.something_wrong(seen.request_id)
            return answers.something_wrong(error, wrong.status or 200)
        return None if after else self._refuse(seen, draw)

    def _refuse(self, seen: _Seen, draw: Draw) -> Answer | None:
        """Faults that can only refuse a request, never lose its answer."""
        if draw.take("bad_credentials"):
            return answers.refusal(catalogue.BAD_CREDENTIALS, 401)
        if seen.identity is None:
            return None
        if limit := draw.take("rate_limit"):
            answer = answers.rate_limited(
                seen.identity.id, limit.type, rest=seen.resource == "core"
            )
            budget = self._meter.budget(seen.identity.login, seen.resource)
            answer.headers.update(answers.exhausted(budget))
            return answer
        if secondary := draw.take("secondary_rate_limit"):
            return answers.secondary_of(secondary, seen.request_id)
        if draw.take("resource_limits"):
            return answers.of_error(catalogue.RESOURCE_LIMITS.error(), data=True)
        if fault := draw.take("graphql_error"):
            return answers.of_error(GitHubError(fault.message or "", fault.type), data=True)
        return None

    def _charge(self, seen: _Seen, identity: Identity, *, mutation: bool) -> Answer | None:
        """Take the request's points off the accounts, or refuse it."""
        is_rest = seen.resource == "core"
        budget = self._meter.budget(identity.login, seen.resource)
        if not budget.affords(seen.cost):
            return answers.rate_limited(identity.id, None, rest=is_rest)
        if self._meter.secondary(identity.login, mutation=mutation, rest=is_rest):
            return answers.secondary_limited(seen.request_id)
        budget.used += seen.cost
        return None

    def _draw(self, request: web.Request, seen: _Seen, operation: Operation) -> Draw:
        token = request.headers["Authorization"].partition(" ")[2].strip()
        seen.draw = self._faults.draw(Target(operation, seen.operation_name, token))
        return seen.draw

    # --- GraphQL --------------------------------------------------------------------------

    async def _graphql(self, request: web.Request, seen: _Seen) -> Answer:
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return answers.bad_gateway()
        seen.size = len(raw)
        try:
            body = orjson.loads(raw) if raw else {}
        except ValueError:
            return answers.refusal(catalogue.BAD_JSON, 400)
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            return answers.of_error(catalogue.QUERY_MISSING.error())
        variables = body.get("variables")
        name = body.get("operationName")
        seen.operation_name = name if isinstance(name, str) else None
        try:
            return await self._run(
                request, seen, body["query"], variables if isinstance(variables, dict) else {}
            )
        except Refused as refused:
            return answers.of_errors(refused.errors)

    async def _run(
        self, request: web.Request, seen: _Seen, text: str, variables: Mapping[str, object]
    ) -> Answer:
        identity = seen.identity
        if identity is None:
            return answers.refusal(catalogue.BAD_CREDENTIALS, 401)
        document = self._documents.load(text)
        operation = self._documents.operation(document, seen.operation_name)
        if operation.name is not None:
            seen.operation_name = operation.name.value
        mutation = operation.operation.value == "mutation"
        seen.kind = "mutation" if mutation else "query"
        draw = self._draw(request, seen, "mutation" if mutation else "query")
        if broken := await self._break(seen, draw, after=False):
            return broken
        price = self._documents.price(document, operation, variables)
        try:
            check_nodes(price)
        except GitHubError as error:
            return answers.of_error(error)
        seen.cost = price.cost
        if refused := self._charge(seen, identity, mutation=mutation):
            return refused
        budget = self._meter.budget(identity.login, "graphql")
        call = Call(self._hosting, identity, draw, seen.request_id, budget, price.cost, price.nodes)
        try:
            async with asyncio.timeout(EXECUTION_LIMIT):
                result = await execution.run(
                    self._documents.schema, document, operation, variables, call
                )
        except TimeoutError:
            return answers.gateway_timeout()
        return await self._break(seen, draw, after=True) or answers.of_json(result)

    # --- REST -----------------------------------------------------------------------------

    async def _rest(self, request: web.Request, seen: _Seen) -> Answer:
        seen.kind = "rest"
        seen.cost = 1
        draw = self._draw(request, seen, "rest")
        if broken := await self._break(seen, draw, after=False):
            return broken
        identity = seen.identity
        if identity is None:
            return answers.refusal(catalogue.BAD_CREDENTIALS, 401)
        if refused := self._charge(seen, identity, mutation=False):
            return refused
        budget = self._meter.budget(identity.login, "core")
        call = Call(self._hosting, identity, draw, seen.request_id, budget)
        answer = await rest.answer(request, call)
        return await self._break(seen, draw, after=True) or answer

    async def _access_token(self, request: web.Request, seen: _Seen) -> Answer:
        draw = self._draw(request, seen, "token")
        if broken := await self._break(seen, draw, after=False):
            return broken
        app = seen.app
        if app is None or str(app.installation) != request.match_info["installation"]:
            return rest.not_found()
        if app.suspended:
            return answers.refusal(catalogue.INSTALLATION_SUSPENDED, 403, answers.REST_DOCS)
        answer = answers.of_json(self._apps.give(app), 201)
        return await self._break(seen, draw, after=True) or answer
