"""Every setting, with its unit and default. Read from the environment, checked once, passed on.

Nothing below `cli`, `app` and the worker's start-up looks at the environment.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.access import ApiKey, read_keys


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


def _lines(value: object) -> object:
    r"""Text of several lines, which hosting platforms keep as one with `\n` for the breaks."""
    return value.replace(r"\n", "\n") if isinstance(value, str) else value


def _keys(value: object) -> object:
    return read_keys(value) if isinstance(value, str) else value


def _urls(value: object) -> object:
    """URLs with commas or spaces between them. A comma in one of them does not end it."""
    if not isinstance(value, str):
        return value
    return tuple(re.split(r"[\s,]+(?=[A-Za-z0-9]+://)", value.strip(" \t\n,")))


Addresses = Annotated[Mapping[str, str], NoDecode, BeforeValidator(_addresses)]
Directories = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_directories)]
Keys = Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_keys)]
Pem = Annotated[SecretStr, BeforeValidator(_lines)]
_APP = ("github_app_id", "github_app_private_key", "github_app_installation_id")
Urls = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_urls)]
Role = Literal["all", "api", "worker"]
Secrets = Literal["refuse", "redact", "allow"]


class Settings(BaseSettings):
    """The gateway's settings. Environment variables carry the same names in upper case."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(description="PostgreSQL, as postgres:// or postgresql://")
    redis_url: SecretStr | None = Field(
        default=None, description="Redis, as redis:// or rediss://; without it no job is queued"
    )
    github_app_id: str | None = Field(
        default=None, description="number or client id of a GitHub App"
    )
    github_app_private_key: Pem | None = Field(
        default=None, description="its private key in PEM, line breaks also as \\n"
    )
    github_app_installation_id: int | None = Field(
        default=None, gt=0, description="number of its installation at the repository's owner"
    )
    github_token: SecretStr | None = Field(  # after those of the App, with which it is compared
        default=None,
        validate_default=True,
        description="token that may read and write the repository; or set up a GitHub App with "
        f"{', '.join(_APP).upper()}",
    )
    github_repository: str = Field(description="owner/name")
    github_branch: str = Field(default="main", description="the branch that is the master")
    github_api_url: str = Field(
        default="https://api.github.com",
        description="root of GitHub's REST API; GitHub Enterprise: https://HOST/api/v3",
    )
    github_webhook_secret: SecretStr | None = Field(
        default=None, description="shared secret of push webhooks; without it they are refused"
    )
    api_keys: Keys = Field(
        default=(),
        description="who may come in, as `annoris keys new` prints it: "
        "name:scopes:digest[:last-day], with commas between",
    )
    rate_limit_per_minute: int | None = Field(
        default=None,
        gt=0,
        description="requests of one caller in a minute; 3000 for each API key unless set, and "
        "without API keys no limit unless set",
    )
    graphiql: bool = Field(default=True, description="whether browsers get GraphiQL")
    introspection: bool = Field(default=True, description="whether the schema can be asked for")
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; without API_KEYS only a loopback one",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on")
    annoris_role: Role = Field(default="all", description="what `annoris start` runs")
    retention_days: int = Field(default=30, ge=1, description="days that bodies stay hot")
    max_staleness_seconds: float = Field(
        default=3600, ge=0, description="age in seconds up to which CACHE answers are fresh"
    )
    sync_interval_minutes: int = Field(default=60, ge=1, le=60, description="minutes between syncs")
    sync_minute: int = Field(
        default=0, ge=0, le=59, description="minute of the hour of one of the syncs"
    )
    nightly_hour: int = Field(
        default=3, ge=0, le=23, description="hour (UTC) of the daily health check and retention"
    )
    alert_urls: Urls = Field(
        default=(), description="whom to tell of incidents: URLs as apprise knows them"
    )
    session_paths: Directories = Field(default=("autosaves",), description="directories")
    project_paths: Directories = Field(
        default=("autosaves/projects", "projects"), description="directories"
    )
    priority_paths: Directories = Field(
        default=("autosaves/priorities",), description="directories"
    )
    database_timeout_seconds: float = Field(
        default=0.25, gt=0, description="time in seconds that a reader waits for PostgreSQL"
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
    secrets: Secrets = Field(
        default="refuse", description="what becomes of passwords and tokens in new text"
    )
    max_document_bytes: int = Field(
        default=2_000_000, ge=1_000, description="largest document that is read or written, bytes"
    )

    @property
    def too_old(self) -> timedelta:
        """The age from which on the cache should have been synced, and was not."""
        return timedelta(seconds=self.max_staleness_seconds, minutes=self.sync_interval_minutes)

    @field_validator("alert_urls")
    @classmethod
    def _are_urls(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(re.match(r"[A-Za-z0-9]+://[^\s]+$", url.get_secret_value()) for url in value):
            raise ValueError("must be URLs as apprise knows them, with commas or spaces between")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in {"postgres", "postgresql"}:
            raise ValueError("must be a URL that starts with postgres:// or postgresql://")
        return value

    @field_validator("github_app_private_key")
    @classmethod
    def _is_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not _is_rsa_key(value.get_secret_value()):
            raise ValueError("must be the private key of a GitHub App, in PEM")
        return value

    @field_validator("github_app_id")
    @classmethod
    def _is_app(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"[A-Za-z0-9.]+", value):
            raise ValueError("must be the number or the client id of a GitHub App")
        return value

    @field_validator("github_token")
    @classmethod
    def _is_one_way_in(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Either a token or an App."""
        # What is not among the data was set, and is wrong.
        unset = [name for name in _APP if info.data.get(name, "wrong") is None]
        if value and unset != list(_APP):
            raise ValueError("must not be set beside a GitHub App: choose one of them")
        if not value and unset:
            names = ["github_token"] if unset == list(_APP) else unset
            raise PydanticCustomError("missing", "missing", {"names": names})
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
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            missing += [_described(one) for one in problem.get("ctx", {}).get("names", [name])]
        else:
            wrong.append(f"{name.upper()} {problem['msg'].removeprefix('Value error, ')}")
    parts = [f"set {' and '.join(missing)}"] if missing else []
    parts += [f"correct {'; '.join(wrong)}"] if wrong else []
    return f"Cannot start: {', and '.join(parts)}."


def _described(name: str) -> str:
    return f"{name.upper()} ({Settings.model_fields[name].description})"


def _is_rsa_key(pem: str) -> bool:
    try:
        return isinstance(load_pem_private_key(pem.encode(), password=None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        return False
