"""A cache that somebody else has filled: the gateway that reads it has nothing in its memory."""

from api.settings import load
from api.wiring import open_parts
from sandbox.github import GitHub


async def fill(github: GitHub, database_url: str) -> None:
    """Bring the cache to the master's head, as a worker does, in patience."""
    environment = {
        "DATABASE_URL": database_url,
        "DATABASE_TIMEOUT_SECONDS": "30",
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
        "MASTER_TIMEOUT_SECONDS": "30",
    }
    async with open_parts(load(environment)) as parts:
        await parts.reconciler.run()
