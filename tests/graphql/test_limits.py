"""Too much is refused before anything is done, and what people ask for is not too much."""

from collections.abc import Mapping

import pytest
from graphql import GraphQLError, OperationDefinitionNode, get_introspection_query

from api.gateway.errors import LimitExceeded
from api.graphql.limits import (
    MAX_ALIASES,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_TOKENS,
    MAX_VALUES,
    Cost,
    read,
    shape_errors,
)
from api.graphql.plans import Plan, Plans, Ready
from api.graphql.schema import schema
from tests.graphql.running import run

PLANS = Plans(schema)
FRAGMENTS_OF_FRAGMENTS = 30


def refusal(query: str) -> LimitExceeded | None:
    """Why an operation is refused, whatever its variables are."""
    plan = PLANS.plan(query)
    if isinstance(plan, Plan):
        return None
    causes = [error.original_error for error in plan]
    assert all(isinstance(cause, LimitExceeded) for cause in causes), plan
    [cause] = causes
    assert isinstance(cause, LimitExceeded)
    return cause


def too_many(error: GraphQLError | LimitExceeded | None) -> tuple[object, object]:
    """The limit and the value that the refusal names, in its details and in its words."""
    cause = error.original_error if isinstance(error, GraphQLError) else error
    assert isinstance(cause, LimitExceeded)
    details = cause.details
    assert f"{details['maximum']:,} are allowed" in str(cause)
    value = details.get("value")
    if isinstance(value, int):
        assert f"has {value:,} " in str(cause)
    return details["limit"], value


def cost(query: str, variables: Mapping[str, object] | None = None) -> int:
    document = read(query)
    [operation] = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    return Cost(schema._schema, operation, {}).values(variables or {})


@pytest.mark.parametrize("tokens", [MAX_TOKENS, MAX_TOKENS + 1, 80_000])
def test_tokens(tokens: int) -> None:
    query = "{ node " + "id " * (tokens - 3) + "}"

    if tokens <= MAX_TOKENS:
        read(query)
    else:
        assert too_many(refusal(query)) == ("tokens", None)


def test_a_long_text_is_one_token() -> None:
    text = "слово " * 40_000
    document = read(
        f'mutation {{ createSession(input: {{title: "T", markdown: "{text}"}}) {{ cache }} }}'
    )

    assert not shape_errors(document)


@pytest.mark.parametrize("characters", [MAX_CHARACTERS, MAX_CHARACTERS + 1, 24_000_000])
def test_characters(characters: int) -> None:
    query = f"{{ __typename }} {'#' * (characters - 15)}"

    if characters <= MAX_CHARACTERS:
        assert refusal(query) is None
    else:
        assert too_many(refusal(query)) == ("characters", characters)


def test_of_many_mistakes_a_few_are_told() -> None:
    """What was meant is looked up for each of them."""
    plan = PLANS.plan("{ " + " ".join(f"nonsense{n}" for n in range(400)) + " }")

    assert not isinstance(plan, Plan)
    assert len(plan) == 11
    assert "Too many validation errors" in plan[-1].message


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 100])
def test_depth(levels: int) -> None:
    errors = shape_errors(read("{ a " * levels + "}" * levels))

    if levels <= MAX_DEPTH:
        assert not errors
    else:
        assert [too_many(error) for error in errors] == [("depth", levels)]


@pytest.mark.parametrize("levels", [240, 600])
def test_what_is_too_deep_to_be_read_is_too_deep(levels: int) -> None:
    assert too_many(refusal("{ a " * levels + "}" * levels)) == ("depth", None)


@pytest.mark.parametrize("aliases", [MAX_ALIASES, MAX_ALIASES + 1])
def test_aliases(aliases: int) -> None:
    query = "{ cacheStatus {" + " ".join(f"a{n}: head" for n in range(aliases)) + "} }"

    if aliases <= MAX_ALIASES:
        assert refusal(query) is None
    else:
        assert too_many(refusal(query)) == ("aliases", aliases)


@pytest.mark.parametrize("directives", [MAX_DIRECTIVES, MAX_DIRECTIVES + 1])
def test_directives(directives: int) -> None:
    query = "{ cacheStatus { " + "head @skip(if: false) " * directives + "} }"

    if directives <= MAX_DIRECTIVES:
        assert refusal(query) is None
    else:
        assert too_many(refusal(query)) == ("directives", directives)


