"""What is said when a camera gives no picture: against peers that refuse, lie, or say nothing."""

import hashlib
import re
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cameras import SayingPeer, SilentPeer, make_video
from servers import free_port

from drivers.base_camera_source import parse_source
from drivers.camera_ask import MAX_REPLY_BYTES, Login
from drivers.camera_trouble import Trouble, explain

ADMIN = Login("admin", "hunter2")
SDP = "v=0\r\nm=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\n"


def rtsp(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"RTSP/1.0 {status}", "CSeq: 1", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


def said_of(answer: bytes, *more: bytes, scheme: str = "rtsp", login: Login = ADMIN, udp: bool = False) -> Trouble:
    with SayingPeer(answer, *more) as peer:
        trouble = explain(parse_source(f"{scheme}://127.0.0.1:{peer.port}/cam?x=1"), login, 2.0, udp=udp)
    assert "hunter2" not in trouble.text
    return Trouble(trouble.text.replace(str(peer.port), "PORT"), trouble.password)


@pytest.mark.parametrize(
    ("answer", "text", "password"),
    [
        (rtsp("401 Unauthorized"), "rtsp://127.0.0.1:PORT/cam refuses the user name or the password", True),
        (rtsp("403 Forbidden"), "forbids this user to see the stream", True),
        (rtsp("404 Not Found"), "the camera has no stream at rtsp://127.0.0.1:PORT/cam", False),
        (rtsp("503 Service Unavailable"), "the camera is busy (503)", False),
        (rtsp("302 Moved", "Location: file:///etc/passwd"), "sends us elsewhere (302)", False),
        (rtsp("461 Unsupported \x1b[2J\x00Transport"), "answers 461 Unsupported [2JTransport", False),
        (
            rtsp("200 OK", body=SDP.format(codec="X-SECRET")),
            "sends video as X-SECRET, which is not decoded here",
            False,
        ),
        (rtsp("200 OK", body=SDP.format(codec="H264")), "offers H264, but no picture came in time", False),
        (rtsp("200 OK", body="v=0\r\nm=audio 0 RTP/AVP 0\r\n"), "offers no video", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "127.0.0.1:PORT answers, but not in RTSP", False),
        (bytes(range(256)) * 100, "answers, but not in RTSP", False),
        (b"HTTP/1.0 200\xff\r\n\r\n", "answers, but not in RTSP", False),
    ],
)
def test_rtsp(answer: bytes, text: str, password: bool) -> None:  # noqa: FBT001
    trouble = said_of(answer)
    assert text in trouble.text
    assert trouble.password is password


def test_no_login_and_udp_have_their_own_words() -> None:
    assert "set 'username' and 'password_file'" in said_of(rtsp("401 Unauthorized"), login=Login()).text
    assert "try transport: tcp" in said_of(rtsp("200 OK", body=SDP.format(codec="H264")), udp=True).text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>",
            "is a web page, not a video stream",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", "answers with image/jpeg, in which no picture"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\n\r\n", "refuses the user name or the password"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "the camera answers 500 Oops"),
    ],
)
def test_http(answer: bytes, text: str) -> None:
    assert text in said_of(answer, scheme="http").text


def test_basic_credentials_are_given_when_asked_for() -> None:
    with SayingPeer(rtsp("401 No", 'WWW-Authenticate: Basic realm="cam"'), rtsp("404 Not Found")) as peer:
        explain(parse_source(f"rtsp://127.0.0.1:{peer.port}/cam"), ADMIN, 2.0)
    assert b"Authorization" not in peer.asked[0]
    assert b"Authorization: Basic " + b64encode(b"admin:hunter2") in peer.asked[1]


@pytest.mark.parametrize("qop", ["", ', qop="auth,auth-int", opaque="xyz"'])
def test_a_digest_is_what_the_camera_expects(qop: str) -> None:
    challenge = f'WWW-Authenticate: Digest realm="IP Camera(A1)", nonce="abc", stale="FALSE"{qop}'
    with SayingPeer(
        rtsp("401 No", 'WWW-Authenticate: Digest realm="z", algorithm=SHA-256, nonce="n"', challenge)
    ) as peer:
        explain(parse_source(f"rtsp://127.0.0.1:{peer.port}/cam"), ADMIN, 2.0)
    sent = peer.asked[1].decode()
    said = dict(re.findall(r'(\w+)="?([^",\r]+)"?', sent[sent.index("Digest ") :]))
    uri = f"rtsp://127.0.0.1:{peer.port}/cam"
    assert (said["username"], said["realm"], said["uri"]) == ("admin", "IP Camera(A1)", uri)

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    middle = f":abc:00000001:{said['cnonce']}:auth:" if qop else ":abc:"
    expected = md5(f"{md5('admin:IP Camera(A1):hunter2')}{middle}{md5(f'DESCRIBE:{uri}')}")
    assert said["response"] == expected
    assert "hunter2" not in sent


def test_nobody_there_and_somebody_silent() -> None:
    port = free_port()
    for scheme in ("rtsp", "http"):
        text = explain(parse_source(f"{scheme}://127.0.0.1:{port}/a"), ADMIN, 1.0).text
        assert text == (
            f"127.0.0.1:{port} refuses the connection: is that the camera's port, and is {scheme.upper()} switched on?"
        )
    assert "cannot be resolved" in explain(parse_source("rtsp://no-such-camera.invalid/a"), ADMIN, 1.0).text
    with SilentPeer() as peer:
        began_s = time.monotonic()
        text = explain(parse_source(f"rtsp://127.0.0.1:{peer.port}/a"), ADMIN, 0.3).text
        assert "takes the connection and says nothing" in text
        assert time.monotonic() - began_s < 2
    assert "closed the connection" in said_of(b"").text


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    endless = b"RTSP/1.0 200 OK\r\nX: " + b"a" * (50 * MAX_REPLY_BYTES)
    assert "offers no video" in said_of(endless).text


def test_files_and_devices(tmp_path: Path) -> None:
    def said(path: Path | str) -> str:
        return explain(parse_source(str(path)), Login(), 1.0).text

    assert said(tmp_path / "none.mp4") == f"{tmp_path}/none.mp4 is not there: check the path"
    assert said(tmp_path) == f"{tmp_path} is a folder"
    note = tmp_path / "note.mp4"
    note.write_text("no video")
    assert "is no video file that can be read here" in said(note)
    assert "is no video file" in said(make_video(tmp_path / "a.avi", frames=1))  # asked after OpenCV had failed on it
    assert said("/dev/video99").startswith("/dev/video99 is not there: is the camera plugged in? here are: ")
    assert said("/dev/null").startswith("/dev/null is no video device. here are: ")
