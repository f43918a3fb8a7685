"""createRef, updateRef and deleteRef: enough to offer a change on a branch of its own."""

from pathlib import Path

from sandbox.github import GitHub, Identity
from tests.sandbox.github.client import Answer, Client, git

CREATE = """mutation ($repository: ID!, $name: String!, $oid: GitObjectID!) {
  createRef(input: {repositoryId: $repository, name: $name, oid: $oid}) { ref { id name } }
}"""
UPDATE = """mutation ($ref: ID!, $oid: GitObjectID!, $force: Boolean) {
  updateRef(input: {refId: $ref, oid: $oid, force: $force}) { ref { target { oid } } }
}"""
DELETE = "mutation ($ref: ID!) { deleteRef(input: {refId: $ref}) { clientMutationId } }"


async def create(client: Client, name: str, token: str | None = None) -> Answer:
    repository = (await client.repository("id")).repository["id"]
    variables = {"repository": repository, "name": name, "oid": client.github.head}
    return await client.ask(CREATE, variables, token=token)


async def test_a_branch_is_made_committed_to_and_deleted(client: Client, path: Path) -> None:
    made = await create(client, "refs/heads/side")
    ref = made.data["createRef"]["ref"]
    assert ref["name"] == "side"
    branch = {"repositoryNameWithOwner": "annoris/documents", "branchName": "side"}
    oid = (await client.commit({"a.md": b"1"}, branch=branch)).commit_oid
    assert await git(path, "rev-parse", "side") == oid
    assert client.github.head != oid
    assert (await client.ask(DELETE, {"ref": ref["id"]})).data == {
        "deleteRef": {"clientMutationId": None}
    }
    assert (await client.repository('ref(qualifiedName: "side") { id }')).repository["ref"] is None


async def test_a_branch_that_exists_is_not_made_again(client: Client) -> None:
    answer = await create(client, "refs/heads/main")
    assert answer.data == {"createRef": None}
    assert answer.error["type"] == "UNPROCESSABLE"
    assert (
        answer.error["message"] == 'A ref named "refs/heads/main" already exists in the repository.'
    )


async def test_a_branch_moves_forward_and_only_by_force_elsewhere(
    client: Client, github: GitHub
) -> None:
    old = github.head
    new = (await client.commit({"a.md": b"1"})).commit_oid
    answer = await client.repository("defaultBranchRef { id }")
    ref = answer.repository["defaultBranchRef"]["id"]
    refused = await client.ask(UPDATE, {"ref": ref, "oid": old})
    assert refused.data == {"updateRef": None}
    assert github.head == new
    assert not (await client.ask(UPDATE, {"ref": ref, "oid": old, "force": True})).errors
    assert github.head == old
    assert not (await client.ask(UPDATE, {"ref": ref, "oid": new})).errors
    assert github.head == new


async def test_a_reader_makes_no_branches(client: Client, github: GitHub) -> None:
    github.tokens["reader"] = Identity("reader", id=8, permission="READ")
    answer = await create(client, "refs/heads/side", token="reader")
    assert answer.error["type"] == "FORBIDDEN"
