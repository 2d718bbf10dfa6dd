"""An RTSP camera for tests, on GStreamer: run by the system's python3, which has gi; imports nothing of ours.

argv[1] is JSON: {"port", "width", "height", "fps", "codec", "user", "password", "method"}. It prints its port when it
serves rtsp://127.0.0.1:PORT/cam, and takes lines on stdin: `size W H` changes the resolution in mid-stream. It ends
when stdin does. The picture is a test card with noise in a corner: never still, and cheap to make.
"""

import importlib
import json
import sys
from typing import Any

gi = importlib.import_module("gi")
for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
GLib, Gst, GstRtsp, GstRtspServer = (
    importlib.import_module(f"gi.repository.{name}") for name in ("GLib", "Gst", "GstRtsp", "GstRtspServer")
)

# Sliced threads would put one picture into several access units, of which FFmpeg makes several broken pictures.
X264 = "x264enc tune=zerolatency sliced-threads=false threads=1 speed-preset=ultrafast key-int-max={fps}"
PAYLOADS = {
    "h264": f"{X264} ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
AUDIO = "( audiotestsrc is-live=true ! audioconvert ! mulawenc ! rtppcmupay name=pay0 )"
VIDEO = (
    "( videotestsrc is-live=true ! video/x-raw,format=I420,framerate={fps}/1,width=320,height=240 ! videoscale "
    "method=nearest-neighbour add-borders=false ! capsfilter name=size caps=video/x-raw,width={width},height={height} "
    "! {payload} )"
)


def guard(server: Any, factory: Any, order: dict[str, Any]) -> None:
    """Let in nobody but `user`."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if order["method"] == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(order["user"], order["password"], token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(order["user"], order["password"]), token)
    server.set_auth(auth)
    role = Gst.Structure.new_empty("viewer")
    for key in ("media.factory.access", "media.factory.construct"):
        role.set_value(key, True)
    factory.add_role_from_structure(role)


def launch(order: dict[str, Any]) -> str:
    """The pipeline of a codec."""
    if order["codec"] == "audio":
        return AUDIO
    if order["codec"] == "raw":
        return VIDEO.format(**order, payload="rtpvrawpay name=pay0 pt=96")
    return VIDEO.format(**order, payload=PAYLOADS[order["codec"]].format(**order))


def main() -> None:
    order: dict[str, Any] = {"port": 0, "width": 320, "height": 240, "fps": 15, "codec": "h264", "method": "digest"}
    order.update(json.loads(sys.argv[1]))
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(order["port"]))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(launch(order))
    sizes: list[Any] = []
    factory.connect("media-configure", lambda _, media: sizes.append(media.get_element().get_by_name("size")))
    if order.get("user"):
        guard(server, factory, order)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()

    def command(*_: Any) -> bool:
        words = sys.stdin.readline().split()
        if not words:
            loop.quit()
            return False
        for size in sizes:
            size.set_property("caps", Gst.Caps.from_string(f"video/x-raw,width={words[1]},height={words[2]}"))
        return True

    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, command)
    loop.run()


if __name__ == "__main__":
    main()
