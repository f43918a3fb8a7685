"""createCommitOnBranch: what it makes, what it refuses, and that a refusal changes nothing."""

import base64
from pathlib import Path

import pytest

from sandbox.github import Fault, GitHub, Identity
from tests.sandbox.github.client import COMMIT, Client, commit_input, git


async def test_a_commit_has_one_parent_a_message_and_github_as_its_committer(
    client: Client, path: Path, github: GitHub
) -> None:
    before = github.head
    answer = await client.commit({"a/b/c.md": b"text"})
    oid = answer.commit_oid
    assert answer.data["createCommitOnBranch"]["ref"] == {"name": "main", "target": {"oid": oid}}
    shown = await git(path, "show", "-s", "--format=%P|%an|%cn|%ce|%B", "main")
    assert shown == f"{before}|Annoris Sandbox|GitHub|noreply@github.com|Write\n\nbecause"
    assert await git(path, "show", "main:a/b/c.md") == "text"
    assert await git(path, "fsck", "--strict") == ""


async def test_the_author_is_the_owner_of_the_token(client: Client, github: GitHub) -> None:
    github.tokens["bob"] = Identity("bob", name="Bob", email="bob@example.com", id=7)
    oid = (await client.commit({"a.md": b"1"}, token="bob")).commit_oid
    answer = await client.repository(
        f'object(oid: "{oid}") {{ ... on Commit {{ author {{ name email }} committer {{ email }} '
        "signature { isValid state wasSignedByGitHub } committedViaWeb } }"
    )
    assert answer.repository["object"] == {
        "author": {"name": "Bob", "email": "bob@example.com"},
        "committer": {"email": "noreply@github.com"},
        "signature": {"isValid": True, "state": "VALID", "wasSignedByGitHub": True},
        "committedViaWeb": True,
    }


async def test_content_is_stored_byte_for_byte(client: Client) -> None:
    content = bytes(range(256)) * 3
    await client.commit({"bytes.bin": content})
    answer = await client.repository('object(expression: "main:bytes.bin") { oid }')
    async with client.session.get(
        f"{client.github.url}/repos/annoris/documents/git/blobs/"
        f"{answer.repository['object']['oid']}",
        headers={**client.headers(), "Accept": "application/vnd.github.raw+json"},
    ) as response:
        assert await response.read() == content


async def test_overwritten_files_keep_their_mode_and_new_ones_are_plain(
    client: Client, path: Path
) -> None:
    await client.commit({"tools/run.sh": b"#!/bin/bash\n", "tools/new.sh": b"x"})
    listed = await git(path, "ls-tree", "--format=%(objectmode) %(path)", "main", "tools/")
    assert listed.splitlines() == ["100644 tools/new.sh", "100755 tools/run.sh"]


async def test_deleting_the_last_file_of_a_folder_removes_the_folder(
    client: Client, path: Path
) -> None:
    await client.commit(deletions=["tools/run.sh"])
    assert "tools" not in (await git(path, "ls-tree", "-r", "-t", "--name-only", "main"))


async def test_a_rename_is_a_deletion_and_an_addition(client: Client, path: Path) -> None:
    await client.commit({"docs/readme.md": b"# documents\n"}, ["README.md"])
    names = (await git(path, "ls-tree", "-r", "--name-only", "main")).split()
    assert "docs/readme.md" in names
    assert "README.md" not in names


async def test_a_file_may_take_the_place_of_a_folder_that_the_commit_empties(
    client: Client, path: Path
) -> None:
    await client.commit({"tools": b"now a file"}, ["tools/run.sh"])
    assert await git(path, "show", "main:tools") == "now a file"
    await client.commit({"tools/run.sh": b"a folder again"}, ["tools"])
    assert await git(path, "show", "main:tools/run.sh") == "a folder again"
    assert await git(path, "fsck", "--strict") == ""


@pytest.mark.parametrize("changes", [None, {}, {"additions": []}])
async def test_a_commit_without_changes_succeeds(
    client: Client, github: GitHub, changes: object
) -> None:
    before = github.head
    answer = await client.commit(fileChanges=changes)
    assert answer.commit_oid == github.head != before


