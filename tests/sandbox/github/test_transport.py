"""Transport: who is let in, in which shapes a request is refused, and the headers of answers."""

import base64
import json

import pytest
from gql import Client as GqlClient
from gql import gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportQueryError

from sandbox.github import GitHub
from tests.sandbox.github.client import Client

VIEWER = {"query": "{ viewer { login } }"}


@pytest.mark.parametrize("address", ["/graphql", "/api/graphql"])
@pytest.mark.parametrize("scheme", ["bearer", "Bearer", "token"])
async def test_the_api_answers_at_both_addresses_and_to_all_schemes(
    client: Client, github: GitHub, address: str, scheme: str
) -> None:
    async with client.session.post(
        github.url + address, json=VIEWER, headers={"Authorization": f"{scheme} {github.token}"}
    ) as response:
        assert response.status == 200
        assert (await response.json())["data"]["viewer"] == {"login": "annoris-sandbox"}


async def test_answers_carry_request_id_media_type_and_rate_headers(client: Client) -> None:
    answer = await client.ask("{ viewer { login } }")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-github-media-type"] == "github.v4; format=json"
    assert answer.headers["x-github-request-id"].count(":") == 4
    assert answer.headers["x-ratelimit-limit"] == "5000"
    assert answer.headers["x-ratelimit-remaining"] == "4999"
    assert answer.headers["x-ratelimit-used"] == "1"
    assert answer.headers["x-ratelimit-resource"] == "graphql"
    assert int(answer.headers["x-ratelimit-reset"]) > 1_700_000_000


async def test_without_a_token_nobody_gets_in(client: Client, github: GitHub) -> None:
    async with client.session.post(f"{github.url}/graphql", json=VIEWER) as response:
        assert response.status == 401
        assert (await response.json())[
            "message"
        ] == "This endpoint requires you to be authenticated."


async def test_a_token_that_is_unknown_or_revoked_is_bad_credentials(
    client: Client, github: GitHub
) -> None:
    answer = await client.ask("{ viewer { login } }", token="other")
    assert answer.status == 401
    assert answer.json == {
        "message": "Bad credentials",
        "documentation_url": "https://docs.github.com/graphql",
        "status": "401",
    }
    token = github.token
    del github.tokens[token]
    assert (await client.ask("{ viewer { login } }", token=token)).status == 401


async def test_a_user_agent_is_demanded(client: Client, github: GitHub) -> None:
    for path in ("/graphql", "/repos/annoris/documents/git/blobs/" + "0" * 40):
        async with client.session.post(
            github.url + path,
            json=VIEWER,
            headers={"Authorization": f"bearer {github.token}"},
            skip_auto_headers={"User-Agent"},
        ) as response:
            assert response.status == 403
            assert "User-Agent" in await response.text()


async def test_a_body_that_is_not_json_is_a_bad_request(client: Client, github: GitHub) -> None:
    async with client.session.post(
        f"{github.url}/graphql", data=b"{nope", headers=client.headers()
    ) as response:
        assert response.status == 400
        assert await response.json() == {
            "message": "Problems parsing JSON",
            "documentation_url": "https://docs.github.com/graphql",
            "status": "400",
        }


@pytest.mark.parametrize("body", [b"", b"{}", b'{"query": null}', b"[]"])
async def test_a_body_without_a_query_is_told_so(
    client: Client, github: GitHub, body: bytes
) -> None:
    async with client.session.post(
        f"{github.url}/graphql", data=body, headers=client.headers()
    ) as response:
        assert response.status == 200
        assert await response.json() == {
            "errors": [{"message": "A query attribute must be specified and must be a string."}]
        }


@pytest.mark.parametrize(
    ("query", "code", "where", "message"),
    [
        (
            "query Q { viewer { f } }",
            "undefinedField",
            ["query Q", "viewer", "f"],
            "Field 'f' doesn't exist on type 'User'",
        ),
        (
            "{ viewer { avatarUrl(x: 1) } }",
            "argumentNotAccepted",
            ["query", "viewer", "avatarUrl"],
            "Field 'avatarUrl' doesn't accept argument 'x'",
        ),
        (
            '{ repository(owner: "o") { id } }',
            "missingRequiredArguments",
            ["query", "repository"],
            "Field 'repository' is missing required arguments: name",
        ),
        (
            "{ viewer }",
            "selectionMismatch",
            ["query", "viewer"],
            (
                "Field must have selections (field 'viewer' returns User! but has no selections. "
                "Did you mean 'viewer { ... }'?)"
            ),
        ),
        (
            "query Q($a: Int) { viewer { login } }",
            "variableNotUsed",
            ["query Q"],
            "Variable $a is declared by Q but not used",
        ),
        (
            "{ viewer { ...F } }",
            "useAndDefineFragment",
            ["query", "viewer", "... F"],
            "Fragment F was used, but not defined",
        ),
    ],
)
async def test_what_the_schema_does_not_have_is_refused_as_github_does(
    client: Client, query: str, code: str, where: list[str], message: str
) -> None:
    answer = await client.ask(query)
    assert answer.status == 200
    assert "data" not in answer.json
    assert "type" not in answer.error
    assert answer.error["extensions"]["code"] == code
    assert answer.error["path"] == where
    assert answer.error["message"] == message
    assert answer.error["locations"]


