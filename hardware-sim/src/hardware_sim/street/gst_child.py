"""The GStreamer half of a simulated camera: encodes H.264 and serves RTSP. Runs under Debian's own Python.

It is started as a file by another Python (gst.py) that cannot import `gi`, and imports nothing but `gi` and what Python
brings along. Events leave on stdout, one JSON object a line. It ends when stdin ends.

    probe                                                     {"ok": true}, or {"missing": [...]}
    encode WIDTH HEIGHT FPS FILE.mp4                          raw I420 frames on stdin
    clip HOST PORT PATH FILE.mp4 [USER PASSWORD]              from frame 0 to each client
    live HOST PORT PATH FPS [USER PASSWORD]                   messages on stdin, see `_Live.read`

Events: {"listening": PORT}, {"watched": true | false} (whether a live picture is wanted), {"first": NUMBER} (the frame
whose stream time is zero), {"ended": "ok" | REASON}.
"""

import json
import random
import struct
import sys
import threading
from typing import Any

ELEMENTS = {
    "x264enc": "gstreamer1.0-plugins-ugly",
    "h264parse": "gstreamer1.0-plugins-bad",
    "rtph264pay": "gstreamer1.0-plugins-good",
    "qtdemux": "gstreamer1.0-plugins-good",
    "mp4mux": "gstreamer1.0-plugins-good",
    "appsrc": "gstreamer1.0-plugins-base",
    "videoconvert": "gstreamer1.0-plugins-base",
}
# No B-frames and no look-ahead: a frame leaves the encoder as it enters it, and every key frame starts anew. The
# quantizer is constant, as a camera's encoder settles on one: what does not change looks the same each second.
X264 = "x264enc tune=zerolatency speed-preset={preset} pass=quant quantizer={quality} key-int-max={gop} threads=1"
HEADER = struct.Struct("<cIHH")
AHEAD_NS = 30_000_000
STALL, LOSS, SKEW = "stall", "loss", "skew"