async def test_the_message_is_headline_blank_line_body(client: Client, path: Path) -> None:
    await client.commit(message={"headline": "Only a headline"})
    assert await git(path, "show", "-s", "--format=%B", "main") == "Only a headline"


@pytest.mark.parametrize("name", ["main", "refs/heads/main"])
async def test_the_branch_may_be_named_shortly_fully_or_by_its_id(
    client: Client, name: str
) -> None:
    branch = {"repositoryNameWithOwner": "annoris/documents", "branchName": name}
    assert (await client.commit({"a.md": b"1"}, branch=branch)).commit_oid
    answer = await client.repository("defaultBranchRef { id }")
    branch = {"id": answer.repository["defaultBranchRef"]["id"]}
    assert (await client.commit({"b.md": b"1"}, branch=branch)).commit_oid


async def test_client_mutation_ids_are_echoed_and_do_not_deduplicate(client: Client) -> None:
    query = COMMIT.replace("commit {", "clientMutationId commit {")
    landed = set()
    for _ in range(2):
        given = commit_input(client.github.head, {"a.md": b"1"}, clientMutationId="same")
        answer = await client.ask(query, {"input": given})
        assert answer.data["createCommitOnBranch"]["clientMutationId"] == "same"
        landed.add(answer.commit_oid)
    assert len(landed) == 2


# --- refusals: each leaves the branch where it was ------------------------------------------


async def refused(client: Client, answer_to: object, type_: str | None, words: str) -> None:
    """The error is as recorded in type and words, at the mutation's path, with null data."""
    before = client.github.head
    answer = await answer_to  # type: ignore[misc]
    assert answer.status == 200
    assert answer.data == {"createCommitOnBranch": None}
    assert answer.error["path"] == ["createCommitOnBranch"]
    assert answer.error["locations"]
    assert answer.error.get("type") == type_
    assert words in answer.error["message"]
    assert client.github.head == before


async def test_a_stale_head_is_refused_with_two_spaces(client: Client) -> None:
    old = await client.head()
    await client.commit({"a.md": b"1"})
    await refused(
        client,
        client.commit({"b.md": b"2"}, head=old),
        "STALE_DATA",
        f'Expected branch to point to "{old}" but it did not.  Pull and try again.',
    )


async def test_an_unknown_head_is_not_found(client: Client) -> None:
    await refused(
        client,
        client.commit({"a.md": b"1"}, head="0" * 40),
        "NOT_FOUND",
        f"No commit exists with specified expectedHeadOid '{'0' * 40}'.",
    )


async def test_a_branch_that_does_not_exist_is_not_made(client: Client) -> None:
    before = client.github.head
    branch = {"repositoryNameWithOwner": "annoris/documents", "branchName": "nope"}
    answer = await client.commit({"a.md": b"1"}, branch=branch)
    assert answer.error["message"] == "Branch not found"
    assert client.github.head == before


async def test_deleting_what_is_not_there_rejects_the_whole_commit(client: Client) -> None:
    before = client.github.head
    answer = await client.commit({"a.md": b"1"}, ["README.md", "nope.md"])
    assert (
        f"A path was requested for deletion which does not exist as of commit oid `{before}`"
        in answer.error["message"]
    )
    assert client.github.head == before
    assert await client.text("a.md") is None
    assert await client.text("README.md") is not None


@pytest.mark.parametrize("deletion", ["tools", "README.md/"])
async def test_deleting_a_folder_fails_in_a_way_that_looks_transient(
    client: Client, deletion: str
) -> None:
    await refused(client, client.commit(deletions=[deletion]), None, "Something went wrong")


