"""The database refuses one stream's points: those are quarantined with its own words, and everything else is stored."""

import re
import sqlite3
import time
import urllib.parse
from pathlib import Path

import pytest
from city import UNITS, VALUES, Influx
from edited_city import assert_closed, edited_city
from servers import InfluxDB, Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
REFUSED = "test_refused"
STREAM = "v7"


def disagree(influxdb: InfluxDB, database: str) -> None:
    """Somebody else has used the measurement, with text in its field; the shards of these days remember that."""
    influxdb.request("POST", f"/query?{urllib.parse.urlencode({'q': f'CREATE DATABASE {database}'})}")
    for days in (-1, 0, 1):
        at = time.time_ns() + days * 86_400_000_000_000
        line = f'{REFUSED},from=elsewhere value="text" {at}'.encode()
        status, body = influxdb.request("POST", f"/write?db={database}&precision=ns", line)
        assert status == 204, body


def test_a_stream_that_the_database_refuses_is_quarantined_with_its_reason(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    database = influxdb.fresh_database()
    disagree(influxdb, database)

    def edit(text: str) -> str:
        edited, count = re.subn(
            rf"{{name: {STREAM}, quantity: test_load", f"{{name: {STREAM}, quantity: {REFUSED}", text
        )
        assert count == UNITS
        return edited

    with edited_city(tmp_path, mosquitto, Influx(influxdb, database), edit) as town:
        town.run_for(8)
        verdict = town.finish()
    assert_closed(verdict, at_least=4_000)
    assert verdict.missing == verdict.served // VALUES, "one stream of fifty is missing, and nothing else"
    rows = {(row["device"], row["stream"]): row for row in verdict.ledger["streams"]}
    for (device, stream), row in rows.items():
        if device.startswith("load-"):
            refused = sum(row["quarantined"].values())
            assert (refused > 0) is (stream == STREAM), row
            assert (row["stored"] == 0) is (stream == STREAM), row
    assert verdict.ledger["totals"]["quarantined"] == verdict.missing
    with sqlite3.connect(next((tmp_path / "cloud").glob("quarantine*"))) as kept:
        entries = kept.execute("SELECT DISTINCT reason, detail FROM entries").fetchall()
        (readings,) = kept.execute("SELECT sum(readings) FROM entries").fetchone()
    kept.close()
    print(entries[0], readings)
    assert {reason for reason, _ in entries} == {"refused_by_store"}
    assert all("field type conflict" in detail and REFUSED in detail for _, detail in entries)
    assert readings == verdict.missing


def test_the_gateways_outbox_is_freed_although_readings_were_refused(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    database = influxdb.fresh_database()
    disagree(influxdb, database)
    with edited_city(
        tmp_path,
        mosquitto,
        Influx(influxdb, database),
        lambda text: text.replace("quantity: test_load", f"quantity: {REFUSED}"),
    ) as town:
        town.run_for(6)
        waiting = town.outbox()
        assert waiting["committed"] >= 3, waiting
        assert waiting["frames"] <= 3, waiting
        assert (waiting["dead_letters"], waiting["thinned_readings"]) == (0, 0)
        verdict = town.finish()
    assert_closed(verdict, at_least=3_000)
    assert (verdict.stored, verdict.missing) == (0, verdict.served)
    assert verdict.ledger["totals"]["quarantined"] == verdict.served