def say(**event: Any) -> None:
    """One event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def load() -> tuple[Any, Any, Any]:
    """Gst, GstRtspServer, GLib; says what is missing and ends otherwise."""
    try:
        import gi  # type: ignore[import-not-found]

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]
    except (ImportError, ValueError) as error:
        say(missing=["python3-gi", "gir1.2-gst-rtsp-server-1.0"], why=str(error))
        sys.exit(3)
    Gst.init(None)
    missing = sorted({package for name, package in ELEMENTS.items() if Gst.ElementFactory.find(name) is None})
    if missing:
        say(missing=missing, why="GStreamer elements are missing")
        sys.exit(3)
    return Gst, GstRtspServer, GLib


def encode(width: int, height: int, fps: int, path: str) -> None:
    """Raw I420 frames on stdin become an MP4 file: frame n has the time n / fps, a key frame comes every second."""
    Gst, _, _ = load()  # noqa: N806 - a module
    x264 = X264.format(preset="veryfast", quality=23, gop=fps)
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    pipeline = Gst.parse_launch(
        f"appsrc name=src format=time block=true max-buffers=4 caps={caps} ! {x264} ! video/x-h264,profile=main"
        " ! h264parse ! mp4mux ! filesink name=sink"
    )
    pipeline.get_by_name("sink").set_property("location", path)
    source = pipeline.get_by_name("src")
    pipeline.set_state(Gst.State.PLAYING)
    size, number = width * height * 3 // 2, 0
    while len(data := sys.stdin.buffer.read(size)) == size:
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = number * Gst.SECOND // fps
        buffer.duration = Gst.SECOND // fps
        source.emit("push-buffer", buffer)
        number += 1
    source.emit("end-of-stream")
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    good = message is not None and message.type == Gst.MessageType.EOS
    say(ended="ok" if good else "the encoder failed", frames=number)
    sys.exit(0 if good else 1)


class Server:
    """One RTSP server with one path, on a GLib loop that ends with stdin."""

    def __init__(self, host: str, port: str, account: list[str]) -> None:
        self.gst, self.rtsp, self.glib = load()
        self.loop = self.glib.MainLoop()
        self.server = self.rtsp.RTSPServer()
        self.server.set_address(host)
        self.server.set_service(port)
        self.account = account
        if account:
            auth = self.rtsp.RTSPAuth()
            token = self.rtsp.RTSPToken()
            token.set_string("media.factory.role", "user")
            auth.add_basic(self.rtsp.RTSPAuth.make_basic(*account), token)
            self.server.set_auth(auth)

    def serve(self, path: str, factory: Any) -> None:
        """Serve until stdin ends."""
        if self.account:
            permissions = self.rtsp.RTSPPermissions()
            permissions.add_permission_for_role("user", "media.factory.access", True)
            permissions.add_permission_for_role("user", "media.factory.construct", True)
            factory.set_permissions(permissions)
        self.server.get_mount_points().add_factory(path, factory)
        if self.server.attach(None) == 0:
            say(ended="cannot listen there")
            sys.exit(1)
        say(listening=self.server.get_bound_port())
        self.loop.run()

    def end(self) -> None:
        """From any thread."""
        self.glib.idle_add(self.loop.quit)


class _Live:
    """One encoder for all clients, fed from stdin."""

    def __init__(self, host: str, port: str, fps: int, account: list[str]) -> None:
        self.base = Server(host, port, account)
        self.fps = fps
        self.size = (0, 0)
        self.source: Any = None
        self.first = -1
        self.begin_ns = 0
        self.faults: dict[str, float] = {}
        self.random = random.Random(1)
        self.stalled = False
        self.skewed_ns = -1  # when the lie began

    def run(self, path: str) -> None:
        factory = self.base.rtsp.RTSPMediaFactory()
        x264 = X264.format(preset="ultrafast", quality=25, gop=self.fps)
        factory.set_launch(
            "( appsrc name=src is-live=true format=time max-buffers=3 leaky-type=downstream"
            f" ! videoconvert ! {x264} ! h264parse name=parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        factory.set_shared(True)
        factory.set_latency(0)
        factory.connect("media-configure", self.configure)
        threading.Thread(target=self.read, daemon=True).start()
        self.base.serve(path, factory)

    def configure(self, _factory: Any, media: Any) -> None:
        Gst = self.base.gst  # noqa: N806 - a module
        top = media.get_element()
        pad = top.get_by_name("pay0").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self.packets)
        top.get_by_name("parse").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, self.units)
        media.connect("unprepared", self.unprepared)
        self.first, self.size = -1, (0, 0)
        self.source = top.get_by_name("src")
        say(watched=True)

    def unprepared(self, media: Any) -> None:
        if self.source is not None and self.source is media.get_element().get_by_name("src"):
            self.source = None
            say(watched=False)

    def read(self) -> None:
        """Messages: `F` number width height and an I420 picture, or `C` length 0 0 and JSON: {"stall": 1, "loss": p,
        "skew": seconds a second or more}, each 0 when it is off."""
        read = sys.stdin.buffer.read
        while len(header := read(HEADER.size)) == HEADER.size:
            kind, number, width, height = HEADER.unpack(header)
            if kind == b"C":
                self.faults = json.loads(read(number))
                self.stalled, self.skewed_ns = False, -1
            else:
                self.push(number, (width, height), read(width * height * 3 // 2))
        self.base.end()

    def push(self, number: int, size: tuple[int, int], data: bytes) -> None:
        Gst, source = self.base.gst, self.source  # noqa: N806 - a module
        if source is None or source.get_state(0)[1] != Gst.State.PLAYING:
            return  # nobody looks, or its clock does not run yet
        if size != self.size:
            self.size = size
            caps = f"video/x-raw,format=I420,width={size[0]},height={size[1]},framerate={self.fps}/1"
            source.set_property("caps", Gst.Caps.from_string(caps))
        now_ns = source.get_clock().get_time() - source.get_base_time()
        pts = self.begin_ns + (number - self.first) * Gst.SECOND // self.fps
        # The stream's clock stands still while a session is set up; what is ahead of it would wait in the sink.
        if self.first < 0 or not now_ns - Gst.SECOND < pts < now_ns + AHEAD_NS:
            self.first, self.begin_ns = number, max(0, now_ns)
            pts = self.begin_ns
            say(first=number)
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = pts
        buffer.duration = Gst.SECOND // self.fps
        source.emit("push-buffer", buffer)

    def units(self, _pad: Any, info: Any) -> Any:
        """Each encoded frame: its time may be a lie."""
        skew = self.faults.get(SKEW, 0)
        if skew:
            buffer = info.get_buffer()
            if self.skewed_ns < 0:
                self.skewed_ns = buffer.pts
            since = max(0, buffer.pts - self.skewed_ns)
            lie = int(since * skew) if abs(skew) < 1 else int(skew * self.base.gst.SECOND)
            buffer.pts = max(0, buffer.pts + lie)
        return self.base.gst.PadProbeReturn.OK

    def packets(self, pad: Any, info: Any) -> Any:
        """Each packet, or the packets of a frame: some are lost; or a frame breaks off and nothing comes any more."""
        Gst = self.base.gst  # noqa: N806 - a module
        loss, stall = self.faults.get(LOSS, 0), self.faults.get(STALL, 0)
        if not loss and not stall:
            return Gst.PadProbeReturn.OK
        if info.type & Gst.PadProbeType.BUFFER_LIST:
            whole = info.get_buffer_list()
            packets = [whole.get(index) for index in range(whole.length())]
        else:
            packets = [info.get_buffer()]
        if stall:
            kept = [] if self.stalled else packets[: len(packets) // 2]
            self.stalled = True
        else:
            kept = [packet for packet in packets if self.random.random() >= loss]
        if len(kept) == len(packets):
            return Gst.PadProbeReturn.OK
        for packet in kept:
            pad.get_peer().chain(packet)
        return Gst.PadProbeReturn.DROP


def clip(host: str, port: str, path: str, file: str, account: list[str]) -> None:
    """Serve a file, bit for bit, from its first frame to each client."""
    base = Server(host, port, account)
    factory = base.rtsp.RTSPMediaFactory()
    quoted = file.replace("\\", "\\\\").replace('"', '\\"')
    factory.set_launch(
        f'( filesrc location="{quoted}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
    )
    factory.set_shared(False)

    def wait() -> None:
        sys.stdin.buffer.read()
        base.end()

    threading.Thread(target=wait, daemon=True).start()
    base.serve(path, factory)


def main(arguments: list[str]) -> None:
    """Run one of the modes at the top of this file."""
    match arguments:
        case ["probe"]:
            load()
            say(ok=True)
        case ["encode", width, height, fps, file]:
            encode(int(width), int(height), int(fps), file)
        case ["clip", host, port, path, file, *account]:
            clip(host, port, path, file, account)
        case ["live", host, port, path, fps, *account]:
            _Live(host, port, int(fps), account).run(path)
        case _:
            say(ended="wrong arguments")
            sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
