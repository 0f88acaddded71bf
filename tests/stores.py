"""Object stores on the loopback interface: moto behind a proxy that watches and misbehaves."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEYS = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on the loopback interface; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  a client may go away
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Answering(BaseHTTPRequestHandler):
    """Answers GET, HEAD and PUT with what ``answer`` gives: status, headers, body."""

    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        status, headers, body = self.answer(self.rfile.read(length))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the base class calls it so
    do_PUT = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class Bucket:
    """An S3 bucket called masks.

    Attributes
    ----------
    status : for each pattern, statuses to answer a matching request with before anything else;
        0 lets one pass.
    asked : the method and the path of every request.
    unsigned : how many requests carried no signature.
    """

    def __init__(self) -> None:
        self.status: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str]] = []
        self.unsigned = 0

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def put(self, files: dict[str, bytes]) -> None:
        """Store keys, without the way over HTTP."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key, value in files.items():
            backend.put_object("masks", key, value)

    def chunks_asked(self, pattern: str = r"/(c\.)?\d+([./]\d+)*$") -> list[str]:
        """The keys of chunks that were asked for."""
        return [path for _, path in self.asked if re.search(pattern, path)]

    def pages_asked(self) -> int:
        """How many pages of keys were asked for, below an array."""
        return sum("list-type" in path and "zarr" in path for _, path in self.asked)


@contextmanager
def bucket_server() -> Iterator[Bucket]:
    """A bucket that environment variables lead to, as they do to a real one."""
    pytest.importorskip("obstore")
    moto_server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    backend = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    backend.start()
    host, port = backend.get_host_and_port()
    bucket = Bucket()

    class Proxy(Answering):
        def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            bucket.asked.append((self.command, self.path))
            if "Authorization" not in self.headers:
                bucket.unsigned += 1
            for pattern, statuses in bucket.status.items():
                if statuses and re.search(pattern, self.path) and (status := statuses.pop(0)):
                    return status, {}, b""
            upstream = HTTPConnection(host, port)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                found = upstream.getresponse()
                content = found.read()
            finally:
                upstream.close()
            drop = ("transfer-encoding", "connection", "server", "date")
            headers = {n: v for n, v in found.getheaders() if n.lower() not in drop}
            return found.status, headers, content

    try:
        with serving(Proxy) as address, pytest.MonkeyPatch.context() as patch:
            for name, value in KEYS.items():
                patch.setenv(name, value)
            patch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
            boto3.client("s3").create_bucket(Bucket="masks")
            bucket.reset()
            yield bucket
    finally:
        backend.stop()
