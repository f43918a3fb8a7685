"""Reads: what is there, what is null without an error, and what is an error."""

import asyncio
import base64
import hashlib
from pathlib import Path

import pygit2
import pytest

from sandbox.github import GitHub, Identity
from tests.sandbox.github.client import Client, git
from tests.sandbox.github.conftest import FILES

TREE = """
object(expression: "{expression}") {{ ... on Tree {{ oid entries {{
  name path mode type oid size extension nameRaw pathRaw object {{ oid __typename }}
}} }} }}
"""


async def entries(client: Client, expression: str) -> dict[str, dict[str, object]]:
    answer = await client.repository(TREE.format(expression=expression))
    return {entry["name"]: entry for entry in answer.repository["object"]["entries"]}


def blob_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - git's


async def test_a_repository_describes_itself(client: Client) -> None:
    answer = await client.repository(
        "name nameWithOwner isEmpty isArchived viewerPermission defaultBranchRef { name prefix }"
    )
    assert answer.repository == {
        "name": "documents",
        "nameWithOwner": "annoris/documents",
        "isEmpty": False,
        "isArchived": False,
        "viewerPermission": "WRITE",
        "defaultBranchRef": {"name": "main", "prefix": "refs/heads/"},
    }


async def test_a_tree_lists_its_entries_with_decimal_modes(client: Client) -> None:
    root = await entries(client, "HEAD:")
    assert {name: entry["mode"] for name, entry in root.items()} == {
        "README.md": 33188,
        "autosaves": 16384,
        "latest.md": 40960,
        "tools": 16384,
    }
    script = (await entries(client, "main:tools"))["run.sh"]
    assert script["mode"] == 33261
    assert script["path"] == "tools/run.sh"
    assert script["extension"] == ".sh"
    assert script["size"] == len(FILES["tools/run.sh"])
    assert script["oid"] == blob_oid(FILES["tools/run.sh"])


async def test_a_blob_is_named_by_the_hash_of_its_content(client: Client) -> None:
    content = FILES["autosaves/2025/10/autosave_2025-10-21_two.md"]
    answer = await client.repository(
        f'object(oid: "{blob_oid(content)}") '
        "{ oid abbreviatedOid ... on Blob { text byteSize isBinary isTruncated } }"
    )
    assert answer.repository["object"] == {
        "oid": blob_oid(content),
        "abbreviatedOid": blob_oid(content)[:7],
        "text": content.decode(),
        "byteSize": len(content),
        "isBinary": False,
        "isTruncated": False,
    }


@pytest.mark.parametrize(
    "expression",
    ["main:nope.md", "nope:README.md", "main:README.md/below", "0" * 40, "nope", "main:tools//x"],
)
async def test_an_expression_that_leads_nowhere_is_null_without_an_error(
    client: Client, expression: str
) -> None:
    answer = await client.repository(f'object(expression: "{expression}") {{ oid }}')
    assert answer.repository["object"] is None


async def test_an_unknown_oid_or_ref_is_null_without_an_error(client: Client) -> None:
    answer = await client.repository(
        f'object(oid: "{"1" * 40}") {{ oid }} ref(qualifiedName: "refs/heads/nope") {{ name }}'
    )
    assert answer.repository == {"object": None, "ref": None}


async def test_a_missing_file_of_a_commit_is_null_with_an_error(client: Client) -> None:
    answer = await client.repository(
        'object(expression: "main") { ... on Commit { file(path: "nope.md") { oid } } }'
    )
    assert answer.data["repository"]["object"] == {"file": None}
    assert answer.error["type"] == "NOT_FOUND"
    assert answer.error["path"] == ["repository", "object", "file"]
    assert answer.error["message"] == "Could not resolve file for path 'nope.md'."