async def test_a_syntax_error_says_where(client: Client) -> None:
    answer = await client.ask("{\n  viewer {\n}")
    assert answer.status == 200
    assert "[3, 2]" in answer.error["message"]


async def test_one_of_several_operations_is_run_by_its_name(client: Client) -> None:
    query = "query A { viewer { login } } query B { viewer { id } }"
    answer = await client.ask(query, operation="B")
    assert list(answer.data["viewer"]) == ["id"]
    assert "data" not in (await client.ask(query)).json


async def test_the_production_client_works_and_sees_raw_errors(github: GitHub) -> None:
    transport = AIOHTTPTransport(
        f"{github.url}/graphql", headers={"Authorization": f"bearer {github.token}"}
    )
    async with GqlClient(transport=transport, fetch_schema_from_transport=True) as session:
        result = await session.execute(
            gql('{ repository(owner: "annoris", name: "documents") { nameWithOwner } }')
        )
        assert result == {"repository": {"nameWithOwner": "annoris/documents"}}
        with pytest.raises(TransportQueryError) as failed:
            await session.execute(gql('{ repository(owner: "a", name: "b") { id } }'))
        assert failed.value.errors is not None
        assert failed.value.errors[0]["type"] == "NOT_FOUND"
        assert failed.value.data == {"repository": None}


# --- REST -----------------------------------------------------------------------------------


async def test_blobs_are_served_raw_and_as_base64(client: Client, github: GitHub) -> None:
    content = bytes(range(256)) * 5_000
    await client.commit({"big.bin": content})
    answer = await client.repository('object(expression: "main:big.bin") { oid }')
    url = f"{github.url}/repos/annoris/documents/git/blobs/{answer.repository['object']['oid']}"
    accept = {"Accept": "application/vnd.github.raw+json"}
    async with client.session.get(url, headers={**client.headers(), **accept}) as response:
        assert response.status == 200
        assert response.headers["x-ratelimit-resource"] == "core"
        assert await response.read() == content
    async with client.session.get(url, headers=client.headers()) as response:
        found = json.loads(await response.read())
    assert found["encoding"] == "base64"
    assert found["size"] == len(content)
    assert base64.b64decode(found["content"]) == content


@pytest.mark.parametrize(
    "address",
    [
        "/repos/annoris/documents/git/blobs/" + "1" * 40,
        "/repos/annoris/nope/git/blobs/" + "1" * 40,
        "/repos/annoris/documents/issues",
    ],
)
async def test_what_rest_does_not_have_is_404(client: Client, github: GitHub, address: str) -> None:
    async with client.session.get(github.url + address, headers=client.headers()) as response:
        assert response.status == 404
        assert (await response.json())["message"] == "Not Found"


async def test_rest_demands_a_token(client: Client, github: GitHub) -> None:
    url = f"{github.url}/repos/annoris/documents/git/blobs/" + "1" * 40
    async with client.session.get(url) as response:
        assert response.status == 401
    async with client.session.get(url, headers=client.headers("other")) as response:
        assert (await response.json())["message"] == "Bad credentials"


async def test_a_whole_tree_in_one_request(client: Client, github: GitHub) -> None:
    url = f"{github.url}/repos/annoris/documents/git/trees/main?recursive=1"
    async with client.session.get(url, headers=client.headers()) as response:
        found = await response.json()
    assert found["truncated"] is False
    assert {entry["path"]: entry["mode"] for entry in found["tree"]} == {
        "README.md": "100644",
        "autosaves": "040000",
        "autosaves/2025": "040000",
        "autosaves/2025/10": "040000",
        "autosaves/2025/10/autosave_2025-10-20_one.md": "100644",
        "autosaves/2025/10/autosave_2025-10-21_two.md": "100644",
        "autosaves/projects": "040000",
        "autosaves/projects/alpha.md": "100644",
        "latest.md": "120000",
        "tools": "040000",
        "tools/run.sh": "100755",
    }
