"""An application behind a real port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from api.http.protocol import BoundedProtocol


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """Run the application in a thread while the block lasts; yields its port on 127.0.0.1."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=BoundedProtocol, log_config=None, log_level="warning")
    )
    listener = server.config.bind_socket()
    listener.listen()  # so that early requests wait for the server instead of being refused
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
