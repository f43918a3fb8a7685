"""Settings: what is missing or wrong is said in one sentence, and no secret is in it."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from api.master.credentials import App, FixedToken
from api.settings import SettingsError, load
from api.wiring import credentials_of, layout_of
from tests.app_keys import KeyPair

GOOD = {
    "DATABASE_URL": "postgresql://user:canary-database@host/db",
    "REDIS_URL": "redis://:canary-redis@host:6379/0",
    "GITHUB_TOKEN": "canary-token",
    "GITHUB_REPOSITORY": "octocat/notes",
}

NOBODY = {name: value for name, value in GOOD.items() if name != "GITHUB_TOKEN"}


@pytest.fixture
def app(app_keys: KeyPair) -> dict[str, str]:
    """The settings of a GitHub App."""
    return {
        "GITHUB_APP_ID": "77",
        "GITHUB_APP_PRIVATE_KEY": app_keys.private,
        "GITHUB_APP_INSTALLATION_ID": "4711",
    }


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load(GOOD)

    assert (settings.sync_interval_minutes, settings.sync_minute) == (60, 0)
    assert (settings.nightly_hour, settings.alert_urls) == (3, ())
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


def test_a_token_is_one_way_in_and_an_app_the_other(app: dict[str, str]) -> None:
    assert isinstance(credentials_of(load(GOOD)), FixedToken)
    assert isinstance(credentials_of(load(NOBODY | app)), App)


@pytest.mark.parametrize("app_id", ["77", "Iv1.0123456789abcdef", "Iv23liAbCdEf"])
def test_an_app_is_known_by_its_number_or_its_client_id(app: dict[str, str], app_id: str) -> None:
    assert load(NOBODY | app | {"GITHUB_APP_ID": app_id}).github_app_id == app_id


@pytest.mark.parametrize("line_break", ["\n", "\\n", "\r\n"])
def test_line_breaks_of_a_key_may_be_written_out(app: dict[str, str], line_break: str) -> None:
    key = app["GITHUB_APP_PRIVATE_KEY"].replace("\n", line_break)
    settings = load(NOBODY | app | {"GITHUB_APP_PRIVATE_KEY": key})
    assert settings.github_app_private_key is not None
    assert r"\n" not in settings.github_app_private_key.get_secret_value()


def test_a_token_beside_an_app_is_refused(app: dict[str, str]) -> None:
    for name, value in app.items():
        with pytest.raises(SettingsError, match="GITHUB_TOKEN must not be set beside") as error:
            load(GOOD | {name: value})
        assert "canary" not in str(error.value)


def test_neither_a_token_nor_an_app_names_both() -> None:
    with pytest.raises(SettingsError) as error:
        load(NOBODY)

    for name in ("GITHUB_TOKEN", "GITHUB_APP_ID", "PRIVATE_KEY", "INSTALLATION_ID"):
        assert name in str(error.value)
    assert str(error.value).count(".") == 1


def test_what_an_app_lacks_is_named_and_nothing_else(app: dict[str, str]) -> None:
    for name, value in app.items():
        with pytest.raises(SettingsError, match=f"^Cannot start: set {name} ") as error:
            load(NOBODY | {other: value for other, value in app.items() if other != name})
        assert "GITHUB_TOKEN" not in str(error.value)

        with pytest.raises(SettingsError) as error:
            load(NOBODY | {name: value})
        for other in app:
            assert (other in str(error.value)) is (other != name)


KEYS = {
    "text": "canary-key",
    "cut": "-----BEGIN RSA PRIVATE KEY-----\ncanary-key\n-----END RSA PRIVATE KEY-----\n",
    "not ASCII": "canary-ключ",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_wrong_key_is_named_and_is_not_in_the_sentence(app: dict[str, str], key: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(NOBODY | app | {"GITHUB_APP_PRIVATE_KEY": key})

    assert str(error.value).startswith("Cannot start: correct GITHUB_APP_PRIVATE_KEY must be")
    assert "canary" not in str(error.value)


def test_only_an_rsa_key_that_is_private_and_without_a_password_is_a_key(
    app: dict[str, str], app_keys: KeyPair
) -> None:
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    elliptic = ec.generate_private_key(ec.SECP256R1())
    private = load_pem_private_key(app_keys.private.encode(), None)
    for key in (
        app_keys.public.encode(),
        elliptic.private_bytes(pem, pkcs8, NoEncryption()),
        private.private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")),
    ):
        with pytest.raises(SettingsError, match="correct GITHUB_APP_PRIVATE_KEY"):
            load(NOBODY | app | {"GITHUB_APP_PRIVATE_KEY": key.decode()})
    other = private.private_bytes(pem, pkcs8, NoEncryption()).decode()
    assert load(NOBODY | app | {"GITHUB_APP_PRIVATE_KEY": other}).github_app_private_key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_APP_ID", "canary app"),
        ("GITHUB_APP_INSTALLATION_ID", "canary"),
        ("GITHUB_APP_INSTALLATION_ID", "0"),
        ("GITHUB_APP_INSTALLATION_ID", "-4711"),
    ],
)
def test_a_wrong_setting_of_an_app_is_named_alone(
    app: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=f"^Cannot start: correct {name} ") as error:
        load(NOBODY | app | {name: value})

    assert "canary" not in str(error.value)
    assert "set GITHUB" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "json://a:b@host/x mailto://c:d@host?to=e@x.example,f@x.example",
        " json://a:b@host/x,\n mailto://c:d@host?to=e@x.example,f@x.example , ",
    ],
)
def test_alert_urls_are_cut_between_urls_and_not_within_one(text: str) -> None:
    settings = load(GOOD | {"ALERT_URLS": text})

    assert [url.get_secret_value() for url in settings.alert_urls] == [
        "json://a:b@host/x",
        "mailto://c:d@host?to=e@x.example,f@x.example",
    ]
    assert "a:b" not in repr(settings)


def test_the_cache_is_too_old_when_it_could_have_been_synced_since_it_was_stale() -> None:
    settings = load(GOOD | {"MAX_STALENESS_SECONDS": "90", "SYNC_INTERVAL_MINUTES": "15"})

    assert settings.too_old == timedelta(seconds=90, minutes=15)


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
        ("SYNC_INTERVAL_MINUTES", "61"),
        ("SYNC_MINUTE", "60"),
        ("NIGHTLY_HOUR", "24"),
        ("ALERT_URLS", "canary-x"),
        ("ALERT_URLS", "json://host/x y canary"),
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


def test_an_apps_key_is_not_in_the_representation(app: dict[str, str]) -> None:
    settings = load(NOBODY | app)
    line = app["GITHUB_APP_PRIVATE_KEY"].splitlines()[1]
    assert line not in repr(settings) + repr(credentials_of(settings))
