"""The schema, and what its errors say."""

import logging
import uuid
from collections.abc import Mapping

import strawberry
from graphql import GraphQLError, GraphQLObjectType, GraphQLType
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from api.documents import Json
from api.gateway.errors import GatewayError, of_read
from api.graphql.mutations import Mutation
from api.graphql.queries import Query
from api.graphql.scalars import SCALARS
from api.graphql.types import Document, Priority, Project, Session
from api.master.errors import MasterError

log = logging.getLogger(__name__)

_REMEMBERED_OPERATIONS = 500


class Schema(strawberry.Schema):
    """Errors are logged by reference, not printed with their cause."""

    def _extend_introspection(self) -> None:
        super()._extend_introspection()
        of_types = self._schema.type_map["__Type"]
        assert isinstance(of_types, GraphQLObjectType)  # noqa: S101  # says the specification
        of_types.fields["isOneOf"].resolve = _is_one_of

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Errors are logged where they are written out, in `written`."""


def _is_one_of(kind: GraphQLType, _info: object) -> bool:
    """Strawberry's fails for types that are wrapped, with as many errors as there are of them."""
    definition = getattr(kind, "extensions", {}).get("strawberry-definition")
    return bool(definition and getattr(definition, "is_one_of", False))


schema = Schema(
    query=Query,
    mutation=Mutation,
    types=[Document, Session, Project, Priority],
    extensions=[
        lambda: ParserCache(maxsize=_REMEMBERED_OPERATIONS),
        lambda: ValidationCache(maxsize=_REMEMBERED_OPERATIONS),
    ],
    config=StrawberryConfig(scalar_map=SCALARS),
)


def written(error: GraphQLError, saved: Mapping[str | int, str]) -> dict[str, Json]:
    """An error as it goes into the answer: with a code, and without anything internal.

    `saved`: the commits of the mutations that were carried out. What was asked besides may fail,
    and takes the rest of their answer with it. What nobody foresaw becomes INTERNAL with a
    reference that stands in the log as well.
    """
    formatted, extensions = _formatted(error)
    commit = saved.get(error.path[0]) if error.path else None
    if commit:
        formatted["message"] = (
            f"It was saved in the commit {commit}, but not all that was asked of it can be told: "
            f"{formatted['message']}"
        )
        extensions["commit"] = commit
    return formatted | {"extensions": extensions}


def _formatted(error: GraphQLError) -> tuple[dict[str, Json], dict[str, Json]]:
    """The error without its extensions, and these."""
    formatted: dict[str, Json] = {"message": error.message}
    if error.locations:
        formatted["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path:
        formatted["path"] = list(error.path)
    cause = error.original_error
    if isinstance(cause, MasterError):
        cause = of_read(cause)
    if isinstance(cause, GatewayError):
        formatted["message"] = str(cause)
        return formatted, {"code": cause.code, **cause.details}
    if cause is None or isinstance(cause, GraphQLError):
        return formatted, {"code": "BAD_INPUT"}
    reference = uuid.uuid4().hex[:12]
    log.error("unexpected error %s at %s", reference, error.path, exc_info=cause)
    formatted["message"] = (
        f"Something went wrong inside the gateway. Report it with the reference {reference}."
    )
    return formatted, {"code": "INTERNAL", "reference": reference}
