"""Running a query: what graphql-core's executor answers, for a small part of its price.

That one looks up anew for every single value what is the same for all values of a field: who reads
it, who writes it, which fields are asked of its type. Here it is looked up once per query and kept
in a `Tree`. A `Run` fills in the values: first all that are at hand, then what must be waited for.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from inspect import iscoroutine
from typing import Any, TypeAlias, TypeGuard, cast

from graphql import (
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLID,
    GraphQLInterfaceType,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    GraphQLUnionType,
    OperationDefinitionNode,
    Undefined,
    default_type_resolver,
    is_non_null_type,
    located_error,
)
from graphql.execution.collect_fields import (
    FieldDetailsList,
    FragmentDetails,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from graphql.pyutils import Path, gather_with_cancel, inspect, is_iterable
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import get_strawberry_type_cast
from strawberry.types.enum import StrawberryEnumDefinition

from api.graphql.resolving import DEFINITION, Read, is_attribute, reader, resolver

is_awaitable: Callable[[Any], TypeGuard[Awaitable[Any]]] = optimized_is_awaitable  # type: ignore[assignment]

_BUILT_IN: frozenset[type] = frozenset({str, int, float, bool, list, dict, datetime, date})
_WRITTEN_AS_IT_IS: dict[object, type] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
}

_LISTS = frozenset({list, tuple})

# A value of a field, completed as its type wants it; or OPEN, and the run puts it there later.
# Raises what keeps it from being completed.
Complete: TypeAlias = Callable[["Run", Any, "Place"], object]
Write: TypeAlias = Callable[[Any], object]
_PlainStep: TypeAlias = tuple[str, Read, frozenset[type], frozenset[type], Write, frozenset[type]]


class _Open:
    """Stands in the answer for what is waited for."""


OPEN = _Open()


class Place:
    """A place in the answer: `holder[key]`. `path` is where that is, seen from the root."""

    __slots__ = ("above", "field", "holder", "key", "nullable")

    def __init__(
        self, above: "Place | None", key: str | int, holder: Any, field: "Field", nullable: bool
    ) -> None:
        self.above = above
        self.key = key
        self.holder = holder
        self.field = field
        self.nullable = nullable

    @property
    def path(self) -> Path:
        """The path as graphql-core has it."""
        owner = self.field.owner.name if isinstance(self.key, str) else None
        return Path(self.above.path if self.above else None, self.key, owner)


class Selection:
    """What is asked of one type of object at one place of a query."""

    __slots__ = ("_plain_steps", "_steps")

    def __init__(self, fields: list["Field"]) -> None:
        self._steps = [(f.key, f.read, f.ready, f.simple, f) for f in fields]
        self._plain_steps: list[_PlainStep] | None = None
        if all(f.is_plain for f in fields):
            self._plain_steps = [
                (f.key, f.read, f.ready, f.simple, f.write, f.ready_items) for f in fields if f.read
            ]

    def of_plain(self, source: object) -> dict[str, object] | None:
        """The answer about an object all of whose fields are at hand and simple.

        None where one is not: nothing was done then, and `of` does it all.
        """
        if self._plain_steps is None:
            return None
        found: dict[str, object] = {}
        try:
            for key, read, ready, simple, write, ready_items in self._plain_steps:
                value: Any = read(source)
                kind = type(value)
                if kind in ready:
                    found[key] = value
                elif kind in simple:
                    found[key] = written = write(value)
                    if type(written) not in _BUILT_IN:
                        return None
                elif kind in _LISTS and ready_items.issuperset(map(type, value)):
                    found[key] = list(value)
                else:
                    return None
        except Exception:  # `of` comes to it again, and tells of it
            return None
        return found

    def of(self, run: "Run", source: object, above: Place | None) -> dict[str, object]:
        """The answer about an object. Raises a located error where a null is not allowed."""
        found: dict[str, object] = {}
        for key, read, ready, simple, field in self._steps:
            if read is None:
                found[key] = field.resolved(run, source, above, found)
                continue
            try:
                value = read(source)
            except Exception as error:
                found[key] = field.failed(run, error, above, found)
                continue
            if type(value) in ready:
                found[key] = value
            elif type(value) in simple:
                found[key] = field.written(run, value, above, found)
            else:
                found[key] = field.completed(run, value, above, found)
        return found


class Field:
    """A field of a selection: all that a query asks of it under one name.

    `read` takes the value from its object where no resolver does. Values of the types in `ready`
    are written as they are; those in `simple` need no waiting for, and only writing. A list is
    written as it is if all its items are of types in `ready_items`. `is_plain`: all that there can
    be are attributes of these kinds.
    """

    __slots__ = (
        "_complete",
        "_details",
        "_leaf",
        "_resolve",
        "_selections",
        "definition",
        "is_plain",
        "key",
        "nodes",
        "nullable",
        "owner",
        "read",
        "ready",
        "ready_items",
        "simple",
        "write",
    )

    def __init__(
        self,
        schema: GraphQLSchema,
        key: str,
        details: FieldDetailsList,
        owner: GraphQLObjectType,
        definition: GraphQLField,
    ) -> None:
        self.key = key
        self.owner = owner
        self.definition = definition
        self.nodes: list[FieldNode] = [detail.node for detail in details]
        self.nullable = not is_non_null_type(definition.type)
        self.read = reader(definition, owner)
        self._leaf, self.write, self.ready, self.simple = _writing(definition.type)
        self.ready_items = _ready_items(definition.type)
        self.is_plain = is_attribute(self.read) and bool(self._leaf or self.ready_items)
        self._details = details
        self._resolve = resolver(schema, definition, self.nodes[0])
        self._complete = _complete(definition.type, self)
        self._selections: dict[GraphQLObjectType, Selection] = {}

    def __str__(self) -> str:
        return f"{self.owner}.{self.nodes[0].name.value}"

    def resolved(
        self, run: "Run", source: object, above: Place | None, holder: dict[str, object]
    ) -> object:
        """The value that the resolver has for it, completed."""
        place = Place(above, self.key, holder, self, self.nullable)
        try:
            value = self._resolve(source, run.info(place), run.variables)
            return run.complete(self._complete, value, place)
        except Exception as error:
            return run.failed(error, place)

    def completed(
        self, run: "Run", value: object, above: Place | None, holder: dict[str, object]
    ) -> object:
        """The value that was read for it, completed."""
        place = Place(above, self.key, holder, self, self.nullable)
        try:
            return run.complete(self._complete, value, place)
        except Exception as error:
            return run.failed(error, place)

    def written(
        self, run: "Run", value: object, above: Place | None, holder: dict[str, object]
    ) -> object:
        """A simple value as it is written."""
        try:
            written = self.write(value)
        except Exception as error:
            return self.failed(run, error, above, holder)
        if type(written) in _BUILT_IN or self._leaf is None:
            return written
        place = Place(above, self.key, holder, self, self.nullable)
        try:
            return _written(run, self._leaf, value, written, place)
        except Exception as error:
            return run.failed(error, place)

    def failed(
        self, run: "Run", error: Exception, above: Place | None, holder: dict[str, object]
    ) -> object:
        """Null, if that is allowed."""
        return run.failed(error, Place(above, self.key, holder, self, self.nullable))

    def selection(self, run: "Run", type_: GraphQLObjectType) -> Selection:
        """What is asked of a value that is an object of this type."""
        selection = self._selections.get(type_)
        if selection is None:
            selection = run.tree.below(run, type_, self._details)
            self._selections[type_] = selection
        return selection


class Tree:
    """A query, compiled as far as values have needed it yet: `size` selections.

    It holds for one set of values of the variables that @skip and @include ask for.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDefinitionNode],
    ) -> None:
        self.schema = schema
        self.operation = operation
        self.fragments = fragments
        self.size = 0
        self._fragments = {name: FragmentDetails(node) for name, node in fragments.items()}
        self._root: Selection | None = None

    def root(self, run: "Run") -> Selection:
        """What is asked of the schema's query type."""
        if self._root is None:
            type_ = self.schema.query_type
            if type_ is None:
                raise GraphQLError(
                    "Schema is not configured to execute query operation.", self.operation
                )
            collected = collect_fields(
                self.schema, self._fragments, run.variables, type_, self.operation
            )
            self._root = self._selection(type_, collected.grouped_field_set)
        return self._root

    def below(self, run: "Run", type_: GraphQLObjectType, details: FieldDetailsList) -> Selection:
        """What is asked of an object of this type by all of these fields together."""
        collected = collect_subfields(
            self.schema, self._fragments, run.variables, self.operation, type_, details
        )
        return self._selection(type_, collected.grouped_field_set)

    def _selection(self, owner: GraphQLObjectType, grouped: GroupedFieldSet) -> Selection:
        self.size += 1
        fields = []
        for key, details in grouped.items():
            definition = self.schema.get_field(owner, details[0].node.name.value)
            if definition is not None:
                fields.append(Field(self.schema, key, details, owner, definition))
        return Selection(fields)


