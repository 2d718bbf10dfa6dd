"""The rule of cloud.hub.access at every door: whatever is asked, in whosever name, nothing forbidden comes out.

Every value is a number that says whose it is, and every name says which stream's; so a look at the bytes of an answer
is enough. A new endpoint that this test does not ask fails it.
"""

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx
from fastapi.routing import APIRoute
from hub_kit_sensorthings import NOW, SECOND, MemoryCatalogue, MemoryColumns, MemoryNewest, MemoryTokens, MemoryTrail
from hub_kit_sensorthings import series_of as series
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.hub.access import Reader, audited, readable, visible
from cloud.hub.app import create_app
from cloud.hub.entries import Entry
from cloud.hub.parts import Events, Hub, Sample
from cloud.hub.serve import ROUTERS
from cloud.ledger import Ledger
from contract.catalogue import Area, Birth, Device, Grade, Stream
from contract.readings import GOOD, Kind, Quality, Reason
from contract.topics import GatewayPath

CASES = 150
MARK = 7_000_000
DEPARTMENTS = st.sampled_from(["Water", "Traffic", "Parks", ""])
DISTRICTS = st.sampled_from(["east", "west"])
ELSEWHERE = {
    "/api/v1/live": "test_live.py: the mask of a channel is the rule's",
    "/api/v1/tokens": "administrators only",
    "/api/v1/audit": "administrators only: who read what, no values",
    "/api/v1/me": "about the token",
    "/api/v1/quality": "test_quality.py: figures hold no value",
    "/api/v1/quality/report": "test_quality.py",
    "/api/v1/devices": "test_console_rows.py: how a device does, under the rule of figures; no value",
    "/api/v1/alerts": "test_alerts.py: the value only to who may read the stream",
    "/api/v1/alerts/channels": "operators only: no stream",
}


@st.composite
def catalogues(draw: st.DrawFn) -> list[Entry]:
    made = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        shared = draw(st.lists(DEPARTMENTS, max_size=2))
        path = GatewayPath("city", draw(DISTRICTS), f"street{draw(st.integers(0, 1))}", f"gw{draw(st.integers(0, 2))}")
        made.append(
            Entry(
                number=number,
                version=1,
                path=path,
                device=f"dev{draw(st.integers(0, 1))}",
                stream=f"name{number}x",
                quantity=draw(st.sampled_from(["level", "flow"])),
                unit="m",
                kind=draw(st.sampled_from([Kind.FLOAT, Kind.INT])),
                interval_s=1,
                since_ns=NOW - 3600 * SECOND,
                owner=draw(DEPARTMENTS),
                contact=f"contact{number}",
                grade=draw(st.sampled_from(Grade)),
                shared_with=tuple(shared),
                latitude=draw(st.none() | st.floats(30, 31)),
                longitude=draw(st.none() | st.floats(120, 121)),
            )
        )
    return made


READERS = st.builds(
    Reader,
    token=st.just("t"),
    department=DEPARTMENTS,
    purpose=st.just("p"),
    areas=st.sampled_from(
        [(), ("city/east",), ("city/west/street0",), ("city",), ("other",), ("city/east", "city/west")]
    ),
)


def value_of(number: int, at: int) -> int:
    return MARK + number * 1000 + at


@lru_cache(maxsize=1)
def ledger_file() -> Path:
    """A ledger that knows every stream there can be here, and none else: names show, if they should not."""
    file = Path(tempfile.mkdtemp(prefix="weinao-rule-")) / "ledger.sqlite"
    atexit.register(shutil.rmtree, file.parent)
    ledger = Ledger(file)
    for district, street, gateway in product(("east", "west"), ("street0", "street1"), ("gw0", "gw1", "gw2")):
        streams = [
            Stream(id=number, name=f"name{number}x", quantity="q", unit="m", type=Kind.FLOAT, interval_s=1)
            for number in range(1, 9)
        ]
        devices = tuple(Device(name=f"dev{n}", streams=tuple(streams[n::2])) for n in (0, 1))
        birth = Birth(gateway=gateway, area=Area(city="city", district=district, street=street), devices=devices)
        ledger.rows_of(birth.path, birth)
    ledger.close()
    return file


