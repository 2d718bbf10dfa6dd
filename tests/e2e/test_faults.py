"""Nothing lost, nothing twice, nothing unexplained: real processes, real servers, real kills, judged by the truth."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from city import City, Influx, Verdict, Victoria, city
from servers import InfluxDB, Mosquitto, VictoriaMetrics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]
SEED = 20261122


@pytest.fixture
def influx(influxdb: InfluxDB) -> Influx:
    return Influx(influxdb, influxdb.fresh_database())


def assert_whole(verdict: Verdict, at_least: int) -> None:
    print(verdict)
    assert verdict.served >= at_least, f"the run was too short to prove anything: {verdict}"
    assert verdict.missing == 0, str(verdict)
    assert verdict.twice == 0, str(verdict)
    assert verdict.foreign == 0, str(verdict)
    totals = verdict.ledger["totals"]
    assert totals["unexplained"] == 0, str(verdict)
    assert totals["in_flight"] == 0, str(verdict)
    assert verdict.ledger["closes"] is True
    books = sum(row["stored"] for row in verdict.ledger["streams"] if row["device"].startswith("load-"))
    assert books == verdict.stored, f"the ledger says {books} stored: {verdict}"


def gateway_killed(town: City) -> None:
    town.kill_gateway(1.0)


def collector_killed(town: City) -> None:
    town.collector.kill()
    time.sleep(2)
    town.collector.start()


def broker_killed_and_emptied(town: City) -> None:
    town.broker.kill()
    town.broker.forget()
    time.sleep(1)
    town.broker.start()


def database_stopped(town: City, seconds: float = 20) -> None:
    town.database.server.stop()
    time.sleep(seconds)
    town.database.server.start()


def network_cut(town: City, seconds: float = 30) -> None:
    town.cable.cut()
    time.sleep(seconds)
    town.cable.mend()


@pytest.mark.parametrize(
    "fault", [gateway_killed, collector_killed, broker_killed_and_emptied, database_stopped, network_cut]
)
def test_one_fault_loses_nothing(
    fault: Callable[[City], None], tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    with city(tmp_path, mosquitto, influx) as town:
        town.run_for(4)
        fault(town)
        town.run_for(4)
        verdict = town.finish()
    assert_whole(verdict, at_least=5_000)


def test_a_killed_collector_loses_nothing_in_victoria_metrics(
    tmp_path: Path, mosquitto: Mosquitto, victoria: VictoriaMetrics
) -> None:
    name = f"gw-{tmp_path.name}"[:60]
    with city(tmp_path, mosquitto, Victoria(victoria, name), gateway=name) as town:
        town.run_for(4)
        collector_killed(town)
        town.run_for(4)
        verdict = town.finish()
    assert_whole(verdict, at_least=5_000)


def test_every_fault_in_a_random_sequence_of_three_minutes(
    tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    chance = random.Random(SEED)
    faults: list[Callable[[City], None]] = [
        gateway_killed,
        collector_killed,
        broker_killed_and_emptied,
        lambda town: database_stopped(town, chance.uniform(3, 20)),
        lambda town: network_cut(town, chance.uniform(3, 30)),
    ]
    with city(tmp_path, mosquitto, influx) as town:
        end_s = time.monotonic() + 180
        queue: list[Callable[[City], None]] = []
        while time.monotonic() < end_s:
            town.run_for(chance.uniform(1, 4))
            queue = queue or chance.sample(faults, len(faults))
            queue.pop()(town)
        town.run_for(5)
        verdict = town.finish()
    assert_whole(verdict, at_least=100_000)
