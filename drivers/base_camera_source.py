"""What a camera's source may be, and how it is shown: pure, so that a config is checked without touching anything.

A source never carries a secret. User name and password stand beside it in the config; only the capture process ever
puts them together, and whatever is shown, logged or published comes from `Source.shown`.
"""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, quote, urlsplit

MAX_CHARS = 2048
_PORTS = {"rtsp": 554, "http": 80}
_SECRET_KEYS = {"password", "passwd", "pwd", "pass", "pw", "loginpas", "token", "auth"}


class SourceKind(StrEnum):
    """How frames come."""

    RTSP = "rtsp"
    HTTP = "http"
    V4L2 = "v4l2"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Source:
    """A source taken apart. host, port: of rtsp and http. path: of a device or file, else what follows the host."""

    kind: SourceKind
    text: str
    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """The source for people and logs: without the query, in which some cameras expect credentials."""
        if self.host:
            return f"{self.kind.value}://{self.address}{self.path.partition('?')[0]}"
        return self.path

    @property
    def address(self) -> str:
        """host:port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def takes_placeholders(self) -> bool:
        """The query names {password}: this camera wants credentials there."""
        return "{password}" in self.path.partition("?")[2]

    def url(self, username: str, password: str) -> str:
        """What opens it, credentials included: never to be shown."""
        if not self.host:
            return self.path
        name, secret = quote(username, safe=""), quote(password, safe="")
        if self.takes_placeholders:
            path = self.path.replace("{username}", name).replace("{password}", secret)
            return f"{self.kind.value}://{self.address}{path}"
        user = f"{name}:{secret}@" if username else ""
        return f"{self.kind.value}://{user}{self.address}{self.path}"


def parse_source(text: str) -> Source:
    """The source in `text`. Raises ValueError that says what is expected, and repeats no secret."""
    if not text or len(text) > MAX_CHARS or not text.isprintable():
        raise ValueError("expected rtsp://HOST/PATH, http://HOST/PATH, /dev/videoN or a video file")
    if "://" not in text:
        if ":" in text.partition("@")[0] and "@" in text:
            raise ValueError("looks like the address of a camera on the network: expected rtsp:// or http:// before it")
        return Source(_local_kind(text), text, "", 0, text)
    try:
        parts = urlsplit(text)
        scheme, port = parts.scheme, parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        # Not repeated: urllib names the part that it does not understand, which may be a password.
        raise ValueError("not a valid URL: check host name and brackets, and that the port is a number") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a user name or password does not belong into the source: put them under 'username' and 'password_file'"
        )
    if scheme not in _PORTS:
        raise ValueError(
            f"found {scheme[:20]}://, expected rtsp:// or http:// for a camera on the network, "
            "/dev/videoN for one on this machine, or a video file"
        )
    if not parts.hostname:
        raise ValueError(f"expected a host name or address after {scheme}://")
    secret = [key for key, value in parse_qsl(parts.query) if key.lower() in _SECRET_KEYS and value != "{password}"]
    if secret:
        raise ValueError(
            f"the query's {secret[0]!r} carries a secret: write {secret[0]}={{password}} "
            "and put the password under 'password_file'"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Source(SourceKind(scheme), text, parts.hostname, port or _PORTS[scheme], path)


def _local_kind(path: str) -> SourceKind:
    return SourceKind.V4L2 if path.startswith("/dev/") else SourceKind.FILE
