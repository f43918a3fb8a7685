"""`git clone` and `git push` over HTTP: git's own http-backend, run as a CGI program."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

CHUNK = 64 * 1024
PATIENCE = 600.0
"""Seconds that a single clone or push may take."""

TERM_PATIENCE = 5.0
"""Seconds that git gets to clean up when a request is over before it is."""

HEADER_LIMIT = 64 * 1024


class GitHttp:
    """Serves one repository. `on_push` is called after every push, whatever its outcome."""

    def __init__(self, repository: Path, on_push: Callable[[], None]) -> None:
        self._repository = repository
        self._on_push = on_push

    async def serve(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer one request; `path` is what follows the repository, for instance /info/refs."""
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=self._environment(request, path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=HEADER_LIMIT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._exchange(process, request)
        finally:
            # Reached also when the client hangs up or the server stops: no git is left behind.
            if process.returncode is None:
                await _end(process)
            if path.endswith("git-receive-pack"):
                self._on_push()

    def _environment(self, request: web.Request, path: str) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self._repository),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "git-user",
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        if "Git-Protocol" in request.headers:
            environment["GIT_PROTOCOL"] = request.headers["Git-Protocol"]
        # The body arrives here unchunked and unzipped, so its announced length and coding no
        # longer hold: git reads until the end of its input.
        return environment

    async def _exchange(
        self, process: asyncio.subprocess.Process, request: web.Request
    ) -> web.StreamResponse:
        feeding = asyncio.ensure_future(self._feed(process, request))
        try:
            if process.stdout is None:
                msg = "git http-backend was started without a pipe"
                raise RuntimeError(msg)
            status, headers = await _read_headers(process.stdout)
            response = web.StreamResponse(status=status, headers=headers)
            response.enable_chunked_encoding()
            await response.prepare(request)
            while chunk := await process.stdout.read(CHUNK):
                await response.write(chunk)
            # The push is over when git is, not when it closed its output.
            await process.wait()
            await response.write_eof()
            return response
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, process: asyncio.subprocess.Process, request: web.Request) -> None:
        if process.stdin is None:
            return
        # git may answer and leave before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            async for chunk in request.content.iter_chunked(CHUNK):
                process.stdin.write(chunk)
                await process.stdin.drain()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.close()
            await process.stdin.wait_closed()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop git, gently first: one that is killed leaves its lock on the branch behind."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(TERM_PATIENCE):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise


async def _read_headers(stdout: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """The CGI answer's head. Without any, git failed to start: 500."""
    status, headers = 200, {}
    started = False
    while line := (await stdout.readline()).strip():
        started = True
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers[name] = value.strip()
    return (status, headers) if started else (500, {"Content-Type": "text/plain"})
