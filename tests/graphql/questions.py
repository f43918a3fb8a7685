"""Any valid query of any schema: what two executors are compared with."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, TypeVar

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_leaf_type,
    is_required_argument,
    print_ast,
)
from graphql.utilities import value_to_literal

T = TypeVar("T")

Value: TypeAlias = Callable[[Random], object]  # what may be given for an argument, as in JSON


@dataclass(frozen=True)
class Question:
    query: str
    variables: Mapping[str, object]


def question(
    random: Random,
    schema: GraphQLSchema,
    values: Mapping[str, Value],
    *,
    without: AbstractSet[str] = frozenset(),
    depth: int = 3,
) -> Question:
    """A query of the schema, valid but for fields that cannot be merged (this is rare).

    `values`: by the name of an argument or of its type. `without`: names of fields that are not
    asked for.
    """
    return _Author(random, schema, values, without).write(depth)


@dataclass
class _Author:
    random: Random
    schema: GraphQLSchema
    values: Mapping[str, Value]
    without: AbstractSet[str]
    variables: dict[str, object] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    fragments: dict[str, tuple[GraphQLNamedType, str]] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def write(self, depth: int) -> Question:
        assert self.schema.query_type
        selection = self.selection(self.schema.query_type, depth)
        declared = f"({', '.join(self.declared)})" if self.declared else ""
        fragments = [text for _, text in self.fragments.values()]
        return Question("\n".join([f"query Q{declared} {selection}", *fragments]), self.variables)

    def one_of(self, things: Sequence[T]) -> T:
        return self.random.choice(things)

    def selection(self, kind: GraphQLNamedType, depth: int) -> str:
        count = self.one_of([1, 2, 2, 3])
        return "{ " + " ".join(self.part(kind, depth) for _ in range(count)) + " }"

    def part(self, kind: GraphQLNamedType, depth: int) -> str:
        fields = self.fields(kind, depth)
        match self.one_of(["field"] * 7 + ["inline", "spread", "typename"]):
            case "field" if fields:
                return self.field(*self.one_of(fields), depth)
            case "inline" if depth:
                inside = self.one_of([None, *self.overlapping(kind)])
                condition = f" on {inside}" if inside else ""
                return (
                    f"...{condition}{self.directive()} {self.selection(inside or kind, depth - 1)}"
                )
            case "spread" if depth:
                return f"...{self.fragment(kind, depth - 1)}{self.directive()}"
        return f"{self.alias('typename')}__typename{self.directive()}"

    def fields(self, kind: GraphQLNamedType, depth: int) -> list[tuple[str, GraphQLField]]:
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            return []
        return [
            (name, definition)
            for name, definition in kind.fields.items()
            if name not in self.without and (depth or is_leaf_type(get_named_type(definition.type)))
        ]

    def field(self, name: str, definition: GraphQLField, depth: int) -> str:
        kind = get_named_type(definition.type)
        arguments = [
            f"{given}: {self.argument(given, argument)}"
            for given, argument in definition.args.items()
            if is_required_argument(argument) or self.one_of([True, False])
        ]
        below = f" {self.selection(kind, depth - 1)}" if is_composite_type(kind) else ""
        return (
            self.alias(name, needed=bool(definition.args))
            + name
            + (f"({', '.join(arguments)})" if arguments else "")
            + self.directive()
            + below
        )

    def alias(self, name: str, *, needed: bool = False) -> str:
        if needed or self.one_of([True, False, False]):
            return f"{name}{next(self.numbers)}: "
        return ""

    def argument(self, name: str, argument: GraphQLArgument) -> str:
        kind = get_named_type(argument.type).name
        value = self.values[name if name in self.values else kind](self.random)
        literal = value_to_literal(value, argument.type)
        assert literal is not None, (name, value)
        return self.given(str(argument.type), value, print_ast(literal))

    def given(self, kind: str, value: object, literal: str) -> str:
        """A value in the document, in a variable, or as the default of a variable."""
        how = self.one_of(["literal", "literal", "variable", "default"])
        if how == "literal":
            return literal
        name = f"v{next(self.numbers)}"
        if how == "variable":
            self.variables[name] = value
            self.declared.append(f"${name}: {kind}")
        else:
            self.declared.append(f"${name}: {kind} = {literal}")
        return f"${name}"

    def directive(self) -> str:
        which = self.one_of([*[""] * 8, "include", "skip"])
        if not which:
            return ""
        value = (self.random.random() < 0.7) is (which == "include")
        return f" @{which}(if: {self.given('Boolean!', value, json.dumps(value))})"

    def fragment(self, kind: GraphQLNamedType, depth: int) -> str:
        """The name of a fragment that can be spread in this type."""
        kinds = self.overlapping(kind)
        known = [name for name, (on, _) in self.fragments.items() if on in kinds]
        if known and self.random.random() < 0.5:
            return self.one_of(known)
        on = self.one_of(kinds)
        body = self.selection(on, depth)
        name = f"F{next(self.numbers)}"
        self.fragments[name] = on, f"fragment {name} on {on} {body}"
        return name

    def overlapping(self, kind: GraphQLNamedType) -> list[GraphQLNamedType]:
        """The types of which some object of this type is one as well."""
        own = self.possible(kind)
        return [
            other
            for name, other in self.schema.type_map.items()
            if not name.startswith("__") and own & self.possible(other)
        ]

    def possible(self, kind: GraphQLNamedType) -> frozenset[str]:
        if is_abstract_type(kind):
            return frozenset(one.name for one in self.schema.get_possible_types(kind))
        return frozenset({kind.name}) if isinstance(kind, GraphQLObjectType) else frozenset()
