"""What the stand-in declares is what GitHub publishes."""

from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
)

from sandbox.github import catalogue, schema
from tests.sandbox.github.client import Client

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT.parent / "shared" / "github" / "schema.graphql"


@pytest.fixture(scope="module")
def published() -> GraphQLSchema:
    if not PUBLISHED.is_file():
        pytest.skip("GitHub's published schema is not at ../shared/github/schema.graphql")
    return build_schema(PUBLISHED.read_text(encoding="utf-8"), assume_valid=True)


def described(type_: object) -> dict[str, str]:
    """Every fact of a type as text: its fields, arguments, defaults, values and interfaces."""
    facts = {"kind": type(type_).__name__}
    if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
        for interface in type_.interfaces:
            facts[f"implements {interface.name}"] = ""
        for name, field in type_.fields.items():
            facts[name] = str(field.type)
            for argument_name, argument in field.args.items():
                facts[f"{name}({argument_name})"] = f"{argument.type} = {argument.default_value}"
    elif isinstance(type_, GraphQLInputObjectType):
        for name, input_field in type_.fields.items():
            facts[name] = f"{input_field.type} = {input_field.default_value}"
    elif isinstance(type_, GraphQLEnumType):
        facts.update(dict.fromkeys(type_.values, "value"))
    return facts


def test_everything_declared_agrees_with_what_github_publishes(published: GraphQLSchema) -> None:
    declared = build_schema(schema.SDL.read_text(encoding="utf-8"))
    wrong = []
    for name, type_ in declared.type_map.items():
        if name.startswith("__"):
            continue
        theirs = described(published.type_map.get(name))
        wrong += [
            f"{name}.{fact}: {value} here, {theirs.get(fact)} at GitHub"
            for fact, value in described(type_).items()
            if theirs.get(fact) != value
        ]
    assert wrong == []


def test_no_argument_of_a_declared_field_is_left_out(published: GraphQLSchema) -> None:
    """Left out, an argument that GitHub takes would be refused here."""
    declared = build_schema(schema.SDL.read_text(encoding="utf-8"))
    missing = []
    for name, type_ in declared.type_map.items():
        theirs = published.type_map.get(name)
        if isinstance(type_, GraphQLObjectType) and isinstance(theirs, GraphQLObjectType):
            for field_name, field in type_.fields.items():
                left_out = theirs.fields[field_name].args.keys() - field.args.keys()
                missing += [f"{name}.{field_name}({argument})" for argument in left_out]
        if isinstance(type_, GraphQLInputObjectType | GraphQLEnumType) and theirs is not None:
            missing += [f"{name}.{key}" for key in described(theirs).keys() - described(type_)]
    assert missing == []


async def test_introspection_works_with_a_token(client: Client) -> None:
    answer = await client.ask("{ __schema { queryType { name } mutationType { name } } }")
    assert answer.data["__schema"]["mutationType"] == {"name": "Mutation"}


def test_every_message_says_whether_it_was_recorded_or_assumed() -> None:
    assert len(catalogue.ALL) > 40
    assert {message.basis for message in catalogue.ALL.values()} == set(catalogue.Basis)
