"""Settings: what is missing or wrong is said in one sentence, and no secret is in it."""

import pytest

from api.settings import SettingsError, load
from api.wiring import layout_of

GOOD = {
    "DATABASE_URL": "postgresql://user:canary-database@host/db",
    "REDIS_URL": "redis://:canary-redis@host:6379/0",
    "GITHUB_TOKEN": "canary-token",
    "GITHUB_REPOSITORY": "octocat/notes",
}


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load(GOOD)

    assert settings.github_branch == "main"
    assert settings.github_api_url == "https://api.github.com"
    assert (settings.retention_days, settings.max_staleness_seconds) == (30, 3600)
    assert layout_of(settings).sessions == ("autosaves",)
    assert layout_of(settings).projects == ("autosaves/projects", "projects")
    assert layout_of(settings).priorities == ("autosaves/priorities",)


def test_directories_are_a_comma_separated_list() -> None:
    settings = load(GOOD | {"SESSION_PATHS": " notes/ , log", "PROJECT_PATHS": "plans"})

    assert settings.session_paths == ("notes", "log")


def test_addresses_belong_to_agents_whatever_the_case_of_their_names() -> None:
    settings = load(GOOD | {"AGENT_ADDRESSES": " Scribe=scribe@x.example, Писарь = p@x.example ,"})

    assert settings.agent_addresses == {"scribe": "scribe@x.example", "писарь": "p@x.example"}


@pytest.mark.parametrize("missing", ["DATABASE_URL", "GITHUB_TOKEN", "GITHUB_REPOSITORY"])
def test_a_missing_setting_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=f"set {missing}"):
        load({name: value for name, value in GOOD.items() if name != missing})


def test_everything_missing_is_one_sentence() -> None:
    with pytest.raises(SettingsError) as error:
        load({})

    assert str(error.value).count(".") == 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://user:canary-x@host/db"),
        ("REDIS_URL", "http://canary-x@host"),
        ("GITHUB_REPOSITORY", "octocat"),
        ("GITHUB_REPOSITORY", "a/b/c"),
        ("GITHUB_BRANCH", "../x"),
        ("GITHUB_API_URL", "api.github.com"),
        ("PORT", "canary-x"),
        ("PORT", "70000"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "many"),
        ("MAX_STALENESS_SECONDS", "-1"),
        ("ANNORIS_ROLE", "boss"),
        ("AGENT_ADDRESSES", "canary-x"),
        ("AGENT_ADDRESSES", "scribe=canary-x"),
        ("AGENT_ADDRESSES", "=canary@x.example"),
        ("AGENT_ADDRESSES", "scribe=canary@x.example> <y@x.example"),
        ("AGENT_ADDRESSES", "scribe=canary@x.example\nx: y@x.example"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(GOOD | {name: value})

    assert f"correct {name}" in str(error.value)
    assert "canary" not in str(error.value)


def test_directories_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="SESSION_PATHS"):
        layout_of(load(GOOD | {"SESSION_PATHS": "notes", "PROJECT_PATHS": "notes"}))


def test_secrets_are_not_in_the_representation() -> None:
    assert "canary" not in repr(load(GOOD))
