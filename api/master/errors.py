"""What can go wrong at the master. Everything foreign is mapped to one of these at this border.

MasterError
├── Unreachable      no usable answer to a read, or a write that was never sent
│   └── TooMuchAsked the request was too expensive as a whole; ask for less at once
├── RateLimited      GitHub asks to wait `retry_after` seconds
├── AccessRefused    the token is wrong or may not do this
├── Missing          the repository, branch or commit does not exist, or is hidden from the token
├── Corrupt          content that does not hash to its oid, or is not there (yet)
└── CommitError      outcomes of a commit
    ├── HeadMoved       the compare-and-swap failed; nothing was saved
    │   └── HeadUnknown GitHub does not know the expected head, or not yet
    ├── Rejected        GitHub will not take this commit; nothing was saved
    │   └── Protected   ... nor any other of ours on this branch
    └── OutcomeUnknown  the commit may or may not have landed
"""


class MasterError(Exception):
    """GitHub could not do what was asked."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id  # GitHub's support asks for it


class Unreachable(MasterError):
    """GitHub gave no usable answer. Nothing was changed."""


class TooMuchAsked(Unreachable):
    """GitHub gave up on the request as too expensive. Asking for less at once can succeed."""


class RateLimited(MasterError):
    """GitHub asks to wait. `retry_after` is in seconds from now. Nothing was changed."""

    def __init__(self, message: str, *, retry_after: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after = retry_after


class AccessRefused(MasterError):
    """The token is wrong, expired or may not do this."""


class Missing(MasterError):
    """The repository, branch or commit does not exist, or the token may not see it."""


class Corrupt(MasterError):
    """What arrived does not hash to the oid it was asked by, or nothing did. It was not used.

    Soon after a commit this passes: a replica of GitHub's may lag behind by seconds.
    """


class CommitError(MasterError):
    """A commit did not succeed, as far as is known."""


class HeadMoved(CommitError):
    """The branch no longer points at the expected head. Nothing was saved."""


class HeadUnknown(HeadMoved):
    """GitHub does not know the expected head: a replica lags, or history was rewritten."""


class Rejected(CommitError):
    """GitHub will not take this commit, however often it is sent. Nothing was saved."""


class Protected(Rejected):
    """The branch takes no commits like ours: it is protected or read-only. Nothing was saved."""


class OutcomeUnknown(CommitError):
    """The answer was lost. The commit may or may not have landed: look before sending again."""
