"""An S3 in this process: moto's, behind a door that refuses, delays or cuts requests when it is told to."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET, BUCKET = "test", "testtest", "lake"


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Says nothing."""


class S3Server:
    """One server on loopback. `fault` is asked before each request, and says what is answered instead, if anything:
    a status, as 503; `delay` seconds pass first. `requests` are the methods and paths that came.
    """

    def __init__(self) -> None:
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.status: int | None = None
        self.delay = 0.0
        self.requests: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        time.sleep(self.delay)
        if self.status is not None:
            body = b"<Error><Code>ServiceUnavailable</Code><Message>Please reduce your request rate.</Message></Error>"
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start_response(f"{self.status} Slow Down", head)
            return [body]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with the bucket BUCKET, for the account KEY and SECRET."""
    server = S3Server()
    server.start()
    try:
        system = fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            endpoint_override=server.url.partition("://")[2],
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        system.create_dir(BUCKET)
        server.requests.clear()
        yield server
    finally:
        server.stop()


def s3_settings(server: S3Server, prefix: str) -> dict[str, Any]:
    """The settings of a lake in that bucket."""
    return {
        "parquet_dir": f"s3://{BUCKET}/{prefix}",
        "parquet_s3_endpoint": server.url,
        "parquet_s3_region": "us-east-1",
        "parquet_s3_access_key": KEY,
        "parquet_s3_secret_key": SECRET,
    }
