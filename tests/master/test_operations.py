"""Every operation that we send is valid by the schema that GitHub publishes."""

import pytest
from graphql import (
    DocumentNode,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    print_ast,
    validate,
)

from api.master import operations
from api.master.master import BLOBS_A_REQUEST, TREES_A_REQUEST
from tests.corpus import SHARED

OPERATIONS = {
    **{
        name: document
        for name, document in vars(operations).items()
        if isinstance(document, DocumentNode)
    },
    "one tree": operations.trees(1),
    "a request of trees": operations.trees(TREES_A_REQUEST),
    "one blob": operations.blobs(1),
    "a request of blobs": operations.blobs(BLOBS_A_REQUEST),
    "a head": operations.head_with(()),
    "a head with files": operations.head_with((False, True)),
    "files of a commit": operations.commit_with(2),
    "a commit": operations.commit(0),
    "a commit that asks for oids": operations.commit(7),
}


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    published = SHARED / "github" / "schema.graphql"
    if not published.is_file():
        pytest.skip("GitHub's published schema is not here (../shared/github/schema.graphql)")
    return build_schema(published.read_text(), assume_valid=True, no_location=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_is_valid(schema: GraphQLSchema, name: str) -> None:
    assert validate(schema, OPERATIONS[name]) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_is_one_with_a_name(name: str) -> None:
    """GitHub takes one operation a request; its name is what logs and the stand-in know it by."""
    [operation] = OPERATIONS[name].definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None


def test_a_commit_asks_for_nothing_that_could_fail_for_want_of_rights() -> None:
    """Fields of the signature are refused to some tokens, after the commit has landed."""
    asked = print_ast(operations.commit(1))
    assert "signature" not in asked
    assert "history" not in asked