async def test_a_repository_that_cannot_be_seen_is_not_found(
    client: Client, github: GitHub
) -> None:
    github.tokens["stranger"] = Identity("stranger", id=5, permission=None)
    query = 'query { repository(owner: "annoris", name: "documents") { id } }'
    answer = await client.ask(query, token="stranger")
    assert answer.status == 200
    assert answer.data == {"repository": None}
    assert answer.error["type"] == "NOT_FOUND"
    assert (
        answer.error["message"]
        == "Could not resolve to a Repository with the name 'annoris/documents'."
    )


async def test_text_is_cut_at_512000_bytes_even_within_a_character(client: Client) -> None:
    content = b"x" + "я".encode() * 300_000
    await client.commit({"big.md": content})
    answer = await client.repository(
        'object(expression: "main:big.md") { oid ... on Blob { text byteSize isTruncated } }'
    )
    blob = answer.repository["object"]
    assert blob["isTruncated"] is True
    assert blob["byteSize"] == len(content)
    assert blob["oid"] == blob_oid(content)
    assert blob["text"] == content[:512_000].decode("utf-8", "replace")
    assert blob["text"].endswith("\ufffd")


async def test_a_binary_blob_has_no_text(client: Client) -> None:
    await client.commit({"a.bin": b"\0\1\2", "empty.md": b""})
    answer = await client.repository(
        'a: object(expression: "main:a.bin") { ... on Blob { text isBinary } }'
        'b: object(expression: "main:empty.md") { ... on Blob { text isBinary } }'
    )
    assert answer.repository["a"] == {"text": None, "isBinary": True}
    assert answer.repository["b"] == {"text": "", "isBinary": False}


async def test_a_file_over_10_mb_is_an_error(client: Client) -> None:
    await client.commit({"huge.md": b"x" * (10 * 1024 * 1024 + 1)})
    answer = await client.repository(
        'object(expression: "main") { ... on Commit { file(path: "huge.md") { oid } } }'
    )
    assert answer.error["message"] == "Could not resolve file over 10mb."


async def test_line_endings_and_byte_order_marks_pass_through(client: Client) -> None:
    content = b"\xef\xbb\xbf# Title\r\nno newline at the end"
    await client.commit({"crlf.md": content})
    assert await client.text("crlf.md") == content.decode("utf-8")


async def test_a_symlink_is_a_blob_of_its_target(client: Client) -> None:
    assert await client.text("latest.md") == "README.md"


async def test_names_that_are_not_utf_8_are_given_raw(client: Client, path: Path) -> None:
    repository = pygit2.Repository(str(path))
    blob = repository.create_blob(b"x")
    raw = b"\xd4.md"
    tree = repository.odb.write(
        pygit2.enums.ObjectType.TREE, b"100644 " + raw + b"\0" + bytes(blob.raw)
    )
    answer = await client.repository(
        f'object(oid: "{tree}") {{ ... on Tree {{ entries {{ name nameRaw pathRaw }} }} }}'
    )
    (entry,) = answer.repository["object"]["entries"]
    assert base64.b64decode(entry["nameRaw"]) == raw
    assert base64.b64decode(entry["pathRaw"]) == raw
    assert entry["name"] == "\ufffd.md"


