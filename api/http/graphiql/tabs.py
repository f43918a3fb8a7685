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
# The newest sessions, and where they came from.
#
# Ctrl-Enter runs this. The book on the left
# explains every field.
#
# If the gateway asks for an API key, write
#   {"Authorization": "Bearer YOUR-KEY"}
# under Headers, below. It is sent with each query
# and forgotten when the page is closed.
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
# One session, compared with GitHub first.
# Its path goes into Variables, below: for example
# an id from the first tab.
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
# What the cache holds, how old it is, who keeps it,
# and what the last health checks found.
query CacheStatus {
  cacheStatus {
    available
    head
    syncedAt
    ageSeconds
    documents
    hot
    unreadable
    worker {
      seenAt
    }
    lastSync {
      startedAt
      seconds
      requests
      added
      changed
      removed
      error
    }
  }
  healthChecks(first: 7) {
    nodes {
      checkedAt
      documents
      drifted
      repaired
      consistency
      nines
    }
  }
  unreadableDocuments(first: 10) {
    totalCount
    nodes {
      path
      reason
    }
  }
}
"""

_CREATE_SESSION = """\
# Save a session: at GitHub first, then in the cache.
# A later query with commit.oid as its atLeast gives
# an answer that includes this session.
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
