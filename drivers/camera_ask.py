"""One question to a camera on the network, in its own protocol: DESCRIBE over RTSP, or GET over HTTP.

A client of a few lines instead of a library: it must say what the camera said, also when that is nonsense. It takes at
most 16 KiB, waits no longer than it is told, and gives credentials only when it is asked for them.
"""

import errno
import hashlib
import os
import re
import secrets
import socket
import time
from base64 import b64encode
from dataclasses import dataclass

from drivers.base_camera_source import Source, SourceKind

MAX_REPLY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks. Empty: nobody."""

    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a camera answered. Header names are in lower case; one may come more than once."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str:
        """The first header of that name, or nothing."""
        return next((value for key, value in self.headers if key == name), "")


class NotOurProtocolError(ValueError):
    """What came back is no reply."""


class SilentError(TimeoutError):
    """The connection was taken, and then nothing came."""


def ask(source: Source, login: Login, deadline_s: float) -> Reply:
    """The reply to one request, or to the second when the first was answered with 401.

    Raises OSError (SilentError is one), NotOurProtocolError.
    """
    rtsp = source.kind is SourceKind.RTSP
    method, protocol = ("DESCRIBE", "RTSP/1.0") if rtsp else ("GET", "HTTP/1.0")
    path = source.path
    if source.takes_placeholders:
        path = "/" + source.url(login.username, login.password).partition("://")[2].partition("/")[2]
    target = f"rtsp://{source.address}{path}" if rtsp else path
    common = {"User-Agent": "weinao", "Accept": "application/sdp" if rtsp else "*/*", "Host": source.address}
    request = f"{method} {target} {protocol}"
    reply = _exchange(source, request, common | {"CSeq": "1"}, deadline_s)
    if reply.status != 401 or not login.username or source.takes_placeholders:
        return reply
    challenges = [value for key, value in reply.headers if key == "www-authenticate"]
    answer = next((text for text in (_authorize(one, method, target, login) for one in challenges) if text), "")
    if not answer:
        return reply
    return _exchange(source, request, common | {"CSeq": "2", "Authorization": answer}, deadline_s)


def _exchange(source: Source, request: str, headers: dict[str, str], deadline_s: float) -> Reply:
    text = "\r\n".join([request, *(f"{key}: {value}" for key, value in headers.items()), "", ""])
    data = b""
    with socket.create_connection((source.host, source.port), _left_s(deadline_s)) as connection:
        try:
            connection.sendall(text.encode())
            while len(data) < MAX_REPLY_BYTES and not _complete(data):
                connection.settimeout(_left_s(deadline_s))
                chunk = connection.recv(4096)
                if not chunk:
                    break
                data += chunk
        except TimeoutError:
            if not data:
                raise SilentError from None
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return _parse(data, source.kind.value.upper())


def _left_s(deadline_s: float) -> float:
    return max(0.05, deadline_s - time.monotonic())


def _complete(data: bytes) -> bool:
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap:
        return False
    length = re.search(rb"^content-length:\s*(\d{1,6})\s*$", head, re.MULTILINE | re.IGNORECASE)
    # A stream has no length; its headers are enough.
    return length is None or len(body) >= int(length[1])


def _parse(data: bytes, protocol: str) -> Reply:
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    status = re.fullmatch(rf"{protocol}/\d\.\d (\d{{3}})(?: (.*))?", first)
    if status is None:
        raise NotOurProtocolError
    headers = [(key.strip().lower(), value.strip()) for key, _, value in (line.partition(":") for line in rest)]
    return Reply(int(status[1]), clean(status[2] or ""), headers, body)


def clean(text: str) -> str:
    """What a camera said, fit for a log."""
    return "".join(char for char in text if char.isascii() and char.isprintable())[:40]


def _authorize(challenge: str, method: str, target: str, login: Login) -> str:
    """The answer to a challenge: RFC 7617 (Basic) or RFC 2617 (Digest, MD5), else nothing."""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic":
        return "Basic " + b64encode(f"{login.username}:{login.password}".encode()).decode()
    if scheme.lower() != "digest":
        return ""
    said = {key.lower(): quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', rest)}
    if said.get("algorithm", "MD5").upper() != "MD5":
        return ""
    realm, nonce = said.get("realm", ""), said.get("nonce", "")
    owner = _md5(f"{login.username}:{realm}:{login.password}")
    request = _md5(f"{method}:{target}")
    fields = [f'username="{login.username}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"']
    if "auth" in re.split(r"[,\s]+", said.get("qop", "")):
        ours = secrets.token_hex(8)
        response = _md5(f"{owner}:{nonce}:00000001:{ours}:auth:{request}")
        fields += ["qop=auth", "nc=00000001", f'cnonce="{ours}"']
    else:
        response = _md5(f"{owner}:{nonce}:{request}")
    if "opaque" in said:
        fields.append(f'opaque="{said["opaque"]}"')
    return "Digest " + ", ".join([*fields, f'response="{response}"'])


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # what the cameras' protocol asks for