def test_directives_count_wherever_they_stand() -> None:
    half = "@skip(if: false) " * (MAX_DIRECTIVES // 2)
    query = (
        f"{{ ... {half} {{ cacheStatus {{ ...f {half} @skip(if: true) }} }} }} "
        "fragment f on CacheStatus { head }"
    )

    assert ("directives", MAX_DIRECTIVES + 1) in map(too_many, shape_errors(read(query)))


def test_fragments_count_wherever_they_are_used() -> None:
    """Each uses the next one twice: a few lines, and more aliases than there are atoms."""
    count = FRAGMENTS_OF_FRAGMENTS
    query = "{ sessions { nodes { ...f0 } } }" + "".join(
        f" fragment f{n} on Session {{ a{n}: title ...f{n + 1} ...f{n + 1} }}" for n in range(count)
    )
    query += f" fragment f{count} on Session {{ title }}"

    assert too_many(refusal(query)) == ("aliases", 2**count - 1)


def test_fragments_within_each_other_are_left_to_those_who_refuse_them() -> None:
    query = (
        "{ sessions { nodes { ...a } } } "
        "fragment a on Session { title ...b } fragment b on Session { path ...a ...none }"
    )
    plan = PLANS.plan(query)

    assert not isinstance(plan, Plan)
    assert not any(isinstance(error.original_error, LimitExceeded) for error in plan)


def test_however_fragments_and_fields_are_nested_they_are_counted() -> None:
    """As deep as the tokens allow, which is not as deep as Python's stack."""
    chain = "{ sessions { nodes { ...f0 } } }" + "".join(
        f" fragment f{n} on Session {{ ...f{n + 1} }}" for n in range(50)
    )
    levels = "{ ...f0 }" + "".join(
        f" fragment f{n} on Session {{ " + "a { " * 75 + f"...f{n + 1}" + " }" * 76
        for n in range(2)
    )

    assert not shape_errors(read(chain))
    assert [too_many(error) for error in shape_errors(read(levels))] == [("depth", 2 * 75)]


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ('{ session(id: "a") { title path } }', 3),
        ("{ sessions { totalCount } }", 2),
        ("{ sessions { nodes { title path } } }", 1 + 20 * 3),
        ("{ sessions(first: 5) { nodes { title path } totalCount } }", 1 + 5 * 3 + 1),
        ("{ sessions(last: 7) { edges { cursor node { title } } } }", 1 + 7 * (1 + 1 + 2)),
        ("{ sessions(first: 0) { nodes { title } } }", 1),
        ("{ sessions(first: 100000) { nodes { title } } }", 1 + 100 * 2),
        ("{ sessions(first: -5) { nodes { title } } }", 1),
        (
            "{ projects(first: 10) { nodes { name sessions(first: 3) { nodes { title } } } } }",
            1 + 10 * (1 + 1 + 1 + 3 * 2),
        ),
        ("{ a: sessions { totalCount } b: sessions { totalCount } }", 4),
        ("{ node(id: 1) { ... on Session { title } ... on Project { name } } }", 3),
        ("{ __schema { types { name } } }", 5_000),
        ('{ __type(name: "Session") { name } __typename }', 501),
        (
            "mutation { commitDocuments(operations: []) { documents { ... on Session { id } } } }",
            1 + 100 * 2,
        ),
    ],
)
def test_values_are_counted_as_many_as_there_can_be(query: str, values: int) -> None:
    assert cost(query) == values


def test_the_sizes_of_pages_are_those_of_the_variables() -> None:
    query = "query ($n: Int) { sessions(first: $n) { nodes { title } } }"

    assert cost(query, {"n": 3}) == 1 + 3 * 2
    assert cost(query, {"n": None}) == cost(query, {}) == 1 + 20 * 2
    assert cost(query, {"n": 10**6}) == cost(query, {"n": 100})


