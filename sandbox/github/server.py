"""The server: one hosted repository on one port, until it is stopped."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from aiohttp import web

from sandbox.github.api import BODY_LIMIT, Api
from sandbox.github.apps import App, Apps
from sandbox.github.control import Control
from sandbox.github.create import prepare
from sandbox.github.faults import Faults, Target
from sandbox.github.git_http import GitHttp
from sandbox.github.hosting import Hosting
from sandbox.github.identity import DEFAULT_IDENTITY, DEFAULT_TOKEN, Identity
from sandbox.github.limits import Limits, Meter
from sandbox.github.recorder import Request, Requests
from sandbox.github.repository import Repository
from sandbox.github.webhooks import Webhook, Webhooks

WATCH_SECONDS = 0.25
"""How often refs are compared, to notice pushes that did not come through this server."""

GRACE_SECONDS = 1.0
"""How long requests that are running may take to finish when the server stops."""

ACCESS_TOKENS = "/app/installations/{installation}/access_tokens"


class GitHub:
    """A stand-in for GitHub that serves one bare repository; an async context manager.

    It keeps its port, its counts and its faults when it is stopped and started again.
    """

    def __init__(
        self,
        repository: Path,
        *,
        name: str = "annoris/documents",
        branch: str = "main",
        tokens: Mapping[str, Identity] | None = None,
        apps: Iterable[App] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        webhook: Webhook | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.path = repository
        self.host = host
        self.port = port
        self.tokens: dict[str, Identity] = dict(tokens or {DEFAULT_TOKEN: DEFAULT_IDENTITY})
        """May be changed while running: a token that is removed is a revoked one."""
        self.apps = Apps.of(apps)
        bots = [app.identity for app in self.apps.known.values()]
        users = {user.commit_email: user for user in (*self.tokens.values(), *bots)}
        self.hosting = Hosting(Repository(repository), name, branch, users=users)
        self.faults = Faults(self.hosting.head)
        self.meter = Meter(limits or Limits())
        self.requests = Requests()
        self.webhooks = Webhooks(self.hosting, self.faults)
        self.webhooks.webhook = webhook
        self.hosting.on_push = self.webhooks.announce
        self._git = GitHttp(repository, self.hosting.observe)
        self._api: Api | None = None
        self._runner: web.AppRunner | None = None
        self._watcher: asyncio.Task[None] | None = None

    # --- where and who --------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base of the API: GraphQL at {url}/graphql, REST at {url}/repos/..."""
        return f"http://{self.host}:{self.port}"

    @property
    def clone_url(self) -> str:
        return f"{self.url}/{self.hosting.name}.git"

    @property
    def token(self) -> str:
        """A token that may write, or else any."""
        writers = [token for token, user in self.tokens.items() if user.may_write]
        return (writers or list(self.tokens))[0]

    @property
    def head(self) -> str | None:
        """The commit that the served branch points at now."""
        return self.hosting.head()

    @property
    def webhook(self) -> Webhook | None:
        return self.webhooks.webhook

    @webhook.setter
    def webhook(self, webhook: Webhook | None) -> None:
        self.webhooks.webhook = webhook

    @property
    def limits(self) -> Limits:
        return self.meter.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.meter.limits = limits

    @property
    def running(self) -> bool:
        return self._runner is not None

    # --- life -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Does nothing when it listens already."""
        if self._runner is not None:
            return
        await asyncio.to_thread(prepare, self.path)
        self._api = Api(
            self.hosting,
            self.faults,
            self.meter,
            self.requests,
            tokens=self.tokens,
            apps=self.apps,
        )
        runner = web.AppRunner(
            self._application(self._api), access_log=None, shutdown_timeout=GRACE_SECONDS
        )
        self._runner = runner
        try:
            await runner.setup()
            site = web.TCPSite(runner, self.host, self.port, reuse_address=True, backlog=1024)
            await site.start()
        except BaseException:
            self._runner = None
            await runner.cleanup()
            raise
        # The port stays ours for the next start: whoever holds the URL may come back to it.
        self.port = int(runner.addresses[0][1])
        self.hosting.url = self.url
        self.hosting.observe()
        self.webhooks.start()
        self._watcher = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Stop listening and end everything that runs. Does nothing when stopped already."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self._api is not None:
            self._api.closing.set()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await runner.cleanup()
        await self.webhooks.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.hosting.observe()

    # --- routes ---------------------------------------------------------------------------

    def _application(self, api: Api) -> web.Application:
        application = web.Application(client_max_size=BODY_LIMIT)
        control = Control(
            self.hosting, self.faults, self.meter, self.requests, lambda: self.webhooks
        )
        application.add_routes(control.routes())
        application.add_routes(
            [
                web.post("/graphql", api.graphql),
                web.post("/api/graphql", api.graphql),
                web.post(ACCESS_TOKENS, api.access_token),
                web.post(f"/api/v3{ACCESS_TOKENS}", api.access_token),
                web.route("*", "/repos/{owner}/{name}/{rest:.*}", api.rest),
                web.route("*", "/api/v3/repos/{owner}/{name}/{rest:.*}", api.rest),
                web.route("*", r"/{owner}/{name}.git{path:/.*}", self._serve_git),
            ]
        )
        return application

    async def _serve_git(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        if not self.hosting.answers_to(name) or self._api is None:
            return web.Response(status=404, text="Repository not found.\n")
        draw = self.faults.draw(Target("git"))
        self.requests.add(Request("git", None, 200, 0, 0, 0, path=request.path))
        latency = draw.take("latency")
        if latency:
            await self._api.pause(latency.duration())
        if draw.take("dropped") or draw.take("hang"):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if draw.take("bad_gateway"):
            return web.Response(status=502)
        return await self._git.serve(request, request.match_info["path"])