async def test_a_submodule_is_an_entry_without_an_object(client: Client, path: Path) -> None:
    oid = "1" * 40
    process = await asyncio.create_subprocess_exec(
        "git",
        "mktree",
        "--missing",
        cwd=path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(f"160000 commit {oid}\tvendor\n".encode())
    answer = await client.repository(
        f'object(oid: "{output.decode().strip()}") {{ ... on Tree {{ entries {{ '
        "mode type oid size object { oid } submodule { subprojectCommitOid } } } }"
    )
    assert answer.repository["object"]["entries"] == [
        {
            "mode": 57344,
            "type": "commit",
            "oid": oid,
            "size": 0,
            "object": None,
            "submodule": {"subprojectCommitOid": oid},
        }
    ]


async def test_history_is_what_git_log_says(client: Client, path: Path) -> None:
    for number in range(5):
        await client.commit({"README.md" if number % 2 else "other.md": b"%d" % number})
    for arguments, log in (("", []), (', path: "README.md"', ["--", "README.md"])):
        answer = await client.repository(
            'object(expression: "main") { ... on Commit { '
            f"history(first: 100{arguments}) {{ totalCount nodes {{ oid }} }} }} }}"
        )
        history = answer.repository["object"]["history"]
        expected = (await git(path, "log", "--format=%H", "main", *log)).split()
        assert [node["oid"] for node in history["nodes"]] == expected
        assert history["totalCount"] == len(expected)


async def test_history_is_read_page_by_page(client: Client, path: Path) -> None:
    for number in range(4):
        await client.commit({"a.md": b"%d" % number})
    seen: list[str] = []
    after = "null"
    for _ in range(3):
        answer = await client.repository(
            'object(expression: "main") { ... on Commit { '
            f"history(first: 2, after: {after}) "
            "{ nodes { oid } pageInfo { endCursor hasNextPage hasPreviousPage } } } }"
        )
        page = answer.repository["object"]["history"]
        assert page["pageInfo"]["hasPreviousPage"] is bool(seen)
        seen += [node["oid"] for node in page["nodes"]]
        after = f'"{page["pageInfo"]["endCursor"]}"'
    assert page["pageInfo"]["hasNextPage"] is False
    assert seen == (await git(path, "log", "--format=%H", "main")).split()


async def test_dates_of_git_actors_keep_their_offset(client: Client, tmp_path: Path) -> None:
    await git(tmp_path, "clone", "-q", client.github.clone_url, "clone")
    clone = tmp_path / "clone"
    when = "2025-11-04T10:00:00+03:00"
    await git(clone, "commit", "-q", "--allow-empty", "-m", "Subject\n\nBody", f"--date={when}")
    await git(clone, "push", "-q")
    answer = await client.repository(
        'object(expression: "main") { ... on Commit { '
        "messageHeadline messageBody authoredDate author { name email date user { login } } } }"
    )
    assert answer.repository["object"] == {
        "messageHeadline": "Subject",
        "messageBody": "Body",
        "authoredDate": "2025-11-04T07:00:00Z",
        "author": {
            "name": "Ann",
            "email": "ann@example.com",
            "date": when,
            "user": None,
        },
    }


async def test_refs_are_compared_by_ancestry(client: Client, path: Path) -> None:
    old = await client.head()
    await git(path, "branch", "side", old)
    await client.commit({"a.md": b"1"})
    new = await client.head()
    answer = await client.repository(
        f'a: ref(qualifiedName: "side") {{ compare(headRef: "main") '
        f"{{ aheadBy behindBy status commits(first: 5) {{ nodes {{ oid }} }} }} }}"
        f'b: ref(qualifiedName: "refs/heads/main") {{ compare(headRef: "{old}") '
        "{ aheadBy behindBy status } }"
    )
    assert answer.repository["a"]["compare"] == {
        "aheadBy": 1,
        "behindBy": 0,
        "status": "AHEAD",
        "commits": {"nodes": [{"oid": new}]},
    }
    assert answer.repository["b"]["compare"] == {"aheadBy": 0, "behindBy": 1, "status": "BEHIND"}


async def test_objects_are_found_again_by_their_global_id(client: Client) -> None:
    answer = await client.repository("id defaultBranchRef { id target { id } }")
    ids = [
        answer.repository["id"],
        answer.repository["defaultBranchRef"]["id"],
        answer.repository["defaultBranchRef"]["target"]["id"],
    ]
    found = await client.ask(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id __typename } }", {"ids": [*ids, "nope"]}
    )
    nodes = found.data["nodes"]
    assert [node and node["id"] for node in nodes] == [*ids, None]
    assert found.error["type"] == "NOT_FOUND"
    assert found.error["path"] == ["nodes", 3]


async def test_more_than_100_ids_are_refused(client: Client) -> None:
    answer = await client.ask(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["x"] * 101}
    )
    assert answer.error["type"] == "ARGUMENT_LIMIT"
    assert (
        answer.error["message"] == "You may not provide more than 100 node ids; you provided 101."
    )