async def test_lists_within_lists_are_refused_for_the_sizes_that_are_too_much() -> None:
    """Before anything is asked: there is not even anything that could be."""
    plan = PLANS.plan(
        "query ($n: Int = 100) { projects(first: $n) { nodes "
        "{ sessions(first: $n) { nodes { title project { name } } } } } }"
    )
    assert isinstance(plan, Plan)
    for variables in ({"n": 100}, {}):
        result = await run(plan, variables, None)

        assert result.data is None
        assert result.errors
        [error] = result.errors
        limit, value = too_many(error)
        assert limit == "values"
        assert isinstance(value, int)
        assert value > 100 * 100


async def test_a_mutation_that_answers_too_much_is_not_carried_out() -> None:
    """There is nothing that could carry it out."""
    page = "sessions(first: 100) { nodes { title path } }"
    plan = PLANS.plan(
        'mutation ($n: Int) { createProject(input: {name: "P", markdown: "x"}) '
        f"{{ project {{ sessions(first: $n) {{ nodes {{ project {{ {page} }} }} }} }} }} }}"
    )
    assert isinstance(plan, Plan)
    result = await run(plan, {"n": 1}, None)

    assert result.data is None
    assert [too_many(error)[0] for error in result.errors or ()] == ["values"]


def price(query: str, variables: Mapping[str, object] | None = None) -> int:
    plan = PLANS.plan(query)
    assert isinstance(plan, Plan), plan
    ready = plan.ready(variables)
    assert isinstance(ready, Ready), ready
    return ready.price


def test_what_is_asked_for_every_day_has_no_price_beside_being_a_request() -> None:
    assert price("{ sessions(first: 100) { totalCount nodes { id title tags excerpt } } }") == 0
    assert price('mutation { deleteSession(input: {id: "x"}) { id } }') == 0


@pytest.mark.parametrize(
    ("default", "variables", "size"),
    [
        ("", {"n": 3}, 3),
        ("", {"n": 99.0}, 99),
        ("", {}, 20),
        (" = 70", {}, 70),
        (" = 70", {"n": None}, 20),
        (" = 70", {"n": 2}, 2),
    ],
)
@pytest.mark.parametrize("kind", ["query", "mutation"])
def test_the_price_is_that_of_the_sizes_that_there_will_be(
    kind: str, default: str, variables: dict[str, object], size: int
) -> None:
    sessions = "sessions(first: $n) { nodes { id title status } }"
    if kind == "query":
        query = f"query ($n: Int{default}) {{ projects(first: 10) {{ nodes {{ {sessions} }} }} }}"
        expected = 1 + 10 * (1 + 1 + size * 4)
    else:
        lists = " ".join(f"l{n}: {sessions}" for n in range(8))
        query = (
            f'mutation ($n: Int{default}) {{ createProject(input: {{name: "P", '
            f'markdown: "x"}}) {{ project {{ {lists} }} }} }}'
        )
        expected = 1 + 1 + 8 * (1 + size * 4)

    assert price(query, variables) == expected


def test_the_schema_has_its_price_and_is_told_once_or_thrice() -> None:
    introspection = get_introspection_query(input_value_deprecation=True)
    schema = "__schema { types { name } }"

    assert price(introspection) >= 5_000
    assert refusal(f"{{ a: {schema} b: {schema} c: {schema} }}") is None
    plan = PLANS.plan("{" + " ".join(f"a{n}: {schema}" for n in range(5)) + "}")
    assert isinstance(plan, Plan)
    ready = plan.ready({})
    assert not isinstance(ready, Ready)
    assert too_many(ready[0]) == ("values", 25_000)


def test_tools_may_ask_for_the_schema() -> None:
    for deprecated in (True, False):
        query = get_introspection_query(
            descriptions=True, schema_description=True, input_value_deprecation=deprecated
        )
        assert refusal(query) is None


def test_the_schema_is_not_told_over_and_over() -> None:
    deep = "fields { type { " * 6 + "name" + " } }" * 6
    plan = PLANS.plan(f"{{ __schema {{ types {{ {deep} }} }} }}")

    assert not isinstance(plan, Plan)
    assert "introspection depth" in plan[0].message


def test_what_people_ask_for_is_far_from_any_limit() -> None:
    fields = "id path title status priority agent occurredAt tags revision markdown excerpt hot"
    everything = f"sessions(first: 100) {{ totalCount edges {{ cursor node {{ {fields} }} }} }}"

    assert cost(f"{{ {everything} }}") < MAX_VALUES / 10
