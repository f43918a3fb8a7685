"""What one operation may ask for at most. All of it is found out before anything is done. Pure.

A limit is there for what costs more than its caller pays for: a few lines of text can ask for
millions of values. What agents and people ask for in earnest is far below each of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
    parse,
)

from api.documents.listing import MAX_PAGE, USUAL_PAGE
from api.gateway.errors import LimitExceeded
from api.gateway.writes import MAX_CHANGES

MAX_TOKENS = 500  # checking a document for contradictions takes the square of its length
MAX_CHARACTERS = 250_000  # reading them takes a tenth of a microsecond each
MAX_DEPTH = 20  # fields within fields
MAX_ALIASES = 100
MAX_DIRECTIVES = 50
MAX_VALUES = 20_000  # in an answer; each takes some microseconds
# What is told of the schema is not counted one by one: MaxIntrospectionDepthRule keeps it from
# being told over and over.
_OF_THE_SCHEMA = {"__schema": 5_000, "__type": 500, "__typename": 1}
_CHEAP = 2_000  # values: a page of a hundred with everything about each

Variables: TypeAlias = Mapping[str, object]

_NAMES = {
    "characters": "characters",
    "tokens": "tokens",
    "depth": "levels of fields within fields",
    "aliases": "aliases",
    "directives": "directives",
    "values": "values in its answer at most",
}
_HINTS = {
    "characters": "Pass texts and lists as variables, or send several operations.",
    "tokens": "Pass texts and lists as variables, or send several operations.",
    "depth": "Ask for what is further inside by its id.",
    "aliases": "Send several operations.",
    "directives": "Send several operations.",
    "values": "Ask for smaller pages, fewer fields, or lists within lists one by one.",
}


def read(query: str) -> DocumentNode:
    """The document. Raises GraphQLError, also where it is longer than is allowed."""
    if len(query) > MAX_CHARACTERS:
        raise _exceeded("characters", len(query), MAX_CHARACTERS)
    try:
        return parse(query, max_tokens=MAX_TOKENS)
    except GraphQLError as error:
        if f"more than {MAX_TOKENS} tokens" in error.message:
            raise _exceeded("tokens", None, MAX_TOKENS) from None
        if "nested too deeply" in error.message:
            raise _exceeded("depth", None, MAX_DEPTH) from None
        raise


def shape_errors(document: DocumentNode) -> list[GraphQLError]:
    """What is too much about a document, valid or not, whatever its variables are."""
    shape = _Shapes(document).most()  # the tokens keep this within Python's stack
    found = (
        ("depth", shape.depth, MAX_DEPTH),
        ("aliases", shape.aliases, MAX_ALIASES),
        ("directives", shape.directives, MAX_DIRECTIVES),
    )
    return [_exceeded(name, value, most) for name, value, most in found if value > most]


class Cost:
    """How many values the answer to a valid operation may hold, by the sizes of its pages."""

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._fragments = fragments
        # Most operations are below the limit whatever their variables are: looked at once.
        most = self.values(None)
        self._always_fits = most <= MAX_VALUES
        self._is_cheap = most <= _CHEAP

    def error(self, variables: Variables | None) -> GraphQLError | None:
        """What is wrong with its size, for these variables. None: for any."""
        if self._always_fits or (values := self.values(variables)) <= MAX_VALUES:
            return None
        return _exceeded("values", values, MAX_VALUES)

    def price(self, variables: Variables) -> int:
        """How many values there may be for who counts them. 0: few, whatever the variables are."""
        return 0 if self._is_cheap else self.values(variables)

    def values(self, variables: Variables | None) -> int:
        """The most values that there can be."""
        counting = _Counting(self._schema, self._fragments, variables)
        root = self._schema.get_root_type(self._operation.operation)
        return counting.within(self._operation.selection_set, root, None)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of a set of selections: the levels of fields in it, and what is written in it in all."""

    depth: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: "_Shape") -> "_Shape":
        return _Shape(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.directives + other.directives,
        )


