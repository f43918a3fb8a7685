"""The FastAPI application and its lifespan."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.cache.database import CacheUnavailable
from api.http import health, webhook
from api.http.endpoint import GraphQLEndpoint
from api.http.graphiql import assets_router, installed_assets, page
from api.settings import Settings
from api.wiring import Parts, open_parts

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The gateway over HTTP. Its parts live as long as the server runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_parts(settings) as parts:
            app.state.parts = parts
            app.state.readiness = health.Readiness(parts)
            await _warn(parts)
            yield

    app = FastAPI(
        title="Annoris Gateway", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    assets = installed_assets()
    app.include_router(GraphQLEndpoint(page(assets)), prefix="/graphql")
    app.include_router(assets_router(assets))
    app.include_router(health.router)
    app.include_router(webhook.router)
    return app


async def _warn(parts: Parts) -> None:
    try:
        for shortcoming in await parts.gateway.cache.shortcomings():
            log.warning("%s", shortcoming)
    except CacheUnavailable as error:
        log.warning("%s Reads come from GitHub until it is back.", error)
