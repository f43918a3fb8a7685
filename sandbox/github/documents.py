"""Documents of the query language: parsed and validated once, and priced as GitHub prices them."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    IntValueNode,
    Node,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    parse,
    validate,
)

from sandbox.github import catalogue
from sandbox.github.catalogue import GitHubError

Json = dict[str, object]

NODE_LIMIT = 500_000
CACHED_DOCUMENTS = 256
CACHED_LENGTH = 200_000
"""Characters beyond which a document is not worth keeping: it was built for one request."""


class Refused(Exception):
    """A document that GitHub would not run, with the errors that it would answer."""

    def __init__(self, errors: list[Json]) -> None:
        super().__init__(str(errors[0].get("message")))
        self.errors = errors


@dataclass(frozen=True)
class Price:
    cost: int
    nodes: int


class Documents:
    """Parses and validates; the same text is not looked at twice."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._known: OrderedDict[str, DocumentNode] = OrderedDict()

    def load(self, text: str) -> DocumentNode:
        """The document; raises `Refused` with errors in GitHub's shape."""
        document = self._known.get(text)
        if document is not None:
            self._known.move_to_end(text)
            return document
        try:
            document = parse(text)
        except GraphQLSyntaxError as error:
            raise Refused([_syntax_error(error)]) from error
        except RecursionError as error:
            raise Refused([{"message": "Timeout on validation of query"}]) from error
        errors = validate(self.schema, document, max_errors=20, hide_suggestions=True)
        if errors:
            raise Refused([_validation_error(document, error) for error in errors])
        if len(text) <= CACHED_LENGTH:
            self._known[text] = document
            if len(self._known) > CACHED_DOCUMENTS:
                self._known.popitem(last=False)
        return document

    def operation(self, document: DocumentNode, name: str | None) -> OperationDefinitionNode:
        operations = [
            node for node in document.definitions if isinstance(node, OperationDefinitionNode)
        ]
        if not name and len(operations) == 1:
            return operations[0]
        for operation in operations:
            if name and operation.name is not None and operation.name.value == name:
                return operation
        message = (
            catalogue.NO_OPERATION.text.format(name=name)
            if name
            else "An operation name is required"
        )
        raise Refused([{"message": message}])

    def price(
        self,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, object],
    ) -> Price:
        """Points and possible nodes, by the formula of the documentation.

        Each connection is asked once per possible parent; the sum over a hundred is the cost.
        """
        pricing = _Pricing(self.schema, document, variables)
        root = (
            self.schema.mutation_type
            if operation.operation is OperationType.MUTATION
            else self.schema.query_type
        )
        if isinstance(root, GraphQLObjectType):
            pricing.add(operation.selection_set, root, 1)
        return Price(max(1, round(pricing.requests / 100)), pricing.nodes)


class _Pricing:
    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, object]
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self.requests = 0
        self.nodes = 0

    def add(
        self,
        selections: SelectionSetNode,
        type_: GraphQLObjectType | GraphQLInterfaceType,
        parents: int,
    ) -> None:
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                self._add_field(selection, type_, parents)
            elif isinstance(selection, InlineFragmentNode):
                name = selection.type_condition.name.value if selection.type_condition else ""
                self.add(selection.selection_set, self._type(name) or type_, parents)
            elif isinstance(selection, FragmentSpreadNode):
                fragment = self._fragments[selection.name.value]
                on = self._type(fragment.type_condition.name.value)
                self.add(fragment.selection_set, on or type_, parents)

    def _type(self, name: str) -> GraphQLObjectType | GraphQLInterfaceType | None:
        found = self._schema.type_map.get(name)
        return found if isinstance(found, GraphQLObjectType | GraphQLInterfaceType) else None

    def _add_field(
        self, field: FieldNode, type_: GraphQLObjectType | GraphQLInterfaceType, parents: int
    ) -> None:
        definition = type_.fields.get(field.name.value)
        if definition is None or field.selection_set is None:
            return
        below = get_named_type(definition.type)
        if below.name.endswith("Connection"):
            self.requests += parents
            parents *= self._bound(field)
            self.nodes += parents
        if isinstance(below, GraphQLObjectType | GraphQLInterfaceType):
            self.add(field.selection_set, below, parents)

    def _bound(self, field: FieldNode) -> int:
        bounds = []
        for argument in field.arguments or ():
            if argument.name.value in ("first", "last"):
                value: object = None
                if isinstance(argument.value, IntValueNode):
                    value = int(argument.value.value)
                elif isinstance(argument.value, VariableNode):
                    value = self._variables.get(argument.value.name.value)
                if isinstance(value, int):
                    bounds.append(max(0, value))
        # Without bounds the connection itself answers with an error.
        return min(bounds, default=1)


def check_nodes(price: Price) -> None:
    if price.nodes > NODE_LIMIT:
        raise catalogue.TOO_MANY_NODES.error(count=price.nodes)


def error_json(error: GitHubError) -> Json:
    """The parts of an error that do not depend on where it happened."""
    shape: Json = {}
    if error.type is not None:
        shape["type"] = error.type
    if error.code is not None:
        shape["code"] = error.code
    if error.extensions is not None:
        shape["extensions"] = dict(error.extensions)
    shape["message"] = error.message
    return shape


# --- validation errors in the words of GitHub's own implementation ----------------------------