class _ResolveInfo(GraphQLResolveInfo[Any]):
    """What a resolver is told about its field. Few ask for the path: it is made for those."""

    __slots__ = ()
    operation_extensions = None  # strawberry's addition

    @property
    def path(self) -> Path:
        return cast(Place, self[4]).path


class _Wait:
    """What is waited for, where it goes, and what makes the answer of it."""

    __slots__ = ("awaitable", "complete", "place")

    def __init__(self, awaitable: Awaitable[object], place: Place, complete: Complete) -> None:
        self.awaitable = awaitable
        self.place = place
        self.complete = complete


class Run:
    """A query that is being answered. It owns all that it waits for: nothing outlives it.

    What is waited for at the same time, is waited for by a task each, which then goes on with what
    comes of it. Where an error takes an object away, what is waited for inside of it counts no
    more. It is let run as long as others are waited for, because whoever is cancelled while it
    waits for a loader's future, cancels that for all; then it is cancelled.
    """

    def __init__(self, tree: Tree, variables: VariableValues, context: object) -> None:
        self.tree = tree
        self.variables = variables
        self.context = context
        self._errors: list[GraphQLError] = []
        self._gone: set[Place] = set()
        self._waits: deque[_Wait] = deque()  # that nobody has taken on
        self._unbegun: set[_Wait] = set()  # that a task will begin with
        self._followed: dict[Future[None], _Wait] = {}
        self._left: set[Future[Any]] = set()  # that count no more
        self._failure: BaseException | None = None  # that leaves nothing to wait for
        self._bell: Future[None] | None = None

    async def answer(self) -> ExecutionResult:
        """Answer the query. Raises nothing but CancelledError."""
        data: dict[str, object] | None
        try:
            data = self.tree.root(self).of(self, None, None)
            await self._wait_for_all()
        except Exception as error:  # of a field that must not be null, up to the root
            data = None
            self._errors.append(located_error(error))
        finally:
            await self._end()
        return ExecutionResult(data, self._errors or None)

    def complete(self, complete: Complete, value: object, place: Place) -> object:
        """A value of any kind, completed; or OPEN, if it has to be waited for."""
        if is_awaitable(value):
            return self.wait(value, place, complete)
        return complete(self, value, place)

    def wait(self, awaitable: Any, place: Place, complete: Complete) -> object:
        """Have it waited for, then completed and put into its place."""
        self._waits.append(_Wait(awaitable, place, complete))
        return OPEN

    def failed(self, error: Exception, place: Place) -> object:
        """Null, and the error is told. Raises where null is not allowed."""
        located = located_error(error, place.field.nodes, place.path.as_list())
        if not place.nullable:
            raise located
        self._errors.append(located)
        self._gone.add(place)
        return None

    def info(self, place: Place) -> GraphQLResolveInfo[Any]:
        """What resolvers are told about the field that a place is in."""
        while isinstance(place.key, int) and place.above is not None:
            place = place.above
        field, tree = place.field, self.tree
        return _ResolveInfo(
            field.nodes[0].name.value,
            field.nodes,
            field.definition.type,
            field.owner,
            place,  # type: ignore[arg-type]  # see _ResolveInfo.path
            tree.schema,
            tree.fragments,
            None,
            tree.operation,
            self.variables.coerced,  # type: ignore[arg-type]  # strawberry's resolvers know these
            self.context,
            is_awaitable,
            None,
            GraphQLResolveInfoHelpers(_gather, self._let_run),
        )

    async def _wait_for_all(self) -> None:
        while len(self._waits) == 1:
            await self._wait_for(self._waits.popleft())  # alone, it needs no task
        self._follow_all()
        if self._followed:
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        if self._failure is not None:
            raise self._failure

    def _follow_all(self) -> None:
        while self._waits:
            wait = self._waits.popleft()
            task = asyncio.create_task(self._follow(wait))
            self._unbegun.add(wait)
            self._followed[task] = wait
            task.add_done_callback(self._is_followed)

    async def _follow(self, wait: _Wait) -> None:
        """Wait for it and for what comes of it; have others wait for what is too much for one.

        Raises the error that leaves no answer at all.
        """
        task = asyncio.current_task()
        self._unbegun.discard(wait)
        await self._wait_for(wait)
        while self._waits:
            wait = self._waits.popleft()
            if task in self._followed:
                self._followed[task] = wait
            self._follow_all()
            await self._wait_for(wait)

    def _is_followed(self, task: Future[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._followed.pop(task, None) is not None:
            self._failure = self._failure or error
            self._ring()

    def _ring(self) -> None:
        if self._bell and not self._bell.done() and (self._failure or not self._followed):
            self._bell.set_result(None)

    async def _wait_for(self, wait: _Wait) -> None:
        """Put what is waited for into its place."""
        place = wait.place
        if not self._counts(place):
            self._drop(wait.awaitable)
            return
        try:
            value = await wait.awaitable
            if self._counts(place):
                place.holder[place.key] = wait.complete(self, value, place)
        except Exception as error:
            if self._counts(place):
                self._lost(error, place)

    def _lost(self, error: Exception, place: Place) -> None:
        """Answer null there, or at the nearest place above that may be null."""
        located = located_error(error, place.field.nodes, place.path.as_list())
        while not place.nullable:
            if place.above is None:
                raise located
            place = place.above
        place.holder[place.key] = None
        self._errors.append(located)
        self._gone.add(place)
        for task in [task for task, wait in self._followed.items() if not self._counts(wait.place)]:
            self._left.add(task)
            del self._followed[task]
        self._ring()

    def _counts(self, place: Place | None) -> bool:
        """Whether the place is still in the answer."""
        while self._gone and place is not None:
            if place in self._gone:
                return False
            place = place.above
        return True

    def _drop(self, awaitable: Awaitable[object]) -> None:
        """Do not begin it."""
        if iscoroutine(awaitable):
            awaitable.close()
        elif isinstance(awaitable, Future):
            self._let_run([awaitable])

    def _let_run(self, awaitables: Any) -> None:
        """Have them run as long as the query does."""
        for awaitable in awaitables:
            future = asyncio.ensure_future(awaitable)
            future.add_done_callback(_see)
            self._left.add(future)

    async def _end(self) -> None:
        """Leave nothing behind."""
        for task in self._followed:
            task.cancel()  # one that has not begun never will
        self.drop(wait.awaitable for wait in (*self._waits, *self._unbegun))
        left = [future for future in (*self._followed, *self._left) if not future.done()]
        for future in left:
            future.cancel()
        if left:
            await asyncio.wait(left)

    def drop(self, values: Iterable[object]) -> None:
        """Wait for none of these, that nobody has asked for yet."""
        with suppress(Exception):
            for value in values:
                if is_awaitable(value):
                    self._drop(value)


async def _gather(values: Sequence[Awaitable[Any]]) -> list[Any]:
    return await gather_with_cancel(*values)


def _see(future: Future[object]) -> None:
    if not future.cancelled():
        future.exception()


def _complete(type_: GraphQLOutputType, field: Field) -> Complete:
    """How values of a type are completed in a field."""
    if isinstance(type_, GraphQLNonNull):
        there = _complete_there(type_.of_type, field)

        def complete_non_null(run: Run, value: object, place: Place) -> object:
            if value is None or value is Undefined:
                raise TypeError(f"Cannot return null for non-nullable field {field}.")
            if isinstance(value, Exception):
                raise value
            return there(run, value, place)

        return complete_non_null
    there = _complete_there(type_, field)

    def complete_nullable(run: Run, value: object, place: Place) -> object:
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        return there(run, value, place)

    return complete_nullable


def _complete_there(type_: GraphQLOutputType, field: Field) -> Complete:
    """How values are completed that are neither null nor errors."""
    match type_:
        case GraphQLScalarType() | GraphQLEnumType():
            return _complete_leaf(type_)
        case GraphQLObjectType():
            return _complete_object(type_, field)
        case GraphQLInterfaceType() | GraphQLUnionType():
            return _complete_abstract(type_, field)
        case GraphQLList():
            return _complete_list(type_, field)
    raise TypeError(f"{type_} is no type of an answer.")


def _complete_list(type_: GraphQLList[Any], field: Field) -> Complete:
    item_type = type_.of_type
    complete_plain = _complete_plain(item_type, field)
    complete_item = _complete(item_type, field)
    nullable = not is_non_null_type(item_type)
    plain = _plain(item_type)

    def complete(run: Run, value: Any, place: Place) -> object:
        if type(value) is not list:
            if hasattr(value, "__aiter__"):
                return run.wait(_listed(value), place, complete)
            if not is_iterable(value):
                raise GraphQLError(f"Expected Iterable, but did not find one for field '{field}'.")
        items: list[object] = []
        values = iter(value)
        for item in values:
            if complete_plain and (found := complete_plain(run, item)) is not None:
                items.append(found)
                continue
            at = Place(place, len(items), items, field, nullable)
            try:
                items.append(
                    complete_item(run, item, at)
                    if type(item) in plain
                    else run.complete(complete_item, item, at)
                )
            except Exception as error:
                try:
                    items.append(run.failed(error, at))
                except GraphQLError:
                    run.drop(values)
                    raise
        return items

    return complete


def _complete_plain(
    type_: GraphQLOutputType, field: Field
) -> Callable[["Run", Any], dict[str, object] | None] | None:
    """How most objects in lists are completed: there is nothing in them that needs a place."""
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    if not isinstance(inner, GraphQLObjectType) or (origin := _origin(inner)) is None:
        return None
    fits: dict[type, bool] = {}  # the classes of a program are few

    def complete(run: Run, value: Any) -> dict[str, object] | None:
        kind = type(value)
        if kind not in fits:
            fits[kind] = issubclass(kind, origin) and not hasattr(kind, "__await__")
        if not fits[kind] or get_strawberry_type_cast(value) is not None:
            return None
        return field.selection(run, inner).of_plain(value)

    return complete


def _complete_leaf(type_: GraphQLLeafType) -> Complete:
    write = type_.coerce_output_value

    def complete(run: Run, value: object, place: Place) -> object:
        return _written(run, type_, value, write(value), place)

    return complete


def _written(
    run: Run, type_: GraphQLLeafType, value: object, written: object, place: Place
) -> object:
    """What was written for a value, if it is anything."""
    if written is None or written is Undefined:
        raise TypeError(
            f"Expected `{type_}.coerce_output_value({inspect(value)})`"
            f" to return non-nullable value, returned: {inspect(written)}"
        )
    if is_awaitable(written):
        return run.wait(written, place, lambda _run, written, _place: written)
    return written


def _complete_object(type_: GraphQLObjectType, field: Field) -> Complete:
    is_type_of = type_.is_type_of
    origin = _origin(type_)

    def complete(run: Run, value: object, place: Place) -> object:
        if is_type_of is None or (
            origin and isinstance(value, origin) and get_strawberry_type_cast(value) is None
        ):
            return field.selection(run, type_).of(run, value, place)

        def complete_if(run: Run, fits: object, place: Place) -> object:
            if not fits:
                raise GraphQLError(
                    f"Expected value of type '{type_}' but got: {inspect(value)}.", field.nodes
                )
            return field.selection(run, type_).of(run, value, place)

        return run.complete(complete_if, is_type_of(value, run.info(place)), place)

    return complete


def _complete_abstract(type_: GraphQLAbstractType, field: Field) -> Complete:
    resolve_type = type_.resolve_type or default_type_resolver
    completes: dict[GraphQLObjectType, Complete] = {}

    def complete(run: Run, value: object, place: Place) -> object:
        def complete_as(run: Run, name: object, place: Place) -> object:
            kind = _kind(run.tree.schema, type_, name, value, field)
            if kind not in completes:
                completes[kind] = _complete_object(kind, field)
            return completes[kind](run, value, place)

        return run.complete(complete_as, resolve_type(value, run.info(place), type_), place)

    return complete


def _kind(
    schema: GraphQLSchema, type_: GraphQLAbstractType, name: object, value: object, field: Field
) -> GraphQLObjectType:
    """The type of an object, from the name that was resolved for it."""
    kind = schema.get_type(name) if isinstance(name, str) else None
    if name is None:
        problem = (
            f"Abstract type '{type_}' must resolve to an Object type at runtime for field "
            f"'{field}'. Either the '{type_}' type should provide a 'resolve_type' function or "
            "each possible type should provide an 'is_type_of' function."
        )
    elif not isinstance(name, str):
        problem = (
            f"Abstract type '{type_}' must resolve to an Object type at runtime for field "
            f"'{field}' with value {inspect(value)}, received '{inspect(name)}', which is not a "
            "valid Object type name."
        )
    elif kind is None:
        problem = (
            f"Abstract type '{type_}' was resolved to a type '{name}' that does not exist inside "
            "the schema."
        )
    elif not isinstance(kind, GraphQLObjectType):
        problem = f"Abstract type '{type_}' was resolved to a non-object type '{name}'."
    elif not schema.is_sub_type(type_, kind):
        problem = f"Runtime Object type '{kind}' is not a possible type for '{type_}'."
    else:
        return kind
    raise GraphQLError(problem, field.nodes)


async def _listed(values: Any) -> list[object]:
    """What an asynchronous iterable gives."""
    iterator: AsyncIterator[object] = aiter(values)
    try:
        return [value async for value in iterator]
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()


def _writing(
    type_: GraphQLOutputType,
) -> tuple[GraphQLLeafType | None, Write, frozenset[type], frozenset[type]]:
    """Whether values of a type are written, how, which as they are, and which are simple."""
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    null: frozenset[type] = frozenset({type(None)} if inner is type_ else ())
    if not isinstance(inner, GraphQLScalarType | GraphQLEnumType):
        return None, str, null, frozenset()
    write = inner.coerce_output_value
    unchanged = str if write is str else _WRITTEN_AS_IT_IS.get(inner)
    return inner, write, null | ({unchanged} if unchanged else set()), _plain(inner)


def _ready_items(type_: GraphQLOutputType) -> frozenset[type]:
    """If values of a type are lists of what is written: which items are written as they are."""
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    return _writing(inner.of_type)[2] if isinstance(inner, GraphQLList) else frozenset()


def _plain(type_: GraphQLOutputType) -> frozenset[type]:
    """Some classes of the values of a type, all of whose objects are at hand: none is awaitable."""
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    match getattr(inner, "extensions", {}).get(DEFINITION):
        case StrawberryEnumDefinition(wrapped_cls=members):
            own: list[type] = [members]
        case StrawberryObjectDefinition(origin=origin, concrete_of=generic):
            own = [origin, generic.origin] if generic else [origin]
        case _:
            own = []
    return _BUILT_IN.union(kind for kind in own if not hasattr(kind, "__await__"))


def _origin(type_: GraphQLObjectType) -> type | None:
    """The class whose objects are of this type by strawberry's own rule, if that is the rule."""
    definition = type_.extensions.get(DEFINITION)
    if isinstance(definition, StrawberryObjectDefinition) and definition.is_type_of is None:
        return definition.origin
    return None
