"""GraphiQL, the page that GET /graphql shows people: its HTML, its default queries, its files."""

from api.http.graphiql.assets import assets_router, installed_assets
from api.http.graphiql.page import PAGE_HEADERS, page

__all__ = ["PAGE_HEADERS", "assets_router", "installed_assets", "page"]