_Q = r"['\"]([^'\"]*)['\"]"
_WORDS: Final = (
    (
        re.compile(rf"Cannot query field {_Q} on type {_Q}"),
        "Field '{0}' doesn't exist on type '{1}'",
        "undefinedField",
        ("fieldName", "typeName"),
    ),
    (
        re.compile(r"Unknown argument ['\"](\w+)['\"] on field ['\"](\w+)\.(\w+)['\"]"),
        "Field '{2}' doesn't accept argument '{0}'",
        "argumentNotAccepted",
        ("argumentName", "typeName", "name"),
    ),
    (
        re.compile(r"Argument ['\"](?:\w+\.)?(\w+)\((\w+):\)['\"] of type"),
        "Field '{0}' is missing required arguments: {1}",
        "missingRequiredArguments",
        ("name", "arguments"),
    ),
    (
        re.compile(rf"Field {_Q} of type {_Q} must have a selection of subfields"),
        (
            "Field must have selections (field '{0}' returns {1} but has no selections. "
            "Did you mean '{0} {{ ... }}'?)"
        ),
        "selectionMismatch",
        ("nodeName", "typeName"),
    ),
    (
        re.compile(rf"Field {_Q} must not have a selection since type {_Q}"),
        "Selections can't be made on scalars (field '{0}' returns {1} but has selections)",
        "selectionMismatch",
        ("nodeName", "typeName"),
    ),
    (
        re.compile(r"Variable ['\"]\$(\w+)['\"] is never used in operation ['\"](\w+)['\"]"),
        "Variable ${0} is declared by {1} but not used",
        "variableNotUsed",
        ("variableName", "operationName"),
    ),
    (
        re.compile(r"Variable ['\"]\$(\w+)['\"] is never used"),
        "Variable ${0} is declared by anonymous query but not used",
        "variableNotUsed",
        ("variableName",),
    ),
    (
        re.compile(r"Variable ['\"]\$(\w+)['\"] is not defined"),
        "Variable ${0} is used by anonymous query but not declared",
        "variableNotDefined",
        ("variableName",),
    ),
    (
        re.compile(
            r"Variable ['\"]\$(\w+)['\"] of type ['\"]([^'\"]+)['\"] used in position expecting "
            r"type ['\"]([^'\"]+)['\"]"
        ),
        "Type mismatch on variable ${0} and argument ({1} / {2})",
        "variableMismatch",
        ("variableName", "typeName", "expectedTypeName"),
    ),
    (
        re.compile(rf"Unknown fragment {_Q}"),
        "Fragment {0} was used, but not defined",
        "useAndDefineFragment",
        ("fragmentName",),
    ),
    (
        re.compile(rf"Fragment {_Q} is never used"),
        "Fragment {0} was defined, but not used",
        "useAndDefineFragment",
        ("fragmentName",),
    ),
    (
        re.compile(rf"Unknown type {_Q}"),
        "No such type {0}, so it can't be a fragment condition",
        "undefinedType",
        ("typeName",),
    ),
    (
        re.compile(rf"Fields {_Q} conflict"),
        "Field '{0}' has a field conflict",
        "fieldConflict",
        ("fieldName",),
    ),
)
"""graphql-core's sentence; GitHub's sentence, its code, and the names of its details."""


def _validation_error(document: DocumentNode, error: GraphQLError) -> Json:
    message, extensions = error.message, {"code": "argumentLiteralsIncompatible"}
    for pattern, template, code, names in _WORDS:
        match = pattern.match(error.message)
        if match:
            message = template.format(*match.groups())
            extensions = {"code": code, **dict(zip(names, match.groups(), strict=False))}
            break
    nodes = error.nodes or ()
    return {
        "path": _path_to(document, nodes[0]) if nodes else [],
        "extensions": extensions,
        "locations": _locations(error),
        "message": message,
    }


def _locations(error: GraphQLError) -> list[Json]:
    return [{"line": at.line, "column": at.column} for at in error.locations or ()]


def _path_to(document: DocumentNode, wanted: Node) -> list[str]:
    """Where a node is, as GitHub tells it: `["query Q", "viewer", "f"]`."""

    def search(node: Node) -> list[str] | None:
        step = _step(node)
        if node is wanted:
            return step
        for key in node.keys:
            value = getattr(node, key, None)
            for child in value if isinstance(value, tuple | list) else (value,):
                if isinstance(child, Node):
                    found = search(child)
                    if found is not None:
                        return step + found
        return None

    return search(document) or []


def _step(node: Node) -> list[str]:
    if isinstance(node, OperationDefinitionNode):
        return [node.operation.value + (f" {node.name.value}" if node.name else "")]
    if isinstance(node, FragmentDefinitionNode):
        return [f"fragment {node.name.value}"]
    if isinstance(node, FieldNode):
        return [(node.alias or node.name).value]
    if isinstance(node, InlineFragmentNode):
        return [f"... on {node.type_condition.name.value}" if node.type_condition else "..."]
    if isinstance(node, FragmentSpreadNode):
        return [f"... {node.name.value}"]
    return []


def _syntax_error(error: GraphQLSyntaxError) -> Json:
    at = error.locations[0] if error.locations else None
    line, column = (at.line, at.column) if at is not None else (1, 1)
    text = error.message.removeprefix("Syntax Error: ").rstrip(".")
    return {
        "message": f"Parse error: {text} at [{line}, {column}]",
        "locations": [{"line": line, "column": column}],
    }
