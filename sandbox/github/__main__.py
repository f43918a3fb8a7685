"""Run the stand-in alone: python -m sandbox.github --repo PATH --port N --token T."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from sandbox.github import DEFAULT_TOKEN, GitHub, Identity, Limits, Webhook


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.github", description=__doc__)
    parser.add_argument("--repo", type=Path, required=True, help="the bare repository to serve")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--token", default=DEFAULT_TOKEN, help="the token that may write")
    parser.add_argument("--login", default="annoris-sandbox", help="whose token it is")
    parser.add_argument("--name", default="annoris/documents", help="owner/name")
    parser.add_argument("--branch", default="main")
    parser.add_argument("--webhook-url")
    parser.add_argument("--webhook-secret")
    parser.add_argument("--no-limits", action="store_true", help="never reach a rate limit")
    return parser.parse_args()


async def serve(arguments: argparse.Namespace) -> None:
    webhook = (
        Webhook(arguments.webhook_url, arguments.webhook_secret) if arguments.webhook_url else None
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    github = GitHub(
        arguments.repo,
        name=arguments.name,
        branch=arguments.branch,
        tokens={arguments.token: Identity(arguments.login, name="Annoris Sandbox")},
        host=arguments.host,
        port=arguments.port,
        webhook=webhook,
        limits=Limits.off() if arguments.no_limits else None,
    )
    async with github:
        sys.stdout.write(f"{github.url}/graphql  {github.clone_url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(_arguments()))
