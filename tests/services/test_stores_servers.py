"""The servers that other tests rely on come back on the same port with the same data, and a missing one says so."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from servers import InfluxDB, Mosquitto, ServerFailed, ServerMissing, find_program

pytestmark = pytest.mark.services


def test_a_missing_program_names_the_command_that_installs_it() -> None:
    with pytest.raises(ServerMissing, match=r"apt-get install -y --no-install-recommends influxdb$"):
        find_program("no-such-program", "influxdb")


def test_a_killed_server_returns_on_its_port_with_its_data(tmp_path: Path) -> None:
    with InfluxDB(tmp_path / "influxdb") as server:
        first, port = server.pid, server.port
        assert server.request("POST", "/query?q=CREATE%20DATABASE%20d")[0] == 200
        assert server.request("POST", "/write?db=d", b"m f=1 1")[0] == 204
        server.kill()
        assert not server.running
        assert not psutil.pid_exists(first)
        server.start()
        assert server.port == port
        assert (
            b'[["1970-01-01T00:00:00.000000001Z",1]]'
            in server.request("POST", "/query?db=d&q=SELECT%20f%20FROM%20m")[1]
        )
        last = server.pid
    assert not psutil.pid_exists(last)


def test_a_paused_server_is_stopped_all_the_same(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "mosquitto")
    with broker:
        pid = broker.pid
        broker.pause()
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
        with pytest.raises(ServerFailed, match="runs"):
            broker.forget()
    assert not psutil.pid_exists(pid)
    broker.forget()
    assert not (tmp_path / "mosquitto" / "data").exists()


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="nonsense_key"):
        Mosquitto(tmp_path / "mosquitto", extra="nonsense_key 1").start()


def test_a_server_that_dies_by_itself_is_not_running(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "mosquitto") as broker:
        os.kill(broker.pid, signal.SIGTERM)
        psutil.Process(broker.pid).wait(10)
        assert not broker.running
        broker.start()
        assert broker.running
