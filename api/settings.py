"""Every setting, with its unit and default. Read from the environment, checked once, passed on.

Nothing below `cli`, `app` and the worker's start-up looks at the environment.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsError(ValueError):
    """A setting is missing or wrong. The message is one sentence that says what to do."""


def _directories(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip().strip("/") for part in value.split(",") if part.strip())
    return value


def _addresses(value: object) -> object:
    """`name=address, name=address`: by the name in lower case."""
    if not isinstance(value, str):
        return value
    pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
    return {name.strip().casefold(): address.strip() for name, _, address in pairs}


Addresses = Annotated[Mapping[str, str], NoDecode, BeforeValidator(_addresses)]
Directories = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_directories)]
Role = Literal["all", "api", "worker"]


class Settings(BaseSettings):
    """The gateway's settings. Environment variables carry the same names in upper case."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(description="PostgreSQL, as postgres:// or postgresql://")
    redis_url: SecretStr | None = Field(
        default=None, description="Redis, as redis:// or rediss://; without it no job is queued"
    )
    github_token: SecretStr = Field(description="token that may read and write the repository")
    github_repository: str = Field(description="owner/name")
    github_branch: str = Field(default="main", description="the branch that is the master")
    github_api_url: str = Field(
        default="https://api.github.com",
        description="root of GitHub's REST API; GitHub Enterprise: https://HOST/api/v3",
    )
    github_webhook_secret: SecretStr | None = Field(
        default=None, description="shared secret of push webhooks; without it they are refused"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on")
    annoris_role: Role = Field(default="all", description="what `annoris start` runs")
    retention_days: int = Field(default=30, ge=1, description="days that bodies stay hot")
    max_staleness_seconds: float = Field(
        default=3600, ge=0, description="age in seconds up to which CACHE answers are fresh"
    )
    sync_interval_minutes: int = Field(
        default=60, ge=1, le=60, description="minutes between syncs, counted from the full hour"
    )
    session_paths: Directories = Field(default=("autosaves",), description="directories")
    project_paths: Directories = Field(
        default=("autosaves/projects", "projects"), description="directories"
    )
    priority_paths: Directories = Field(
        default=("autosaves/priorities",), description="directories"
    )
    database_timeout_seconds: float = Field(
        default=2, gt=0, description="bound of one read or write of the cache before it counts down"
    )
    master_timeout_seconds: float = Field(
        default=10, gt=0, description="bound of one request to GitHub"
    )
    write_timeout_seconds: float = Field(
        default=10, gt=0, description="time within which a mutation's outcome must be known"
    )
    agent_addresses: Addresses = Field(
        default={},
        description="mail addresses that name agents as co-authors: agent=address, agent=address",
    )
    max_document_bytes: int = Field(
        default=2_000_000, ge=1_000, description="largest document that is read or written, bytes"
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in {"postgres", "postgresql"}:
            raise ValueError("must be a URL that starts with postgres:// or postgresql://")
        return value

    @field_validator("agent_addresses")
    @classmethod
    def _are_addresses(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if not all(name and re.fullmatch(r"[^\s<>@]+@[^\s<>@]+", at) for name, at in value.items()):
            raise ValueError("must be agent=address, agent=address")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value and urlsplit(value.get_secret_value()).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must be a URL that starts with redis://, rediss:// or unix://")
        return value

    @field_validator("github_repository")
    @classmethod
    def _is_repository(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", value):
            raise ValueError("must be owner/name, for example octocat/notes")
        return value

    @field_validator("github_branch")
    @classmethod
    def _is_branch(cls, value: str) -> str:
        branch = value.removeprefix("refs/heads/")
        if not re.fullmatch(r"(?!-)(?!.*(\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\\x00-\x1f]+", branch):
            raise ValueError("must be the name of a branch, for example main")
        return branch

    @field_validator("github_api_url")
    @classmethod
    def _is_api_root(cls, value: str) -> str:
        if urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).netloc:
            raise ValueError("must be a URL such as https://api.github.com")
        return value.rstrip("/")


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from the process's environment, or from `environment` alone when given.

    Raises SettingsError with one sentence that names every missing or wrong setting.
    """
    try:
        if environment is None:
            return Settings()
        known = {name.lower(): value for name, value in environment.items() if value}
        return Settings.model_validate(known)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    missing, wrong = [], []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]).upper()
        if problem["type"] == "missing":
            description = Settings.model_fields[name.lower()].description
            missing.append(f"{name} ({description})")
        else:
            wrong.append(f"{name} {problem['msg'].removeprefix('Value error, ')}")
    parts = [f"set {' and '.join(missing)}"] if missing else []
    parts += [f"correct {'; '.join(wrong)}"] if wrong else []
    return f"Cannot start: {', and '.join(parts)}."
