"""Fixtures that several suites share: the real servers, started once a session, on data that no test shares.

A test that stops or pauses a server starts it again itself; `started` makes sure that the next one finds it running.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from servers import InfluxDB, Mosquitto, NginxV2, Server, VictoriaMetrics

AnyServer = TypeVar("AnyServer", bound=Server)

# How long an example takes is the machine's affair: pytest-timeout ends what hangs.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def _influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    with InfluxDB(_folder(tmp_path_factory, "influxdb")) as server:
        yield server


@pytest.fixture(scope="session")
def _victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(_folder(tmp_path_factory, "victoria")) as server:
        yield server


@pytest.fixture(scope="session")
def _nginx_v2(tmp_path_factory: pytest.TempPathFactory, _influxdb: InfluxDB) -> Iterator[NginxV2]:
    with NginxV2(_folder(tmp_path_factory, "nginx"), _influxdb) as server:
        yield server


@pytest.fixture(scope="module")
def _mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(_folder(tmp_path_factory, "mosquitto")) as server:
        yield server


@pytest.fixture
def influxdb(_influxdb: InfluxDB) -> InfluxDB:
    """A running InfluxDB 1.x; `fresh_database()` names a database of the test's own."""
    return _started(_influxdb)


@pytest.fixture
def victoria(_victoria: VictoriaMetrics) -> VictoriaMetrics:
    """A running VictoriaMetrics; it has no databases, so a test takes gateway names of its own."""
    return _started(_victoria)


@pytest.fixture
def nginx_v2(_nginx_v2: NginxV2, influxdb: InfluxDB) -> NginxV2:
    """nginx that answers the v2 write API in front of `influxdb`."""
    del influxdb  # asked for so that it runs
    return _started(_nginx_v2)


@pytest.fixture
def mosquitto(_mosquitto: Mosquitto) -> Mosquitto:
    """A running mosquitto without users, and without other modules' retained messages."""
    return _started(_mosquitto)


def _started(server: AnyServer) -> AnyServer:
    server.start()
    return server


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.mktemp(name, numbered=True)
