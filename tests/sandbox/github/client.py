"""A plain client for tests: what goes over the wire, without the production client's comfort."""

import asyncio
import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.github import GitHub

COMMIT = """
mutation Commit($input: CreateCommitOnBranchInput!) {
  createCommitOnBranch(input: $input) {
    commit { oid committedDate }
    ref { name target { oid } }
  }
}
"""

HEAD = """
query Head { repository(owner: "annoris", name: "documents") {
  defaultBranchRef { name target { oid } }
} }
"""


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    json: Any

    @property
    def data(self) -> Any:
        return self.json.get("data")

    @property
    def errors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json.get("errors", [])
        return found

    @property
    def error(self) -> dict[str, Any]:
        (error,) = self.errors
        return error

    @property
    def repository(self) -> Any:
        assert not self.errors, self.errors
        return self.data["repository"]

    @property
    def commit_oid(self) -> str:
        assert not self.errors, self.errors
        return str(self.data["createCommitOnBranch"]["commit"]["oid"])


class Client:
    def __init__(self, github: GitHub, session: aiohttp.ClientSession) -> None:
        self.github = github
        self.session = session

    def headers(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"bearer {token or self.github.token}", "User-Agent": "tests"}

    async def ask(
        self,
        query: str,
        variables: Mapping[str, object] | None = None,
        *,
        token: str | None = None,
        operation: str | None = None,
    ) -> Answer:
        body = {"query": query, "variables": variables, "operationName": operation}
        async with self.session.post(
            f"{self.github.url}/graphql",
            # aiohttp warns of large bodies that are not streams.
            data=io.BytesIO(json.dumps(body).encode()),
            headers={**self.headers(token), "Content-Type": "application/json"},
        ) as response:
            return Answer(response.status, response.headers, await response.json())

    async def repository(self, selection: str, **variables: object) -> Answer:
        """Query fields of the repository."""
        return await self.ask(
            f'query {{ repository(owner: "annoris", name: "documents") {{ {selection} }} }}',
            variables,
        )

    async def head(self) -> str:
        answer = await self.ask(HEAD)
        return str(answer.repository["defaultBranchRef"]["target"]["oid"])

    async def commit(
        self,
        additions: Mapping[str, bytes] | None = None,
        deletions: Sequence[str] = (),
        *,
        head: str | None = None,
        token: str | None = None,
        **changed: object,
    ) -> Answer:
        """CreateCommitOnBranch on the head as it is, unless another one is given."""
        return await self.ask(
            COMMIT,
            {"input": commit_input(head or self.github.head, additions, deletions, **changed)},
            token=token,
        )

    async def text(self, path: str, rev: str | None = None) -> str | None:
        answer = await self.repository(
            f'object(expression: "{rev or self.github.head}:{path}") {{ ... on Blob {{ text }} }}'
        )
        found = answer.repository["object"]
        return found["text"] if found else None


def commit_input(
    head: str | None,
    additions: Mapping[str, bytes] | None = None,
    deletions: Sequence[str] = (),
    **changed: object,
) -> dict[str, object]:
    return {
        "branch": {"repositoryNameWithOwner": "annoris/documents", "branchName": "main"},
        "expectedHeadOid": head,
        "message": {"headline": "Write", "body": "because"},
        "fileChanges": {
            "additions": [
                {"path": path, "contents": base64.b64encode(content).decode()}
                for path, content in (additions or {}).items()
            ],
            "deletions": [{"path": path} for path in deletions],
        },
        **changed,
    }


async def git(where: Path, *arguments: str, check: bool = True) -> str:
    """Run git with a fixed identity and none of this machine's configuration."""
    process = await asyncio.create_subprocess_exec(
        "git",
        "-c",
        "user.name=Ann",
        "-c",
        "user.email=ann@example.com",
        *arguments,
        cwd=where,
        env={
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    text = output.decode("utf-8", "replace").strip()
    assert not check or process.returncode == 0, text
    return text if check else f"{process.returncode} {text}"