def hub_of(entries: Sequence[Entry], reader: Reader) -> Hub:
    newest, tokens = MemoryNewest(), MemoryTokens({"secret": reader})
    rows = {one.number: [(NOW - at * SECOND, value_of(one.number, at), GOOD) for at in (3, 2, 1)] for one in entries}
    for one in entries:
        newest.samples[one.number] = Sample(NOW - SECOND, value_of(one.number, 1), Quality.GOOD, Reason.NONE)
    store = MemoryColumns({series(one): rows[one.number] for one in entries})
    return Hub(
        catalogue=MemoryCatalogue(entries),
        newest=newest,
        live=cast("Events", None),
        store=store,
        trail=MemoryTrail(),
        tokens=tokens,
        ledger_file=ledger_file(),
        now_ns=lambda: NOW,
    )


def addresses(entries: Sequence[Entry], reader: Reader) -> Iterator[tuple[str, str]]:
    """(route, address) of everything that can be asked about these streams."""
    api, things = "/api/v1", "/sensorthings/v1.1"
    for name in ("catalogue", "areas", "departments", "quantities", "latest", "export"):
        yield f"{api}/{name}", f"{api}/{name}"
    yield f"{api}/catalogue", f"{api}/catalogue?text=name&health=fresh&left=true"
    yield f"{api}/latest", f"{api}/latest?area=city/east"
    for form in ("json", "csv", "parquet", "arrow"):
        yield f"{api}/export", f"{api}/export?format={form}&quantity=level"
    yield f"{api}/export", f"{api}/export?interval=1s&aggregate=mean&aggregate=max"
    readable_ids = [quote(one.id) for one in entries if readable(reader, one)]
    if readable_ids:
        yield f"{api}/history", f"{api}/history?" + "&".join(f"stream={one}" for one in readable_ids)
    for one in entries:
        name = quote(one.id)
        yield f"{api}/history", f"{api}/history?stream={name}"
        yield f"{api}/latest", f"{api}/latest?stream={name}"
        for route in ("catalogue", "latest", "history"):
            yield f"{api}/{route}/{{stream_id:path}}", f"{api}/{route}/{name}"
        yield f"{api}/ledger/stream/{{stream_id:path}}", f"{api}/ledger/stream/{name}"
        yield f"{api}/ledger/gateway/{{city}}/{{district}}/{{street}}/{{gateway}}", f"{api}/ledger/gateway/{one.path}"
        yield f"{api}/streams/{{number}}", f"{api}/streams/{one.number}"
        yield f"{things}/{{path:path}}", f"{things}/Datastreams({one.number})/Observations?$count=true"
        yield f"{things}/{{path:path}}", f"{things}/Observations({one.number}-{NOW - SECOND})"
    for path in ("", "/Things?$expand=Datastreams($expand=Observations)", "/Observations", "/Locations", "/Sensors"):
        yield (f"{things}/{{path:path}}" if path else things), f"{things}{path}"
    yield f"{things}/{{path:path}}", f"{things}/Observations?$filter=result gt {MARK}&resultFormat=dataArray"


@settings(max_examples=CASES)
@given(entries=catalogues(), reader=READERS)
async def test_no_answer_holds_what_the_rule_forbids(entries: list[Entry], reader: Reader) -> None:
    hub = hub_of(entries, reader)
    app = create_app(hub, ROUTERS, version="0")
    forbidden = {one.number for one in entries if not readable(reader, one)}
    hidden = [one.stream for one in entries if not visible(reader, one)]
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://hub", headers={"Authorization": "Bearer secret"}
    ) as client:
        for _, address in addresses(entries, reader):
            answer = await client.get(address)
            assert answer.status_code < 500, (address, answer.text)
            told = {(int(text) - MARK) // 1000 for text in re.findall(r"\b7\d{6}\b", answer.text)}
            if "filter=result" not in address:
                assert not told & forbidden, f"{address}: values of {told & forbidden}"
            for name in hidden:
                assert name in address or name not in answer.text, f"{address}: {name}"
            if "/ledger/" in address and answer.status_code == 200:
                ids = {one.id for one in entries if readable(reader, one)}
                assert {row["stream"] for row in answer.json()["streams"]} <= ids, address
            if answer.status_code == 200 and "parquet" not in address and "arrow" not in address:
                guarded = told & {one.number for one in entries if audited(one)}
                assert not guarded or cast("MemoryTrail", hub.trail).lines, f"{address}: nothing in the audit"


def test_every_endpoint_is_asked() -> None:
    entries = [Entry(1, 1, GatewayPath("c", "d", "s", "g"), "d", "s", "q", "m", Kind.FLOAT, 1, 0, grade=Grade.OPEN)]
    asked = {route for route, _ in addresses(entries, Reader("t", "Water", "p"))}
    reads = {
        route.path
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or set())
    }
    assert reads - asked - ELSEWHERE.keys() == set()
