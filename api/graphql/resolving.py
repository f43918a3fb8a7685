"""What gives the value of a field: as strawberry does it, with all looked up beforehand.

For a resolver with nine arguments strawberry takes longer to find out what they are called and
made of, than all the rest of a list takes.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeAlias

import strawberry
from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    TypeNameMetaFieldDef,
    default_field_resolver,
)
from graphql.execution.values import VariableValues
from strawberry.types.field import StrawberryField

from api.graphql.arguments import Arguments, GraphQLArguments, Unusual

DEFINITION = "strawberry-definition"  # where strawberry leaves its own in what is graphql-core's

Read: TypeAlias = Callable[[Any], object]
Resolve: TypeAlias = Callable[[Any, GraphQLResolveInfo[Any], VariableValues], object]


class _Name:
    """Reads the same of everything."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, _source: object) -> str:
        return self._name


def is_attribute(read: Read | None) -> bool:
    """Whether reading it does nothing else, so that it may be done twice."""
    return isinstance(read, attrgetter | _Name)


def reader(definition: GraphQLField, owner: GraphQLObjectType) -> Read | None:
    """What gives the value of a field, if nothing is needed for that but its object."""
    if definition is TypeNameMetaFieldDef:
        return _Name(owner.name)
    field = _plain(definition)
    if field is None:
        return None
    base = field.base_resolver
    if base is None:
        return attrgetter(field.python_name) if field.default_resolver is getattr else None
    wanted = (base.info_parameter, base.parent_parameter, base.root_parameter, *base.arguments)
    return base if base.self_parameter and not any(wanted) else None


def resolver(schema: GraphQLSchema, definition: GraphQLField, node: FieldNode) -> Resolve:
    """What gives the value of a field that is asked for at this place of a document."""
    given = GraphQLArguments(definition, node)
    field, ours = _plain(definition), schema.extensions.get(DEFINITION)
    if field and isinstance(ours, strawberry.Schema) and not ours.exception_handlers:
        try:
            return _called_directly(ours, field, Arguments(ours, field, given))
        except Unusual:
            pass
    resolve = definition.resolve or default_field_resolver
    return lambda source, info, variables: resolve(source, info, **given.all(variables))


def _plain(definition: GraphQLField) -> StrawberryField | None:
    """Strawberry's field, if nothing comes between it and its resolver or attribute."""
    field = definition.extensions.get(DEFINITION)
    if (
        isinstance(field, StrawberryField)
        and not field.extensions
        and type(field).get_result is StrawberryField.get_result
    ):
        return field
    return None


def _called_directly(
    schema: strawberry.Schema, field: StrawberryField, arguments: Arguments
) -> Resolve:
    base = field.base_resolver
    if base is None:
        raise Unusual
    info_class = schema.config.info_class
    of_info = base.info_parameter and base.info_parameter.name
    of_source = [p.name for p in (base.parent_parameter, base.root_parameter) if p]
    by_position = base.self_parameter is not None

    def resolve(source: Any, told: GraphQLResolveInfo[Any], variables: VariableValues) -> object:
        given = arguments.of(variables)
        if of_info:
            given[of_info] = info_class(_raw_info=told, _field=field)
        for name in of_source:
            given[name] = source
        return base(source, **given) if by_position else base(**given)

    return resolve
