"""The queries that GraphiQL opens with."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Tab:
    """One tab of the editor."""

    query: str
    variables: str = ""
    """JSON, as it stands in the editor."""


_NEWEST_SESSIONS = """\
# The newest sessions, and where the answer came from.
#
# Run: Ctrl-Enter. Documentation of every field: the book on the left.
# If the gateway asks for an API key, write this under Headers, below the query:
#   {"Authorization": "Bearer YOUR-KEY"}
# It is sent with each query and forgotten when the page is closed.
query NewestSessions {
  sessions(first: 10) {
    totalCount
    provenance {
      source
      commit
      asOf
      ageSeconds
      stale
      fallback
    }
    nodes {
      id
      title
      occurredAt
      status
      excerpt(length: 120)
    }
  }
}
"""

_VERIFIED_SESSION = """\
# One session, compared with GitHub before it is answered.
# Put the path of a document into Variables, for example an id from the first tab.
query VerifiedSession($id: ID!) {
  session(id: $id, consistency: VERIFIED) {
    id
    revision
    title
    occurredAt
    tags
    markdown
    provenance {
      source
      commit
      asOf
      verification
    }
  }
}
"""

_CACHE_STATUS = """\
# What the cache holds, how old it is, and what the last health check found.
query CacheStatus {
  cacheStatus {
    available
    head
    syncedAt
    ageSeconds
    documents
    hot
    unreadable
    lastHealthCheck {
      checkedAt
      commit
      documents
      drifted
      repaired
      consistency
    }
  }
}
"""

_CREATE_SESSION = """\
# Save a session: a commit at GitHub first, then the cache.
# Give commit.oid as atLeast to a later query, and its answer includes this session.
mutation CreateSession($input: CreateSessionInput!) {
  createSession(input: $input) {
    session {
      id
      revision
      title
    }
    commit {
      oid
      url
      committedAt
    }
    cache
  }
}
"""


def _variables(**values: object) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)


DEFAULT_TABS = (
    Tab(_NEWEST_SESSIONS),
    Tab(_VERIFIED_SESSION, _variables(id="autosaves/2025/10/autosave_2025-10-20_example.md")),
    Tab(_CACHE_STATUS),
    Tab(
        _CREATE_SESSION,
        _variables(
            input={
                "title": "Written in GraphiQL",
                "markdown": "# Written in GraphiQL\n\nA first session.\n",
                "status": "draft",
                "tags": ["example"],
            }
        ),
    ),
)
