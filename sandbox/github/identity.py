"""Who a token speaks for, and what it may do."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Permission = Literal["ADMIN", "MAINTAIN", "WRITE", "TRIAGE", "READ"]
Credential = Literal["personal access token", "integration"]


@dataclass(frozen=True)
class Identity:
    """The owner of a token: the author of every commit made with it.

    `permission` None means that the repository is invisible to the token, which GitHub reports
    as NOT_FOUND and never as FORBIDDEN.
    """

    login: str
    name: str = ""
    email: str = ""
    id: int = 1001
    permission: Permission | None = "WRITE"
    credential: Credential = "personal access token"
    token_ends: datetime | None = None
    """When the token ends, if it does; answers say so in a header, and later it is refused."""

    @property
    def display_name(self) -> str:
        return self.name or self.login

    @property
    def commit_email(self) -> str:
        return self.email or f"{self.id}+{self.login}@users.noreply.github.com"

    @property
    def has_ended(self) -> bool:
        return self.token_ends is not None and datetime.now(UTC) >= self.token_ends

    @property
    def may_read(self) -> bool:
        return self.permission is not None

    @property
    def may_write(self) -> bool:
        return self.permission in ("ADMIN", "MAINTAIN", "WRITE")


DEFAULT_TOKEN = "sandbox-token"  # noqa: S105 - it opens a local sandbox and nothing else
DEFAULT_IDENTITY = Identity("annoris-sandbox", name="Annoris Sandbox")
