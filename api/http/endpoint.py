"""POST /graphql and GET /graphql: the door that agents and people come through."""

import json
from collections.abc import AsyncIterator

import orjson
from fastapi import Request
from fastapi.responses import HTMLResponse
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLHTTPResponse
from strawberry.types import ExecutionResult

from api.gateway.gateway import Operation
from api.graphql.context import Context
from api.graphql.schema import schema, written
from api.http.graphiql import PAGE_HEADERS
from api.wiring import Parts


async def context_of(request: Request) -> AsyncIterator[Context]:
    """A context for one operation, closed when its answer is made."""
    parts: Parts = request.app.state.parts
    async with Operation(parts.gateway) as operation:
        yield Context(parts.gateway, parts.writer, operation)


class GraphQLEndpoint(GraphQLRouter[Context, None]):
    """GraphQL over HTTP. `page` is the HTML that a browser gets."""

    def __init__(self, page: str) -> None:
        super().__init__(
            schema,
            context_getter=context_of,  # type: ignore[arg-type]  # FastAPI runs it as a dependency
            subscription_protocols=(),
        )
        self._page = page

    async def process_result(
        self, request: Request, result: ExecutionResult  # noqa: ARG002
    ) -> GraphQLHTTPResponse:
        answer: GraphQLHTTPResponse = {"data": result.data}
        if result.errors:
            answer["errors"] = [written(error) for error in result.errors]
        if result.extensions:
            answer["extensions"] = result.extensions
        return answer

    def encode_json(self, data: object) -> str:
        try:
            return orjson.dumps(data).decode()
        except TypeError:  # an integer of more than 64 bits in somebody's front matter
            return json.dumps(data, ensure_ascii=False)

    async def render_graphql_ide(self, request: Request) -> HTMLResponse:  # noqa: ARG002
        return HTMLResponse(self._page, headers=PAGE_HEADERS)