class _Shapes:
    """The shapes of a document's operations. What a fragment holds counts wherever it is used."""

    def __init__(self, document: DocumentNode) -> None:
        self._operations = [
            node for node in document.definitions if isinstance(node, OperationDefinitionNode)
        ]
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._known: dict[str, _Shape] = {}

    def most(self) -> _Shape:
        """All operations beside each other."""
        found = _Shape()
        for operation in self._operations:
            own = _Shape(directives=len(operation.directives or ()))
            found = found.beside(own).beside(self._of(operation.selection_set))
        return found

    def _of(self, selections: SelectionSetNode | None) -> _Shape:
        found = _Shape()
        for node in selections.selections if selections else ():
            found = found.beside(_Shape(directives=len(node.directives or ())))
            match node:
                case FieldNode():
                    inner = self._of(node.selection_set)
                    named = inner.aliases + (node.alias is not None)
                    found = found.beside(_Shape(inner.depth + 1, named, inner.directives))
                case InlineFragmentNode():
                    found = found.beside(self._of(node.selection_set))
                case FragmentSpreadNode():
                    found = found.beside(self._of_fragment(node.name.value))
        return found

    def _of_fragment(self, name: str) -> _Shape:
        if name not in self._known:
            self._known[name] = _Shape()  # within itself, which validation refuses
            fragment = self._fragments.get(name)
            self._known[name] = self._of(fragment.selection_set if fragment else None)
        return self._known[name]


class _Counting:
    """Counts the values of an operation, each list being as long as it can be."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Variables | None,
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._known: dict[tuple[str, int | None], int] = {}

    def within(
        self, selections: SelectionSetNode | None, owner: GraphQLNamedType | None, page: int | None
    ) -> int:
        """The values in an object of this type. `page`: the size of the page that it is, if any."""
        count = 0
        for node in selections.selections if selections else ():
            match node:
                case FieldNode():
                    count += self._of(node, owner, page)
                case InlineFragmentNode(type_condition=condition):
                    kind = self._schema.get_type(condition.name.value) if condition else owner
                    count += self.within(node.selection_set, kind, page)
                case FragmentSpreadNode():
                    count += self._of_fragment(node.name.value, page)
        return count

    def _of_fragment(self, name: str, page: int | None) -> int:
        if (name, page) not in self._known:
            fragment = self._fragments[name]
            kind = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name, page] = self.within(fragment.selection_set, kind, page)
        return self._known[name, page]

    def _of(self, node: FieldNode, owner: GraphQLNamedType | None, page: int | None) -> int:
        if not isinstance(owner, GraphQLObjectType | GraphQLInterfaceType):
            return 1  # __typename of a union
        if (of_schema := _OF_THE_SCHEMA.get(node.name.value)) is not None:
            return of_schema
        field = self._schema.get_field(owner, node.name.value)
        if field is None:
            return 1
        kind = get_named_type(field.type)
        if not is_composite_type(kind):
            return 1
        inner = 1 + self.within(node.selection_set, kind, self._page(field, node))
        if not is_list_type(get_nullable_type(field.type)):
            return inner
        return inner * (MAX_CHANGES if page is None else page)

    def _page(self, field: GraphQLField, node: FieldNode) -> int | None:
        """The size of the page that a field is; None if it is none."""
        if "first" not in field.args:
            return None
        sizes = [
            self._size(argument.value)
            for argument in node.arguments or ()
            if argument.name.value in {"first", "last"}
        ]
        return max((size for size in sizes if size is not None), default=USUAL_PAGE)

    def _size(self, written: ValueNode) -> int | None:
        value: object = None
        match written:
            case IntValueNode(value=digits):
                value = int(digits)
            case VariableNode(name=name) if self._variables is None:
                value = MAX_PAGE
            case VariableNode(name=name):
                value = (self._variables or {}).get(name.value)
        # What is no size of a page is refused where the page is asked for.
        return min(max(value, 0), MAX_PAGE) if isinstance(value, int) else None


def _exceeded(limit: str, value: int | None, most: int) -> GraphQLError:
    """The refusal. `value`: None where nobody counted on beyond the limit."""
    asked = f"more than {most:,}" if value is None else f"{value:,}"
    told = LimitExceeded(
        f"The operation has {asked} {_NAMES[limit]}; {most:,} are allowed. {_HINTS[limit]}",
        limit=limit,
        value=value,
        maximum=most,
    )
    return GraphQLError(str(told), original_error=told)