@pytest.mark.parametrize(
    ("additions", "deletions"),
    [
        ({"tools": b"1"}, []),
        ({"README.md/below.md": b"1"}, []),
        ({"a": b"1", "a/b": b"2"}, []),
        ({"README.md": b"1"}, ["README.md"]),
        ({"/a.md": b"1"}, []),
        ({"a//b.md": b"1"}, []),
        ({"a/../b.md": b"1"}, []),
        ({".git/config": b"1"}, []),
        ({"": b"1"}, []),
    ],
)
async def test_paths_that_collide_or_are_malformed_are_refused(
    client: Client, additions: dict[str, bytes], deletions: list[str]
) -> None:
    before = client.github.head
    answer = await client.commit(additions, deletions)
    assert answer.data == {"createCommitOnBranch": None}
    assert answer.error["path"] == ["createCommitOnBranch"]
    assert client.github.head == before


async def test_a_token_that_may_only_read_is_forbidden(client: Client, github: GitHub) -> None:
    github.tokens["reader"] = Identity("reader", id=8, permission="READ")
    github.tokens["app"] = Identity("app", id=9, permission="READ", credential="integration")
    await refused(
        client,
        client.commit({"a.md": b"1"}, token="reader"),
        "FORBIDDEN",
        "Resource not accessible by personal access token",
    )
    await refused(
        client,
        client.commit({"a.md": b"1"}, token="app"),
        "FORBIDDEN",
        "Resource not accessible by integration",
    )


async def test_a_repository_that_is_not_there_is_not_found(client: Client) -> None:
    branch = {"repositoryNameWithOwner": "annoris/nope", "branchName": "main"}
    await refused(
        client,
        client.commit({"a.md": b"1"}, branch=branch),
        "NOT_FOUND",
        "Could not resolve to a Repository with the name 'annoris/nope'.",
    )


@pytest.mark.parametrize(
    ("fault", "type_", "words"),
    [
        (
            Fault(kind="branch_protection"),
            "BRANCH_PROTECTION_RULE_VIOLATION",
            "Changes must be made through a pull request",
        ),
        (
            Fault(kind="ruleset", message="3 of 3 required status checks are expected."),
            "FORBIDDEN",
            "Repository rule violations found\n\n3 of 3 required status checks are expected.\n\n",
        ),
        (
            Fault(kind="forbidden"),
            "FORBIDDEN",
            "Resource not accessible by personal access token",
        ),
        (Fault(kind="saml"), "FORBIDDEN", "Resource protected by organization SAML enforcement."),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
async def test_protection_refuses(client: Client, fault: Fault, type_: str, words: str) -> None:
    client.github.faults.add(fault)
    await refused(client, client.commit({"a.md": b"1"}), type_, words)
    assert fault.struck == 1


# --- variables: refused before anything runs ------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"expectedHeadOid": "abc"},
            'expectedHeadOid (Could not coerce value "abc" to GitObjectID)',
        ),
        ({"expectedHeadOid": None}, "expectedHeadOid (Expected value to not be null)"),
        ({"message": {"body": "x"}}, "message.headline (Expected value to not be null)"),
        ({"author": "me"}, "author (Field is not defined on CreateCommitOnBranchInput)"),
    ],
)
async def test_malformed_input_is_refused_as_a_variable(
    client: Client, changed: dict[str, object], words: str
) -> None:
    before = client.github.head
    given = {**commit_input(before, {"a.md": b"1"}), **changed}
    answer = await client.ask(COMMIT, {"input": given})
    assert answer.status == 200
    assert "data" not in answer.json
    assert "type" not in answer.error
    assert answer.error["message"] == (
        "Variable $input of type CreateCommitOnBranchInput! was provided invalid value for " + words
    )
    assert client.github.head == before


@pytest.mark.parametrize("contents", ["YQ", "Y-_=", "YQ==\n", " YQ==", "я"])
async def test_base64_must_be_padded_and_of_the_standard_alphabet(
    client: Client, contents: str
) -> None:
    changes = {"additions": [{"path": "a.md", "contents": contents}]}
    answer = await client.commit(fileChanges=changes)
    assert "Base64String" in answer.error["message"]
    assert "data" not in answer.json


async def test_both_special_letters_of_base64_arrive(client: Client) -> None:
    content = b"\xfb\xef\xff~?"
    encoded = base64.b64encode(content).decode()
    assert "+" in encoded
    assert "/" in encoded
    assert (await client.commit({"a.bin": content})).commit_oid
