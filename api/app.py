"""The gateway over HTTP, and its lifespan."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from api.access import Keyring
from api.cache.database import CacheUnavailable
from api.http import health, webhook
from api.http.endpoint import GraphQLEndpoint
from api.http.graphiql import assets_router, installed_assets, page
from api.http.rate import Rate
from api.settings import Settings
from api.wiring import Parts, open_parts

log = logging.getLogger(__name__)

_USUAL_RATE = 3_000  # requests of a key in a minute
_GRAPHQL = {"/graphql", "/graphql/"}


class Application:
    """GraphQL goes straight to its endpoint, all else through FastAPI."""

    def __init__(self, others: FastAPI) -> None:
        self.state: State = others.state
        self._others = others
        self.graphql: GraphQLEndpoint | None = None  # while the server runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.graphql and scope["type"] == "http" and scope["path"] in _GRAPHQL:
            await self.graphql(scope, receive, send)
        else:
            await self._others(scope, receive, send)


def create_app(settings: Settings) -> Application:
    """The gateway over HTTP. Its parts live as long as the server runs."""
    assets = installed_assets()
    html = page(assets) if settings.graphiql else None

    @asynccontextmanager
    async def lifespan(others: FastAPI) -> AsyncIterator[None]:
        async with open_parts(settings) as parts:
            others.state.parts = parts
            others.state.readiness = health.Readiness(parts)
            others.state.deliveries = webhook.Deliveries()
            app.graphql = GraphQLEndpoint(
                parts.gateway,
                parts.writer,
                page=html,
                keyring=Keyring(settings.api_keys),
                rate=_rate(parts),
                introspection=settings.introspection,
            )
            await _warn(parts)
            async with parts.gateway.cache.watch:
                yield

    others = FastAPI(
        title="Annoris Gateway", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    others.include_router(assets_router(assets))
    others.include_router(health.router)
    others.include_router(webhook.router)
    app = Application(others)
    return app


def _rate(parts: Parts) -> Rate | None:
    settings = parts.settings
    usual = _USUAL_RATE if settings.api_keys else None
    most = settings.rate_limit_per_minute or usual
    return Rate(most, parts.doorbell.count) if most else None


async def _warn(parts: Parts) -> None:
    try:
        for shortcoming in await parts.gateway.cache.shortcomings():
            log.warning("%s", shortcoming)
    except CacheUnavailable as error:
        log.warning("%s Reads come from GitHub until it is back.", error)
