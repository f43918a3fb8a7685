"""The few REST reads that GraphQL cannot replace: whole blobs, and a tree in one request."""

import base64

from aiohttp import web

from sandbox.github import answers, catalogue
from sandbox.github.answers import Answer
from sandbox.github.breath import Breath
from sandbox.github.call import Call
from sandbox.github.hosting import global_id
from sandbox.github.repository import FULL_OID, MODE_TREE, Repository

DOCS = "https://docs.github.com/rest/git"
RAW = ("application/vnd.github.raw+json", "application/vnd.github.raw")
TREE_LIMIT = 100_000
"""Entries after which a recursive tree is cut and says so."""


async def answer(request: web.Request, call: Call) -> Answer:
    """GET /repos/{owner}/{name}/git/{blobs|trees}/{sha}, or GitHub's 404."""
    name = f"{request.match_info['owner']}/{request.match_info['name']}"
    if (
        request.method != "GET"
        or not call.hosting.answers_to(name)
        or not call.identity.may_read
        or call.draw.take("repository_missing")
    ):
        return not_found()
    kind, _, sha = request.match_info["rest"].partition("/")
    if kind == "git" and sha.startswith("blobs/"):
        return _blob(request, call, sha.removeprefix("blobs/"))
    if kind == "git" and sha.startswith("trees/"):
        return await _tree(request, call, sha.removeprefix("trees/"))
    return not_found()


def not_found() -> Answer:
    return answers.refusal(catalogue.REST_NOT_FOUND, 404, DOCS)


def _url(call: Call, kind: str, sha: str) -> str:
    return f"{call.hosting.url}/repos/{call.hosting.name}/git/{kind}/{sha}"


def _blob(request: web.Request, call: Call, sha: str) -> Answer:
    if not FULL_OID.fullmatch(sha):
        return answers.refusal(catalogue.REST_SHA_MALFORMED, 422, DOCS)
    data = call.repository.blob(sha)
    if data is None:
        return not_found()
    if fault := call.draw.take("corrupted_blob"):
        data = data[: len(data) // 2] if fault.mode == "truncated" else b"X" + data[1:]
    if any(accepted in request.headers.get("Accept", "") for accepted in RAW):
        return Answer(200, data, "application/vnd.github.raw+json; charset=utf-8")
    encoded = base64.b64encode(data).decode()
    lines = [encoded[start : start + 60] for start in range(0, len(encoded), 60)]
    return answers.of_json(
        {
            "sha": sha,
            "node_id": global_id("blob", sha),
            "size": len(data),
            "url": _url(call, "blobs", sha),
            "content": "".join(line + "\n" for line in lines),
            "encoding": "base64",
        }
    )


async def _tree(request: web.Request, call: Call, rev: str) -> Answer:
    oid = call.repository.revision(rev, call.hosting.head_ref, call.stale_refs)
    tree = call.repository.peel(oid) if oid else None
    if oid is None or tree is None:
        return not_found()
    entries: list[dict[str, object]] = []
    recursive = "recursive" in request.query
    truncated = await _collect(call, call.repository, tree, entries, recursive=recursive)
    return answers.of_json(
        {
            "sha": tree,
            "url": _url(call, "trees", tree),
            "tree": entries,
            "truncated": truncated,
        }
    )


async def _collect(
    call: Call,
    repository: Repository,
    root: str,
    found: list[dict[str, object]],
    *,
    recursive: bool,
) -> bool:
    """Append the entries in git's order, depth first; True when there were too many."""
    stack = [(b"", iter(repository.tree(root)))]
    breath = Breath()
    while stack:
        prefix, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        if len(found) >= TREE_LIMIT:
            return True
        path = prefix + entry.name
        shape: dict[str, object] = {
            "path": path.decode("utf-8", "replace"),
            "mode": f"{entry.mode:06o}",
            "type": entry.type,
            "sha": entry.oid,
        }
        if entry.type == "blob":
            header = repository.header(entry.oid)
            shape["size"] = header[1] if header else 0
        shape["url"] = _url(call, f"{entry.type}s", entry.oid)
        found.append(shape)
        if recursive and entry.mode == MODE_TREE:
            stack.append((path + b"/", iter(repository.tree(entry.oid))))
        await breath.take()
    return False
