"""Plans answer as graphql-core does, and leave nothing behind."""

import asyncio
import gc
import itertools
import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pytest
import strawberry
from graphql import ExecutionResult, GraphQLError, execute, get_introspection_query, parse
from hypothesis import assume, given
from hypothesis import strategies as st
from strawberry.dataloader import DataLoader
from strawberry.types import Info
from strawberry.utils.await_maybe import await_maybe

from api.graphql import limits
from api.graphql.execution import is_awaitable
from api.graphql.plans import Plan, Plans
from tests.graphql import toy
from tests.graphql.questions import Question, question
from tests.graphql.running import run

PLANS = Plans(toy.schema)


@pytest.fixture(scope="module", autouse=True)
def _without_limits() -> Iterator[None]:
    """Here it is tried what limits would keep from it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAX_TOKENS", "MAX_DEPTH", "MAX_ALIASES", "MAX_DIRECTIVES", "MAX_VALUES"):
            patch.setattr(limits, name, 2**100)
        yield


def planned(query: str, plans: Plans = PLANS) -> Plan:
    plan = plans.plan(query)
    assert isinstance(plan, Plan), plan
    return plan


async def executed(
    schema: strawberry.Schema, question: Question, context: object = None
) -> ExecutionResult:
    """What graphql-core answers."""
    result = await await_maybe(
        execute(
            schema._schema,
            parse(question.query),
            context_value=context,
            variable_values=deepcopy(dict(question.variables)),  # resolvers are rude to them
            is_awaitable=is_awaitable,
            executor_class=schema.execution_context_class,
            operation_extensions=None,
        )
    )
    for _ in range(20):  # what it has left behind may still end
        await asyncio.sleep(0)
    return result


def told(error: GraphQLError) -> tuple[object, ...]:
    """All of an error that a caller or the log can see."""
    return error.path, error.message, error.locations, repr(error.original_error)


def by_place(result: ExecutionResult) -> dict[tuple[object, ...], list[GraphQLError]]:
    """The errors by the place in the answer that is null because of them."""
    places: dict[tuple[object, ...], list[GraphQLError]] = {}
    for error in result.errors or []:
        place: tuple[object, ...] = ()
        value: Any = result.data
        for key in error.path or []:
            if value is None:
                break
            place, value = (*place, key), value[key]
        assert value is None
        places.setdefault(place, []).append(error)
    return places


def assert_same(result: ExecutionResult, expected: ExecutionResult) -> None:
    """The same answer. Where several errors make one place null, it is a race which is told."""
    assert json.dumps(result.data) == json.dumps(expected.data)
    ours, theirs = by_place(result), by_place(expected)
    assert ours.keys() == theirs.keys()
    for place in ours:
        for one, other in itertools.product(ours[place], theirs[place]):
            assert one.path != other.path or told(one) == told(other)


# Some of what it gives up on it never awaits, and in the midst of a named tuple no warning can be
# given.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(random=st.randoms(use_true_random=False))
async def test_a_plan_answers_as_graphql_core_does(random: Random) -> None:
    asked = question(random, toy.schema._schema, toy.VALUES)
    plan = PLANS.plan(asked.query)
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    expected = await executed(toy.schema, asked)

    for _ in range(2):
        result = await run(plan, deepcopy(asked.variables), None)

        assert_same(result, expected)
        assert len(asyncio.all_tasks()) == 1


LEAF_FIELDS = [
    "__typename",
    "name",
    "label",
    "size",
    "weight",
    "colour",
    "at",
    "grumpy",
    "grumpier",
    "anything",
    "sizes",
    "marks",
    "moreMarks",
]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("field", LEAF_FIELDS)
@pytest.mark.parametrize("kind", ["LEAF", "ODD_LEAF"])
async def test_lists_of_plain_objects_are_those_of_graphql_core(kind: str, field: str) -> None:
    """They are read in one go: what is amiss in one of them must come out all the same."""
    for asked in (
        f"{{ leavesThere(kind: {kind}) {{ {field} }} }}",
        f"{{ leaves(each: [WELL, NULL, LATE, RAISES], kind: {kind}) {{ label {field} }} }}",
    ):
        expected = await executed(toy.schema, Question(asked, {}))

        assert_same(await run(planned(asked), None, None), expected)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What went wrong where nobody could be told, such as coroutines that were never awaited."""
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


NESTED = """{
  is: isThere(how: LATE, kind: BRANCH) {
    allThere(each: [LATE, WELL, LATER], kind: BRANCH) {
      may(how: LATE, kind: LEAF) { told(how: LATE) }
    }
    someThere(each: [LATE_RAISES, LATE], kind: LEAF) { must(how: LATER_RAISES) name }
  }
  leaf(how: LATE, kind: LEAF) { grumpier must(how: LATE_RAISES) told(how: LATER) }
  nested(rows: [[LATE, WRONG, LATE], [LATE]])
  streamed(each: [LATE, LATE])
  judged(verdict: "Good", good: true) { __typename }
}"""


@pytest.mark.parametrize("steps", range(12))
async def test_a_run_that_is_cancelled_at_any_step_leaves_nothing(
    unraisable: list[object], steps: int
) -> None:
    running = asyncio.create_task(run(planned(NESTED), {}, None))
    for _ in range(steps):
        await asyncio.sleep(0)
    done = running.done()
    running.cancel()

    if not done:
        with pytest.raises(asyncio.CancelledError):
            await running
    assert len(asyncio.all_tasks()) == 1
    gc.collect()
    assert unraisable == []


