"""POST /graphql and GET /graphql: the door that agents and people come through."""

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
from cross_web import HTTPException
from fastapi import Request
from fastapi.requests import HTTPConnection
from fastapi.responses import HTMLResponse, Response
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLHTTPResponse
from strawberry.types import ExecutionResult

from api.gateway.gateway import Operation
from api.graphql.context import Context
from api.graphql.schema import schema, written
from api.http.graphiql import PAGE_HEADERS
from api.wiring import Parts


async def context_of(connection: HTTPConnection) -> AsyncIterator[Context]:
    """A context for one operation."""
    parts: Parts = connection.app.state.parts
    async with Operation(parts.gateway) as operation:
        connection.state.context = context = Context(parts.gateway, parts.writer, operation)
        yield context


class GraphQLEndpoint(GraphQLRouter[Context, None]):
    """GraphQL over HTTP. `page` is the HTML that a browser gets."""

    def __init__(self, page: str) -> None:
        super().__init__(
            schema,
            context_getter=context_of,  # type: ignore[arg-type]  # FastAPI runs it as a dependency
            subscription_protocols=(),
        )
        self._page = page

    async def run(self, request: Any, context: Any = None, root_value: Any = None) -> Any:
        """Answer. What is no operation is refused in the form of all other errors."""
        try:
            return await super().run(request, context, root_value)
        except HTTPException as error:
            refusal = {"message": error.reason, "extensions": {"code": "BAD_INPUT"}}
            body = self.encode_json({"errors": [refusal]})
            return Response(body, error.status_code, media_type="application/json")

    def parse_json(self, data: str | bytes) -> Any:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise HTTPException(400, "Send a JSON object in UTF-8, with the operation in `query`.")
        return content

    async def process_result(
        self, request: Request, result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        # A caller who takes the answer slowly is not to keep a connection to the cache.
        context: Context = request.state.context
        await context.operation.close()
        answer: GraphQLHTTPResponse = {"data": result.data}
        if result.errors:
            answer["errors"] = [written(error, context.saved) for error in result.errors]
        if result.extensions:
            answer["extensions"] = result.extensions
        return answer

    def encode_json(self, data: object) -> str:
        try:
            return orjson.dumps(data).decode()
        except TypeError:  # an integer of more than 64 bits, or a surrogate in what was asked
            return json.dumps(data)

    async def render_graphql_ide(self, request: Request) -> HTMLResponse:  # noqa: ARG002
        return HTMLResponse(self._page, headers=PAGE_HEADERS)
