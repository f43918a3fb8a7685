"""The GraphQL operations that we send to GitHub. Reads are pinned to oids wherever GitHub can,
and say what they cost.
"""

from functools import lru_cache

from graphql import DocumentNode, parse

_BLOB = "oid byteSize isTruncated isBinary text"
_ENTRY = "nameRaw mode oid size"

HEAD = parse("""
query Head($owner: String!, $name: String!, $ref: String!) {
  rateLimit { cost }
  repository(owner: $owner, name: $name) {
    ref(qualifiedName: $ref) { target { oid ... on Commit { committedDate tree { oid } } } }
  }
}
""")

COMMIT = parse("""
query Commit($owner: String!, $name: String!, $oid: GitObjectID!) {
  rateLimit { cost }
  repository(owner: $owner, name: $name) {
    object(oid: $oid) { oid ... on Commit { committedDate tree { oid } } }
  }
}
""")

# Heads are compared by ancestry, never by time.
COMPARE = parse("""
query Compare($owner: String!, $name: String!, $ref: String!, $commit: String!) {
  rateLimit { cost }
  repository(owner: $owner, name: $name) {
    ref(qualifiedName: $ref) {
      target { oid ... on Commit { committedDate tree { oid } } }
      compare(headRef: $commit) { status }
    }
  }
}
""")

COMMIT_BEFORE = parse("""
query CommitBefore($owner: String!, $name: String!, $oid: GitObjectID!, $until: GitTimestamp!) {
  rateLimit { cost }
  repository(owner: $owner, name: $name) {
    object(oid: $oid) { ... on Commit {
      history(first: 1, until: $until) { nodes { oid committedDate tree { oid } } }
    } }
  }
}
""")

_LOGGED = "oid committedDate message tree { oid } parents(first: 1) { nodes { oid } }"

# Looking for a write's trailer: newest first, as `git log` would list them.
HISTORY = parse(f"""
query History($owner: String!, $name: String!, $ref: String!, $after: String) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    ref(qualifiedName: $ref) {{ target {{ oid ... on Commit {{
      tree {{ oid }}
      history(first: 100, after: $after) {{
        nodes {{ {_LOGGED} }} pageInfo {{ endCursor hasNextPage }}
      }}
    }} }} }}
  }}
}}
""")

HISTORY_OF = parse(f"""
query HistoryOf($owner: String!, $name: String!, $oid: GitObjectID!, $after: String) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    object(oid: $oid) {{ ... on Commit {{
      history(first: 100, after: $after) {{
        nodes {{ {_LOGGED} }} pageInfo {{ endCursor hasNextPage }}
      }}
    }} }}
  }}
}}
""")


@lru_cache(maxsize=16)  # hundreds of paths make a document of megabytes
def head_with(contents: tuple[bool, ...]) -> DocumentNode:
    """The head and files, in one request and at one moment: read below the commit that it is.

    Variables p0, p1, ..., aliases f0, f1, ... `contents`: which of them come with their text.
    """
    return parse(
        f"query HeadWith($owner: String!, $name: String!, $ref: String!{_paths(len(contents))})"
        " { rateLimit { cost } repository(owner: $owner, name: $name) { ref(qualifiedName: $ref)"
        f" {{ target {{ oid ... on Commit {{ committedDate tree {{ oid }} {_files(contents)}"
        " } } } } }"
    )


@lru_cache(maxsize=16)
def commit_with(paths: int) -> DocumentNode:
    """A commit by its oid, and files as of it with their text: p0, p1, ... and f0, f1, ..."""
    return parse(
        f"query CommitWith($owner: String!, $name: String!, $oid: GitObjectID!{_paths(paths)})"
        " { rateLimit { cost } repository(owner: $owner, name: $name) { object(oid: $oid)"
        f" {{ ... on Commit {{ oid committedDate tree {{ oid }} {_files((True,) * paths)}"
        " } } } }"
    )


def _paths(count: int) -> str:
    return "".join(f", $p{i}: String!" for i in range(count))


def _files(contents: tuple[bool, ...]) -> str:
    return " ".join(
        f"f{i}: file(path: $p{i}) {{ {_ENTRY} "
        + (f"object {{ ... on Blob {{ {_BLOB} }} }} }}" if content else "}")
        for i, content in enumerate(contents)
    )


@lru_cache(maxsize=256)
def trees(count: int) -> DocumentNode:
    """`count` trees by oid, in one request: variables o0, o1, ..., aliases t0, t1, ..."""
    return _by_oid("Trees", "t", count, f"... on Tree {{ oid entries {{ {_ENTRY} }} }}")


@lru_cache(maxsize=256)
def blobs(count: int) -> DocumentNode:
    """`count` blobs by oid, in one request: variables o0, o1, ..., aliases b0, b1, ..."""
    return _by_oid("Blobs", "b", count, f"... on Blob {{ {_BLOB} }}")


def _by_oid(operation: str, alias: str, count: int, fields: str) -> DocumentNode:
    variables = " ".join(f"$o{i}: GitObjectID!" for i in range(count))
    objects = " ".join(f"{alias}{i}: object(oid: $o{i}) {{ {fields} }}" for i in range(count))
    return parse(
        f"query {operation}($owner: String!, $name: String!, {variables})"
        f" {{ rateLimit {{ cost }} repository(owner: $owner, name: $name) {{ {objects} }} }}"
    )


@lru_cache(maxsize=256)
def commit(paths: int) -> DocumentNode:
    """createCommitOnBranch, asking for little: what is asked can fail after the commit landed.

    The oids of `paths` paths come back (variables p0, p1, ..., aliases f0, f1, ...): of the
    documents, to compare with what was sent, and of the directories above them.
    """
    variables = "".join(f", $p{i}: String!" for i in range(paths))
    files = " ".join(f"f{i}: file(path: $p{i}) {{ oid }}" for i in range(paths))
    return parse(
        f"mutation Commit($input: CreateCommitOnBranchInput!{variables})"
        " { createCommitOnBranch(input: $input)"
        f" {{ commit {{ oid committedDate tree {{ oid }} {files} }} }} }}"
    )