@pytest.mark.parametrize(
    "query",
    [
        "{ leaf(how: WELL, kind: LEAF) { told(how: LATE) must(how: RAISES) } }",
        "{ isThere(how: WELL, kind: LEAF) { told(how: LATE) must(how: NULL) } }",
        "{ nested(rows: [[RAISES, LATE, LATE], [LATE]]) }",
        "{ isThere(how: RAISES, kind: LEAF) { name } leaf(how: LATE, kind: LEAF) { grumpier } }",
        "{ leaf(how: WELL, kind: LEAF) { grumpier must(how: LATE_RAISES) } }",
    ],
)
async def test_what_counts_no_more_is_not_left_behind(unraisable: list[object], query: str) -> None:
    result = await run(planned(query), {}, None)

    assert result.errors
    assert len(asyncio.all_tasks()) == 1
    del result
    gc.collect()
    assert unraisable == []


async def test_a_field_that_fails_takes_no_load_from_others_who_wait_for_it() -> None:
    """Cancelling whoever waits for a loader's future would cancel it for all."""

    async def load(keys: list[int]) -> list[int]:
        for _ in range(5):
            await asyncio.sleep(0)
        return keys

    @strawberry.type
    class One:
        @strawberry.field
        async def loaded(self, info: Info) -> int:
            return await info.context.load(1)  # type: ignore[no-any-return]

        @strawberry.field
        async def fails(self) -> int:
            await asyncio.sleep(0)
            raise toy.Boom("at once")

    @strawberry.type
    class Query:
        @strawberry.field
        def one(self) -> One | None:
            return One()

    plans = Plans(strawberry.Schema(Query))
    result = await run(
        planned("{ a: one { loaded fails } b: one { loaded } }", plans), {}, DataLoader(load)
    )

    assert result.data == {"a": None, "b": {"loaded": 1}}
    assert [error.path for error in result.errors or []] == [["a", "fails"]]


async def test_siblings_are_loaded_together() -> None:
    asked: list[list[int]] = []

    async def load(keys: list[int]) -> list[int]:
        asked.append(keys)
        return keys

    @strawberry.type
    class One:
        key: int

        @strawberry.field
        async def loaded(self, info: Info) -> int:
            return await info.context.load(self.key)  # type: ignore[no-any-return]

        @strawberry.field
        def also(self, info: Info) -> int:
            return info.context.load(self.key + 10)  # type: ignore[no-any-return]

    @strawberry.type
    class Query:
        @strawberry.field
        async def all(self) -> list[One]:
            return [One(key=n) for n in range(3)]

    plans = Plans(strawberry.Schema(Query))
    result = await run(planned("{ all { loaded also } }", plans), {}, DataLoader(load))

    assert result.data == {"all": [{"loaded": n, "also": n + 10} for n in range(3)]}
    assert [sorted(keys) for keys in asked] == [[0, 1, 2, 10, 11, 12]]


async def test_introspection_is_answered_as_by_graphql_core() -> None:
    query = get_introspection_query(input_value_deprecation=True)

    result = await run(planned(query), {}, None)

    assert_same(result, await executed(toy.schema, Question(query, {})))


async def test_fragments_that_double_at_every_level_cost_as_much_as_they_are_long() -> None:
    spread = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(30))
    query = f"{{ ...F0 }} {spread} fragment F30 on Query {{ branch {{ label }} }}"

    async with asyncio.timeout(20):
        result = await run(planned(query), {}, None)

    assert result.data == {"branch": {"label": "a branch"}}


async def test_what_is_null_is_compiled_no_deeper() -> None:
    """Doubled by fields, the answer itself may be huge; but nobody has asked for it yet."""
    null = "may(how: NULL, kind: LEAF)"
    spread = " ".join(
        f"fragment F{n} on Thing {{ a: {null} {{ ...F{n + 1} }} b: {null} {{ ...F{n + 1} }} }}"
        for n in range(30)
    )
    query = (
        f"{{ thing(how: WELL, kind: LEAF) {{ ...F0 }} }} {spread} fragment F30 on Thing {{ name }}"
    )

    async with asyncio.timeout(20):
        result = await run(planned(query), {}, None)

    assert result.data == {"thing": {"a": None, "b": None}}


async def test_the_same_operation_is_planned_once_and_documents_with_errors_are_not_kept() -> None:
    plans = Plans(toy.schema)
    query = "query A { branch { name } } query B { branch { label } }"

    assert plans.plan(query, "A") is plans.plan(query, "A")
    assert plans.plan(query, "A") is not plans.plan(query, "B")
    kept = len(plans._plans)
    for wrong in ("{", "{ nothing }", query):
        assert isinstance(plans.plan(wrong), list)
    assert isinstance(plans.plan(query, "C"), list)
    assert len(plans._plans) == kept


async def test_plans_are_bounded_by_their_number_and_by_their_length() -> None:
    plans = Plans(toy.schema)
    long = "#" * 15_000

    for n in range(510):
        assert isinstance(plans.plan(f"{{ a{n}: __typename }}"), Plan)
    assert len(plans._plans) <= 500
    for n in range(30):
        assert isinstance(plans.plan(f"{{ a{n}: __typename }} {long}"), Plan)
    assert sum(plan.characters for plan in plans._plans.values()) <= 200_000


async def test_a_resolver_that_changes_what_it_is_given_changes_it_for_nobody_else() -> None:
    plan = planned("{ echo(wishes: {many: [1], free: {a: 1}}, many: [2], free: [3]) }")

    first, second = await run(plan, {}, None), await run(plan, {}, None)

    assert first.data == second.data
