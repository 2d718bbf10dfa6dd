"""One small boundary to a database's HTTP: an answer, or StoreUnavailable; never a raw library error.

Blocking, and called from a store's own threads. Nothing is retried or buffered here: the caller gets the outcome.
"""

import gzip
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import urllib3

from contract.errors import StoreUnavailable

RETRY_AFTER_MAX_S = 3600.0
DETAIL_MAX_CHARS = 500
ERROR_MAX_BYTES = 64 * 1024


class Answer(NamedTuple):
    """What the server said: `detail` in its own words, short; `structured` when those were a database's JSON error."""

    status: int
    detail: str = ""
    structured: bool = False
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the server did it."""
        return 200 <= self.status < 300


def answer_of(status: int, body: bytes | str, retry_after: str | None, wall: Callable[[], float] = time.time) -> Answer:
    """An answer from the parts of an HTTP response; understands the error bodies of InfluxDB 1, 2 and 3."""
    if 200 <= status < 300:
        return Answer(status)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    structured = False
    try:
        parsed = json.loads(text[:ERROR_MAX_BYTES])
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        words = [parsed.get(key) for key in ("error", "message", "data")]
        said = [word if isinstance(word, str) else json.dumps(word, ensure_ascii=False) for word in words if word]
        if said:
            text, structured = ": ".join(said), True
    elif "<html" in text.lower():
        text = " ".join(re.findall(r"<title>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)) or "an HTML page"
    return Answer(status, text.strip()[:DETAIL_MAX_CHARS], structured, _seconds(retry_after, wall))


def _seconds(retry_after: str | None, wall: Callable[[], float]) -> float | None:
    """Retry-After as RFC 9110 allows it, in seconds from now, at most an hour; None when absent or not understood."""
    if not retry_after:
        return None
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S) if wait_s == wait_s else None  # noqa: PLR0124  NaN is not itself


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what the HTTP library raises inside into StoreUnavailable."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreUnavailable(f"{url}: {error}") from error


def unavailable(url: str, answer: Answer) -> StoreUnavailable:
    """The error for an answer that says nothing about the points themselves."""
    what = {
        401: "refuses our credentials (401)",
        403: "does not allow this to our credentials (403)",
        404: "has no such database, bucket or API any more (404)",
    }.get(answer.status, f"answered {answer.status}")
    return StoreUnavailable(f"{url} {what}: {answer.detail}", retry_after_s=answer.retry_after_s)


def compress(body: bytes) -> bytes:
    """gzip level 1: nine times smaller for 1.4 ms per 5,000 lines; more effort buys little."""
    return gzip.compress(body, 1, mtime=0)


class Http:
    """Plain requests to one server over kept-alive connections; safe to use from several threads."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str], timeout_s: float, ca_file: Path | None, connections: int = 4
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = dict(headers)
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            retries=False,
            timeout=urllib3.Timeout(total=timeout_s),
            ca_certs=str(ca_file) if ca_file else None,
        )

    def post(self, path: str, parameters: Mapping[str, str], body: bytes, *, zipped: bool = False) -> Answer:
        """POST `body` and return what the server said about it."""
        headers = self._headers | {"Content-Type": "text/plain; charset=utf-8"}
        if zipped:
            body = compress(body)
            headers["Content-Encoding"] = "gzip"
        with reaching(self.url):
            response = self._pool.request(
                "POST", f"{self.url}{path}?{urlencode(parameters)}", body=body, headers=headers, redirect=False
            )
            return answer_of(response.status, response.data, response.headers.get("Retry-After"))

    def form(self, path: str, fields: Mapping[str, str]) -> tuple[Answer, bytes]:
        """POST a form and return the answer with its whole body. For queries, whose text may outgrow an address."""
        headers = self._headers | {"Content-Type": "application/x-www-form-urlencoded"}
        with reaching(self.url):
            response = self._pool.request(
                "POST", f"{self.url}{path}", body=urlencode(fields), headers=headers, redirect=False
            )
            return answer_of(response.status, response.data, response.headers.get("Retry-After")), response.data

    def lines(self, path: str, fields: Mapping[str, str]) -> Iterator[bytes]:
        """POST a form and yield the answer line by line, never holding all of it. Raises StoreUnavailable."""
        headers = self._headers | {"Content-Type": "application/x-www-form-urlencoded"}
        with reaching(self.url):
            response = self._pool.request(
                "POST", f"{self.url}{path}", body=urlencode(fields), headers=headers, preload_content=False
            )
            try:
                if response.status != 200:
                    raise unavailable(self.url, answer_of(response.status, response.read(ERROR_MAX_BYTES), None))
                rest = b""
                for piece in response.stream(1 << 20):
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from whole
                if rest:
                    yield rest
            finally:
                response.close()  # what was not read would confuse the connection's next user

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()
