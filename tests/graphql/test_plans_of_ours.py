"""Plans of our own schema answer as graphql-core does, from the same cache."""

from random import Random

from graphql import ExecutionResult
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from api.access import ANYBODY
from api.gateway.gateway import Operation
from api.graphql.context import Context
from api.graphql.limits import Cost
from api.graphql.plans import Plan, Plans
from api.graphql.schema import schema
from tests.graphql.questions import Question, Value, question
from tests.graphql.running import run
from tests.graphql.test_plans import assert_same, executed
from tests.system import System

PLANS = Plans(schema)
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"

# What is told by the clock, and so is never the same twice.
BY_THE_CLOCK = frozenset({"ageSeconds", "asOf", "syncedAt", "worker"})


def _one_of(*values: object) -> Value:
    return lambda random: random.choice(values)


def _filter(random: Random) -> object:
    wishes: dict[str, Value] = {
        "project": _one_of(GARDEN, "kitchen-garden", "", None),
        "status": _one_of("done", "x\0", None),
        "titleContains": _one_of("drill", "", None),
        "from": _one_of("2026-01-01T00:00:00Z", None),
    }
    return {name: wish(random) for name, wish in wishes.items() if random.random() < 0.4}


VALUES: dict[str, Value] = {
    "id": _one_of(DRILL, DRILL, GARDEN, GARDEN, "README.md", "autosaves/none.md"),
    "consistency": _one_of(*["CACHE"] * 7, "VERIFIED"),
    "atLeast": _one_of(None, None, "0" * 40),
    "maxStaleness": _one_of(None, None, -1),
    "first": _one_of(1, 2, 3, 3, -1, 101, None),
    "last": _one_of(2, None, None),
    "after": _one_of(None, None, "no cursor"),
    "before": _one_of(None, None, ""),
    "where": _filter,
    "orderBy": _one_of("OCCURRED_AT_DESC", "OCCURRED_AT_ASC", "PATH_ASC"),
    "length": _one_of(1, 40, 0, 10_001),
}


async def planned(system: System, plan: Plan, asked: Question) -> ExecutionResult:
    async with Operation(system.parts.gateway) as operation:
        context = Context(system.parts.gateway, system.parts.writer, operation, ANYBODY)
        return await run(plan, asked.variables, context)


async def expected(system: System, asked: Question) -> ExecutionResult:
    async with Operation(system.parts.gateway) as operation:
        context = Context(system.parts.gateway, system.parts.writer, operation, ANYBODY)
        return await executed(schema, asked, context)


def _values(found: object) -> int:
    """How many values there are in an answer."""
    if isinstance(found, list):
        return sum(1 + _values(item) for item in found if isinstance(item, dict))
    if not isinstance(found, dict):
        return 0
    return sum(
        _values(value)
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else 1 + (0 if name.startswith("metadata") else _values(value))
        for name, value in found.items()
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False))
async def test_any_query_is_answered_as_by_graphql_core(system: System, random: Random) -> None:
    asked = question(random, schema._schema, VALUES, without=BY_THE_CLOCK, depth=4)
    plan = PLANS.plan(asked.query)
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)

    before = system.statements
    theirs = await expected(system, asked)
    between = system.statements
    ours = await planned(system, plan, asked)

    assert_same(ours, theirs)
    counted = Cost(schema._schema, plan._definition, plan._fragments)
    assert _values(ours.data) <= counted.values(asked.variables)
    if not theirs.errors:
        assert system.statements - between <= between - before
