"""Operations that were parsed and validated before, ready to be run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from cachetools import LRUCache
from graphql import (
    ASTValidationRule,
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    MaxIntrospectionDepthRule,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    execute,
    specified_rules,
    validate,
    visit,
)
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.utils.await_maybe import await_maybe

from api.graphql import limits
from api.graphql.execution import Run, Tree, is_awaitable

# What a document must hold to, besides strawberry's own rules. Classes built for each document
# would be as slow as they are many: an added rule is one class, built where it is written.
RULES: tuple[type[ASTValidationRule], ...] = (*specified_rules, MaxIntrospectionDepthRule)
WITHOUT_INTROSPECTION = (*RULES, NoSchemaIntrospectionCustomRule)

# A parsed document takes about 120 bytes for each character of its text: 4 MB in all.
_REMEMBERED_CHARACTERS = 30_000
_LEAST_CHARACTERS = 400  # that a document counts for: no more than 75 are remembered
_MOST_CHARACTERS = 10_000  # a longer one would push out too many others
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")
_REMEMBERED_TREES = 8  # of one plan
_REMEMBERED_SELECTIONS = 2_000  # of one tree, at about 1.5 kB each
_MAX_ERRORS = 10  # of one document: each may take a millisecond to find what was meant
_MAX_VARIABLE_ERRORS = 50
_MOST_SHOWN = 100  # characters of a name


class Plan:
    """An operation of a valid document. May be run any number of times, also at the same time.

    `fields`: the names of all fields in its document, and other words.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        characters: int,
        fields: frozenset[str],
    ) -> None:
        self.operation: OperationType = operation.operation
        self.characters = characters
        self.fields = fields
        self._schema = schema
        self._document = document
        self._definition = operation
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._cost = limits.Cost(_core(schema), operation, self._fragments)
        self._switches = _switches(document)
        self._trees: LRUCache[tuple[object, ...], Tree] = LRUCache(_REMEMBERED_TREES)

    def ready(self, variables: Mapping[str, object] | None) -> "Ready | list[GraphQLError]":
        """The plan with these variables, or what is wrong with them. Nothing is done yet."""
        raw = dict(variables or {})
        values = get_variable_values(
            _core(self._schema),
            self._definition.variable_definitions or (),
            raw,
            _MAX_VARIABLE_ERRORS,
        )
        if isinstance(values, list):
            return values
        # A mutation must not fail at its answer: it is refused if any variables make that too much.
        sizes = values.coerced if self.operation is OperationType.QUERY else None
        if too_much := self._cost.error(sizes):
            return [too_much]
        return Ready(self, raw, values, self._cost.price(values.coerced))

    async def run(self, ready: "Ready", context: object) -> ExecutionResult:
        """Carry it out. What goes wrong is told in the errors of the result."""
        if self.operation is not OperationType.QUERY:
            return await self._executed(ready.raw, context)
        values = ready.values
        switched = tuple(values.coerced.get(name) for name in self._switches)
        tree = self._trees.get(switched)
        if tree is None:
            tree = Tree(_core(self._schema), self._definition, self._fragments)
            self._trees[switched] = tree
        result = await Run(tree, values, context).answer()
        if tree.size > _REMEMBERED_SELECTIONS:
            self._trees.pop(switched, None)
        return result

    async def _executed(self, variables: dict[str, Any], context: object) -> ExecutionResult:
        """Mutations are carried out one after the other, by graphql-core."""
        name = self._definition.name
        return await await_maybe(
            execute(
                _core(self._schema),
                self._document,
                context_value=context,
                variable_values=variables,
                operation_name=name.value if name else None,
                is_awaitable=is_awaitable,
                executor_class=self._schema.execution_context_class,
                operation_extensions=None,
            )
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan with its variables, as they came and as the schema takes them.

    `price`: how many values there may be in the answer; 0 for few.
    """

    plan: Plan
    raw: dict[str, Any]
    values: VariableValues
    price: int

    async def run(self, context: object) -> ExecutionResult:
        """Carry it out, as often as wanted. What goes wrong is told in the errors of the result."""
        return await self.plan.run(self, context)


class Plans:
    """The plans of a schema's operations. Those used last are remembered, in bounded space.

    Documents with errors are not: they would push out those that are of use.
    """

    def __init__(
        self, schema: strawberry.Schema, rules: Sequence[type[ASTValidationRule]] = RULES
    ) -> None:
        self._schema = schema
        self._rules = tuple(rules)
        self._plans: LRUCache[tuple[str, str | None], Plan] = LRUCache(
            _REMEMBERED_CHARACTERS, getsizeof=lambda plan: max(plan.characters, _LEAST_CHARACTERS)
        )

    def knows(self, query: str, operation_name: str | None = None) -> bool:
        """Whether the plan is remembered."""
        return (query, operation_name) in self._plans

    def plan(self, query: str, operation_name: str | None = None) -> Plan | list[GraphQLError]:
        """The plan for an operation, or what is wrong with its document."""
        plan = self._plans.get((query, operation_name))
        if plan is None:
            try:
                document = limits.read(query)
            except GraphQLError as error:
                return [error]
            if errors := limits.shape_errors(document):
                return errors
            errors = validate(_core(self._schema), document, self._rules, max_errors=_MAX_ERRORS)
            if errors:
                return errors
            operation = _operation(document, operation_name)
            if isinstance(operation, GraphQLError):
                return [operation]
            words = frozenset(_NAME.findall(query))
            plan = Plan(self._schema, document, operation, len(query), words)
            if plan.characters <= _MOST_CHARACTERS:
                self._plans[query, operation_name] = plan
        return plan


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode | GraphQLError:
    """The operation of that name; without one, the only operation."""
    operations = [
        node for node in document.definitions if isinstance(node, OperationDefinitionNode)
    ]
    if name is not None:
        for operation in operations:
            if operation.name is not None and operation.name.value == name:
                return operation
        return GraphQLError(f"Unknown operation named '{name[:_MOST_SHOWN]}'.")
    if len(operations) > 1:
        return GraphQLError("Must provide operation name if query contains multiple operations.")
    return operations[0] if operations else GraphQLError("Must provide an operation.")


class _Switches(Visitor):
    """Collects the variables that decide what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.names.add(argument.value.name.value)


def _switches(document: DocumentNode) -> Sequence[str]:
    """The variables in the document's directives."""
    switches = _Switches()
    visit(document, switches)
    return sorted(switches.names)


def _core(schema: strawberry.Schema) -> GraphQLSchema:
    return schema._schema  # noqa: SLF001  # strawberry has no other door to it
