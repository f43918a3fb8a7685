"""The schema: GitHub's SDL (a part of it), strict scalars, and classes whose attributes answer."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    build_schema,
    value_from_ast_untyped,
)

from sandbox.github import commits, connections, mutations, objects, queries
from sandbox.github.call import Call
from sandbox.github.repository import FULL_OID

SDL: Final = Path(__file__).with_name("schema.graphql")

TYPES: Final[Mapping[str, type]] = {
    "Query": queries.QueryRoot,
    "Mutation": mutations.MutationRoot,
    "RateLimit": queries.RateLimitNode,
    "User": objects.UserNode,
    "Repository": queries.RepositoryNode,
    "Ref": queries.RefNode,
    "Comparison": queries.ComparisonNode,
    "Commit": objects.CommitNode,
    "Tree": objects.TreeNode,
    "TreeEntry": objects.TreeEntryNode,
    "Submodule": objects.SubmoduleNode,
    "Blob": objects.BlobNode,
    "Tag": objects.TagNode,
    "GitActor": objects.GitActorNode,
    "GpgSignature": objects.SignatureNode,
    "RefConnection": connections.Connection,
    "CommitConnection": connections.Connection,
    "CommitHistoryConnection": objects.HistoryConnection,
    "ComparisonCommitConnection": queries.ComparisonCommits,
    "RefEdge": connections.Edge,
    "CommitEdge": connections.Edge,
    "PageInfo": connections.PageInfo,
    "CreateCommitOnBranchPayload": commits.CommitPayload,
    "CreateRefPayload": mutations.CreateRefPayload,
    "UpdateRefPayload": mutations.UpdateRefPayload,
    "DeleteRefPayload": mutations.DeleteRefPayload,
}
"""Which class answers for which type of the schema."""


@cache
def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def refuse(type_: str, value: object) -> GraphQLError:
    shown = f'"{value}"' if isinstance(value, str) else value
    return GraphQLError(f"Could not coerce value {shown} to {type_}")


def _git_object_id(value: object) -> str:
    if not isinstance(value, str) or not FULL_OID.fullmatch(value):
        raise refuse("GitObjectID", value)
    return value


def _base64(value: object) -> bytes:
    """RFC 4648 with padding and the standard alphabet: neither base64url nor line breaks."""
    if not isinstance(value, str):
        raise refuse("Base64String", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("Base64String", value if len(value) < 80 else value[:77] + "...") from error


def _moment(type_: str) -> Callable[[object], datetime]:
    def coerce(value: object) -> datetime:
        if not isinstance(value, str):
            raise refuse(type_, value)
        try:
            when = datetime.fromisoformat(value)
        except ValueError as error:
            raise refuse(type_, value) from error
        # A time without a zone cannot be compared with commits; GitHub reads it as UTC [assumed].
        return when if when.tzinfo else datetime.fromisoformat(value + "+00:00")

    return coerce


def _uri(value: object) -> str:
    if not isinstance(value, str) or "://" not in value:
        raise refuse("URI", value)
    return value


_INPUT: Final[Mapping[str, Callable[[object], object]]] = {
    "GitObjectID": _git_object_id,
    "Base64String": _base64,
    "DateTime": _moment("DateTime"),
    "GitTimestamp": _moment("GitTimestamp"),
    "URI": _uri,
}


def _resolver(name: str) -> Callable[..., object]:
    def resolve(source: object, info: GraphQLResolveInfo[Call], **arguments: object) -> object:
        value = getattr(source, name)
        return value(info.context, **arguments) if callable(value) else value

    return resolve


def _repository_of(_source: object, info: GraphQLResolveInfo[Call]) -> object:
    """`repository` of a ref, object or entry: there is only one."""
    return queries.RepositoryNode(info.context.hosting, info.context.hosting.name)


def _bind_arguments(arguments: Mapping[str, GraphQLArgument]) -> None:
    for name, argument in arguments.items():
        argument.out_name = snake(name)


def _bind(type_: GraphQLObjectType) -> None:
    if type_.name not in TYPES:
        msg = f"no class answers for {type_.name}"
        raise LookupError(msg)

    for name, field in type_.fields.items():
        _bind_arguments(field.args)
        if name == "repository" and type_.name != "Query":
            field.resolve = _repository_of
        else:
            field.resolve = _resolver(snake(name))


def _make_strict(scalar: GraphQLScalarType, coerce: Callable[[object], object]) -> None:
    scalar.coerce_input_value = coerce
    scalar.coerce_input_literal = lambda node: coerce(value_from_ast_untyped(node))


@cache
def load() -> GraphQLSchema:
    schema = build_schema(SDL.read_text(encoding="utf-8"))
    for name, type_ in schema.type_map.items():
        if name.startswith("__"):
            continue
        if isinstance(type_, GraphQLScalarType) and name in _INPUT:
            _make_strict(type_, _INPUT[name])
        elif isinstance(type_, GraphQLInputObjectType):
            for key, field in type_.fields.items():
                field.out_name = snake(key)
        elif isinstance(type_, GraphQLObjectType):
            _bind(type_)
    return schema
