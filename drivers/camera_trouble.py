"""Why a camera gives no picture, in one sentence a technician can act on.

OpenCV says only that it could not open something. So after a failure the capture process asks once itself: it looks at
the device file, or connects and sends one DESCRIBE (RTSP) or GET (HTTP), with the credentials when the camera wants
them. Nothing here waits longer than it is told, takes more than 16 KiB, or repeats a secret. Runs in the capture
process, where a name server that does not answer delays nobody else.
"""

import errno
import fcntl
import grp
import os
import re
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from drivers.base_camera_source import Source, SourceKind
from drivers.camera_ask import Login, NotOurProtocolError, Reply, SilentError, ask, clean

# VIDIOC_QUERYCAP of linux/videodev2.h: 104 bytes; the device's capabilities stand at 88, two bits say capture.
_QUERYCAP, _QUERYCAP_BYTES, _DEVICE_CAPS_AT, _CAPTURE = 0x80685600, 104, 88, 0x00001001
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_DECODED = {"H264", "H265", "JPEG", "MP4V-ES", "VP8", "VP9", "AV1", "MPV"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One sentence, and whether it is the password: then asking often may lock the account."""

    text: str
    password: bool = False


def explain(source: Source, login: Login, timeout_s: float, *, udp: bool = False) -> Trouble:
    """Why `source` could not be opened."""
    match source.kind:
        case SourceKind.V4L2:
            return Trouble(_device_trouble(source.path))
        case SourceKind.FILE:
            return Trouble(_file_trouble(source.path))
        case _:
            return _network_trouble(source, login, timeout_s, udp=udp)


def _network_trouble(source: Source, login: Login, timeout_s: float, *, udp: bool) -> Trouble:
    where, protocol = source.address, source.kind.value.upper()
    try:
        return _status_trouble(ask(source, login, time.monotonic() + timeout_s), source, login, udp=udp)
    except NotOurProtocolError:
        text = f"{where} answers, but not in {protocol}: does that port belong to another service?"
    except OSError as error:
        text = _connection_trouble(error, source, timeout_s)
    return Trouble(text)


def _connection_trouble(error: OSError, source: Source, timeout_s: float) -> str:
    where, protocol = source.address, source.kind.value.upper()
    match error:
        case socket.gaierror():
            return f"the name {source.host!r} cannot be resolved: check the spelling and this machine's DNS"
        case ConnectionRefusedError():
            return f"{where} refuses the connection: is that the camera's port, and is {protocol} switched on?"
        case SilentError():
            return f"{where} takes the connection and says nothing: restart the camera if that lasts"
        case TimeoutError():
            return f"{where} does not answer within {timeout_s:g} s: is the camera powered and on this network?"
        case OSError(errno=code) if code in _UNREACHABLE:
            return f"{where} cannot be reached ({os.strerror(code)}): check cable, VLAN and address"
        case _:
            return f"{where} closed the connection ({error.strerror or 'reset'}): restart the camera if that lasts"


def _status_trouble(reply: Reply, source: Source, login: Login, *, udp: bool) -> Trouble:
    shown = source.shown
    match reply.status:
        case 401 if not login.username:
            text = f"{shown} wants a user name and password: set 'username' and 'password_file'"
        case 401:
            text = f"{shown} refuses the user name or the password"
        case 403:
            text = f"{shown}: the camera forbids this user to see the stream"
        case 404:
            text = f"the camera has no stream at {shown}: its manual says which path it uses"
        case 453 | 503:
            text = f"{shown}: the camera is busy ({reply.status}): are too many others looking at it?"
        case status if 300 <= status < 400:
            text = f"{shown}: the camera sends us elsewhere ({status}): write the address it means"
        case 200:
            text = _silent_trouble(reply, source, udp=udp)
        case status:
            text = f"{shown}: the camera answers {status} {reply.reason}".rstrip()
    return Trouble(text, password=reply.status in {401, 403})


def _silent_trouble(reply: Reply, source: Source, *, udp: bool) -> str:
    """It answers, and yet there was no picture."""
    if source.kind is SourceKind.HTTP:
        kind = reply.header("content-type").partition(";")[0].strip().lower()
        if kind.startswith("text/"):
            return f"{source.shown} is a web page, not a video stream: the manual says which path is"
        return f"{source.shown} answers with {clean(kind) or 'something'}, in which no picture was found"
    video = re.search(r"^m=video .*?(?=^m=|\Z)", reply.body, re.MULTILINE | re.DOTALL)
    if video is None:
        return f"{source.shown} offers no video: choose another path"
    found = re.search(r"^a=rtpmap:\d+ ([\w.-]{1,20})/", video[0], re.MULTILINE)
    codec = found[1].upper() if found else ""
    if codec and codec not in _DECODED:
        return f"{source.shown} sends video as {codec}, which is not decoded here: set the camera to H.264 or H.265"
    if udp:
        return f"{source.shown} answers, but no picture came over UDP: try transport: tcp"
    return f"{source.shown} offers {codec or 'video'}, but no picture came in time: is the network too slow?"


def _device_trouble(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return _open_trouble(path, error)
    try:
        about = bytearray(_QUERYCAP_BYTES)
        fcntl.ioctl(fd, _QUERYCAP, about)
    except OSError:
        return f"{path} is no video device. {_devices_hint()}"
    finally:
        os.close(fd)
    if not int.from_bytes(about[_DEVICE_CAPS_AT : _DEVICE_CAPS_AT + 4], "little") & _CAPTURE:
        return f"{path} is a video device that takes no pictures (many cameras have two): {_devices_hint()}"
    return f"{path} is there and gives no picture: is another program using it ('fuser -v {path}' names it)?"


def _file_trouble(path: str) -> str:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        return _open_trouble(path, error)
    return f"{path} is no video file that can be read here: H.264 in MP4, or MJPEG in AVI, can"


def _open_trouble(path: str, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV | errno.ENOTDIR:
            hint = f" is the camera plugged in? {_devices_hint()}" if path.startswith("/dev/") else " check the path"
            return f"{path} is not there:{hint}"
        case errno.EACCES | errno.EPERM:
            return f"{path} may not be opened by this user: join its group {_group_of(path)!r}, then log in again"
        case errno.EBUSY:
            return f"{path} is in use by another program: 'fuser -v {path}' names it"
        case errno.EISDIR:
            return f"{path} is a folder"
        case _:
            return f"{path} cannot be opened: {error.strerror}"


def _devices_hint() -> str:
    try:
        there = sorted(str(path) for path in Path("/dev").glob("video*") if stat.S_ISCHR(path.stat().st_mode))
    except OSError:
        there = []
    return f"here are: {', '.join(there) or 'none'}"


def _group_of(path: str) -> str:
    try:
        return grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "video"
