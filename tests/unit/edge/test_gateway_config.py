"""A right configuration: its defaults, where its paths lead, and which files it names. Wrong ones: tests/cases."""

import subprocess
from pathlib import Path

import pytest

from contract.broker import is_loopback
from contract.errors import ConfigError
from drivers.base_camera import CameraBusSpec
from drivers.registry import Registry
from edge.config import GatewayConfig, MqttSection, PublishSection, load

BUSES = """
buses:
  - name: day
    driver: replay
    file: day.csv
    devices: [{name: meter, streams: [{name: power, quantity: power, unit: kW, column: power}]}]
"""
SMALLEST = """gateway: {id: gw-1, area: {city: c, district: d, street: s}}
mqtt: {host: localhost}
outbox: {directory: outbox}
"""


def loaded(folder: Path, text: str = SMALLEST, *, open_files: bool = False) -> GatewayConfig:
    (folder / "day.csv").write_text("time,power\n", encoding="ascii")
    (folder / "gateway.yaml").write_text(text + BUSES, encoding="utf-8")
    return load(folder / "gateway.yaml", Registry(), open_files=open_files)


def problems(folder: Path, text: str, *, open_files: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, open_files=open_files)
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_the_defaults(tmp_path: Path) -> None:
    file = loaded(tmp_path).file
    assert (file.mqtt.port, file.mqtt.keepalive_s, file.mqtt.reconnect_max_s) == (8883, 30, 60)
    assert (file.outbox.max_bytes, file.outbox.min_free_bytes) == (512 << 20, 64 << 20)
    assert (file.publish.window_frames, file.publish.ack_timeout_s) == (64, 10)
    assert (file.clock.source, file.health.interval_s) == ("system", 10)


@pytest.mark.parametrize(("profile", "linger_s"), [("realtime", 0.1), ("balanced", 1.0), ("frugal", 60.0)])
def test_a_profile_says_how_long_a_frame_gathers_and_a_number_overrules_it(profile: str, linger_s: float) -> None:
    assert PublishSection.model_validate({"profile": profile}).effective_linger_s() == linger_s
    assert PublishSection.model_validate({"profile": profile, "linger_s": 7}).effective_linger_s() == 7


def test_relative_paths_lead_beside_the_configuration(tmp_path: Path) -> None:
    text = SMALLEST.replace(
        "{host: localhost}",
        "{host: localhost, username: u, password_file: secret, tls: {ca: ca.pem, cert: /etc/own.pem, key: own.key}}",
    )
    config = loaded(tmp_path, text + "clock: {source: marker, sync_marker: synced}\nstatus: {socket: run/gw.sock}\n")
    file = config.file
    assert file.outbox.directory == tmp_path / "outbox"
    assert file.mqtt.password_file == tmp_path / "secret"
    assert file.mqtt.tls is not None
    assert (file.mqtt.tls.ca, file.mqtt.tls.cert) == (tmp_path / "ca.pem", Path("/etc/own.pem"))
    assert file.clock.sync_marker == tmp_path / "synced"
    assert config.status_socket == tmp_path / "run/gw.sock"
    assert loaded(tmp_path).status_socket == tmp_path / "outbox/status.sock"
    assert loaded(tmp_path).file.clock.sync_marker == Path("/run/systemd/timesync/synchronized")


def test_a_cameras_password_is_beside_the_configuration_too(tmp_path: Path) -> None:
    gate = """
  - name: gate
    driver: camera
    source: rtsp://192.0.2.1/stream
    username: weinao
    password_file: gate-password
    devices: [{name: gate, detector: street-small, zones: [{name: all, polygon: [[0, 0], [1, 0], [1, 1]]}],
               streams: [{name: there, quantity: count, unit: "1", measure: occupancy, zone: all}]}]
"""
    (tmp_path / "day.csv").write_text("time,power\n", encoding="ascii")
    (tmp_path / "gateway.yaml").write_text(SMALLEST + BUSES + gate, encoding="utf-8")
    bus = load(tmp_path / "gateway.yaml", Registry()).buses[1]
    assert isinstance(bus, CameraBusSpec)
    assert bus.password_file == tmp_path / "gate-password"


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
     ("10.0.0.1", False), ("localhost.example", False), ("broker", False), ("::2", False)],
)  # fmt: skip
def test_plain_text_leaves_this_machine_only_when_it_is_meant(host: str, here: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is here
    if here:
        assert MqttSection.model_validate({"host": host}).tls is None
        return
    with pytest.raises(ValueError, match="plain text"):
        MqttSection.model_validate({"host": host})
    assert MqttSection.model_validate({"host": host, "plaintext": True}).plaintext
    assert MqttSection.model_validate({"host": host, "tls": {"ca": "ca.pem"}}).tls is not None


@pytest.mark.parametrize("host", ["a..b", "x" * 64, ".", "café" + "é" * 60])
def test_a_host_that_no_resolver_would_take_is_refused_here(tmp_path: Path, host: str) -> None:
    (line,) = problems(tmp_path, SMALLEST.replace("localhost", f'"{host}", plaintext: true'))
    assert line.startswith("gateway.yaml:2:")
    assert "is no host name" in line


def test_a_password_without_a_user_name_is_never_sent(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, SMALLEST.replace("localhost", "localhost, password: x"))
    assert "'username' is missing" in line


def test_a_password_is_read_when_it_is_needed_and_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("  hunter2\n", encoding="utf-8")
    text = SMALLEST.replace("localhost", "localhost, username: u, password_file: secret")
    assert loaded(tmp_path, text).file.mqtt.read_password() == "hunter2"
    inline = loaded(tmp_path, SMALLEST.replace("localhost", "localhost, username: u, password: hunter2"))
    assert inline.file.mqtt.read_password() == "hunter2"
    assert "hunter2" not in repr(inline)
    assert loaded(tmp_path).file.mqtt.read_password() is None


def test_check_opens_the_files_that_the_broker_needs(tmp_path: Path) -> None:
    text = SMALLEST.replace("localhost", "localhost, username: u, password_file: secret, tls: {ca: ca.pem}")
    loaded(tmp_path, text)
    assert problems(tmp_path, text, open_files=True) == [
        "gateway.yaml:2:53: mqtt.password_file: secret cannot be read: [Errno 2] No such file or directory: 'secret'",
        "gateway.yaml:2:71: mqtt.tls.ca: ca.pem cannot be read: No such file or directory",
    ]
    (tmp_path / "secret").write_text("x", encoding="ascii")
    (tmp_path / "ca.pem").write_text("not a certificate", encoding="ascii")
    (line,) = problems(tmp_path, text, open_files=True)
    assert "mqtt.tls: these are no PEM certificate" in line


def test_a_certificate_and_the_key_of_another_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-subj", f"/CN={name}", "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    tls = "localhost, tls: {ca: one.pem, cert: one.pem, key: KEY}"
    loaded(tmp_path, SMALLEST.replace("localhost", tls.replace("KEY", "one.key")), open_files=True)
    (line,) = problems(tmp_path, SMALLEST.replace("localhost", tls.replace("KEY", "two.key")), open_files=True)
    assert "belong together" in line
