"""The arguments of resolvers, as strawberry gives them. What they are made of is looked up once."""

from collections.abc import Callable, Iterable
from dataclasses import MISSING
from typing import Any, TypeAlias

import strawberry
from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    ListValueNode,
    ObjectValueNode,
    ValueNode,
    VariableNode,
    get_argument_values,
)
from graphql.execution.values import VariableValues
from strawberry.relay import GlobalID
from strawberry.schema.compat import is_scalar
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryObjectDefinition,
    StrawberryOptional,
    StrawberryType,
    has_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType

# What makes a value of Python's of a value of GraphQL's that is not null. None: it is one.
Convert: TypeAlias = Callable[[Any], object] | None


class Unusual(Exception):
    """An argument of a kind that only strawberry knows how to convert."""


class GraphQLArguments:
    """The arguments of a field at a place of a document, as graphql-core reads them."""

    def __init__(self, definition: GraphQLField, node: FieldNode) -> None:
        varying = {given.name.value for given in node.arguments or () if _varies(given.value)}

        def only(names: Iterable[str]) -> GraphQLField:
            return GraphQLField(definition.type, {n: definition.args[n] for n in names})

        self._node = node
        try:
            self.fixed = get_argument_values(only(definition.args.keys() - varying), node)
            self._varying = only(definition.args.keys() & varying)
        except GraphQLError:  # that is told wherever the field is
            self.fixed, self._varying = {}, definition

    def all(self, variables: VariableValues) -> dict[str, Any]:
        """All, with values of one's own: a resolver that changes them changes nobody else's.

        Raises GraphQLError.
        """
        return {name: _copy(self.fixed[name]) for name in self.fixed} | self.varying(variables)

    def varying(self, variables: VariableValues) -> dict[str, Any]:
        """Those that have variables in them. Raises GraphQLError."""
        return get_argument_values(self._varying, self._node, variables)


class Arguments:
    """The arguments of a field's resolver. Raises Unusual."""

    def __init__(
        self, schema: strawberry.Schema, field: StrawberryField, given: GraphQLArguments
    ) -> None:
        self._given = given
        self._fixed: dict[str, object] = {}  # that can be shared
        self._made: list[tuple[str, Any, Callable[[Any], object]]] = []  # that are made anew
        self._varying: list[tuple[str, str, Convert]] = []
        converting = _Converting(schema)
        for argument in field.arguments:
            name = schema.config.name_converter.from_argument(argument)
            convert = converting.of(argument.type)
            if name not in given.fixed:
                self._varying.append((name, argument.python_name, convert))
                continue
            value = given.fixed[name]
            if value is not None and convert:
                self._made.append((argument.python_name, value, _fresh(convert)))
            elif isinstance(value, dict | list):
                self._made.append((argument.python_name, value, _copy))
            else:
                self._fixed[argument.python_name] = value

    def of(self, variables: VariableValues) -> dict[str, object]:
        """By the names of the resolver's parameters. Raises GraphQLError."""
        found = self._fixed.copy()
        for python_name, value, convert in self._made:
            found[python_name] = convert(value)
        if self._varying:
            given = self._given.varying(variables)
            for name, python_name, conversion in self._varying:
                if name in given:
                    value = given[name]
                    found[python_name] = (
                        value if conversion is None or value is None else conversion(value)
                    )
        return found


class _Converting:
    def __init__(self, schema: strawberry.Schema) -> None:
        self._scalars = schema.schema_converter.scalar_registry
        self._name_of = schema.config.name_converter.from_field
        self._inputs: dict[type, Callable[[Any], object]] = {}

    def of(self, type_: StrawberryType | type) -> Convert:
        """How values of a type are converted that are not null. Raises Unusual."""
        if isinstance(type_, LazyType):
            return self.of(type_.resolve_type())
        if isinstance(type_, StrawberryMaybe) or type_ is GlobalID:
            raise Unusual
        if isinstance(type_, StrawberryOptional):
            return self.of(type_.of_type)
        if isinstance(type_, StrawberryList):
            return _list_of(self.of(type_.of_type))
        if (
            is_scalar(type_, self._scalars)
            or isinstance(type_, StrawberryEnumDefinition)
            or has_enum_definition(type_)
        ):
            return None
        if isinstance(type_, type) and has_object_definition(type_):
            return self._input(type_, type_.__strawberry_definition__)
        raise Unusual

    def _input(
        self, type_: type, definition: StrawberryObjectDefinition
    ) -> Callable[[Any], object]:
        if not definition.is_input or definition.from_input is not None:
            raise Unusual
        if type_ in self._inputs:
            return self._inputs[type_]
        fields: list[tuple[str, str, Convert]] = []
        defaults = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }

        def convert(value: Any) -> object:
            given: dict[str, object] = dict(defaults)
            for name, python_name, conversion in fields:
                if name in value:
                    inside = value[name]
                    given[python_name] = (
                        inside if conversion is None or inside is None else conversion(inside)
                    )
            return type_(**given)

        self._inputs[type_] = convert  # before its fields, which may be of this type
        fields += [
            (self._name_of(f), f.python_name, self.of(f.resolve_type(type_definition=definition)))
            for f in definition.fields
        ]
        return convert


def _list_of(convert: Convert) -> Callable[[Any], object]:
    if convert is None:
        return list
    return lambda values: [None if value is None else convert(value) for value in values]


def _fresh(convert: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: convert(_copy(value))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_copy(inside) for inside in value]
    return value


def _varies(value: ValueNode) -> bool:
    match value:
        case VariableNode():
            return True
        case ListValueNode(values=values):
            return any(map(_varies, values))
        case ObjectValueNode(fields=fields):
            return any(_varies(field.value) for field in fields)
    return False
