"""The schema holds what agents rely on, and the file in the repository is the schema."""

import subprocess
import sys
from pathlib import Path

import pytest
from graphql import GraphQLSchema, build_schema, print_type
from graphql.type import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
)

from api.graphql.schema import schema
from tests.corpus import SHARED

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ours() -> GraphQLSchema:
    return build_schema(schema.as_str())


@pytest.fixture(scope="module")
def contract() -> GraphQLSchema:
    file = SHARED / "contract.graphql"
    if not file.is_file():
        pytest.skip("the contract is not here (../shared/contract.graphql)")
    return build_schema(_complete(file.read_text()), assume_valid=True)


def test_the_schema_in_the_repository_is_the_schema_of_the_code() -> None:
    assert (ROOT / "schema.graphql").read_text() == schema.as_str() + "\n"


IS_ONE_OF = """
from api.graphql.schema import schema
answer = schema.execute_sync('''{
  __type(name: "Session") { isOneOf fields { type { isOneOf ofType { isOneOf } } } }
  input: __type(name: "DocumentOperation") { isOneOf }
}''')
assert answer.errors is None, answer.errors
assert answer.data["input"] == {"isOneOf": True}
assert answer.data["__type"]["isOneOf"] is False
"""


def test_whatever_kind_of_type_may_be_asked_whether_it_is_one_of() -> None:
    """In a process without other schemas: the last one has its way with the types of types."""
    subprocess.run([sys.executable, "-c", IS_ONE_OF], cwd=ROOT, check=True)


def test_every_type_and_field_of_the_contract_is_there_with_its_type(
    ours: GraphQLSchema, contract: GraphQLSchema
) -> None:
    missing = [
        difference
        for name, kind in contract.type_map.items()
        if not name.startswith("__")
        for difference in _differences(name, kind, ours)
    ]
    assert missing == []


def test_every_addition_of_ours_is_described(ours: GraphQLSchema) -> None:
    undescribed = [
        name
        for name, kind in ours.type_map.items()
        if not name.startswith("__")
        and name not in {"String", "Int", "Float", "Boolean", "ID", "Query", "Mutation"}
        and not kind.description
    ]
    assert undescribed == []


def _differences(name: str, kind: object, ours: GraphQLSchema) -> list[str]:
    found = ours.type_map.get(name)
    if found is None:
        return [name]
    if isinstance(kind, GraphQLEnumType) and isinstance(found, GraphQLEnumType):
        return [f"{name}.{value}" for value in kind.values if value not in found.values]
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
        assert isinstance(found, type(kind)), print_type(found)
        return [
            f"{name}.{field}"
            for field, definition in kind.fields.items()
            if field not in found.fields
            or str(found.fields[field].type) != str(definition.type)
            or _arguments(definition) - _arguments(found.fields[field])
        ]
    return []


def _arguments(field: object) -> set[str]:
    arguments = getattr(field, "args", {})
    return {f"{name}: {argument.type}" for name, argument in arguments.items()}


def _complete(text: str) -> str:
    """The contract as a schema: it leaves out what it says in comments."""
    shared = text.split("interface Document implements Node {")[1].split("}", maxsplit=1)[0]
    text = text.replace("  # ... all of Document\n", shared)
    mutations = ""
    for name in ("Session", "Project", "Priority"):
        mutations += (
            f"create{name}(input: Create{name}Input!): {name}Payload "
            f"update{name}(input: Update{name}Input!): {name}Payload "
            f"delete{name}(input: DeleteDocumentInput!): DeletePayload "
        )
        if name != "Session":
            text += (
                f"type {name}Payload {{ {name.lower()}: {name}! commit: Commit! "
                "cache: CacheOutcome! }\n"
            )
        text += (
            f"type {name}Edge {{ cursor: String! node: {name}! }}\n"
            f"type {name}Connection {{ edges: [{name}Edge!]! nodes: [{name}!]! "
            "pageInfo: PageInfo! totalCount: Int! provenance: Provenance! }\n"
        )
    return text + (
        "type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! "
        "startCursor: String endCursor: String }\n"
        "input CreateProjectInput { name: String! markdown: String! path: String status: String "
        "rank: Int message: String idempotencyKey: String }\n"
        "input UpdateProjectInput { id: ID! expectedRevision: GitObjectID name: String "
        "markdown: String status: String rank: Int message: String idempotencyKey: String }\n"
        "input CreatePriorityInput { title: String! markdown: String! path: String rank: Int "
        "status: String project: ID dueOn: Date message: String idempotencyKey: String }\n"
        "input UpdatePriorityInput { id: ID! expectedRevision: GitObjectID title: String "
        "markdown: String rank: Int status: String project: ID dueOn: Date message: String "
        "idempotencyKey: String }\n"
        f"type Mutation {{ {mutations} }}\n"
    )
