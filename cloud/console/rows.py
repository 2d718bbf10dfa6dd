"""Devices as rows: of the console's table, of the API, and of the CSV that people take away. One filter for all."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cloud.console.troubles import KINDS
from cloud.console.watch import Device, Watch
from cloud.hub.access import Reader, readable
from cloud.hub.api_quality import may_see_figures
from cloud.hub.formats import FORMULA
from cloud.hub.times import format_time

COLUMNS = (
    "id", "device", "gateway", "area", "owner", "contact", "kind", "trouble", "cause", "todo", "since", "stream",
    "last_good", "streams",
)  # fmt: skip
CHINESE = "zh"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices; every field that is not empty must fit. kind: of troubles.KINDS, or `trouble` for all but fine."""

    kind: str = ""
    owner: str = ""
    area: str = ""
    gateway: str = ""
    text: str = ""

    def fits(self, device: Device) -> bool:
        """Whether this device is wanted."""
        entry, kind = device.entry, device.trouble.kind
        if self.kind and (kind == "fine" if self.kind == "trouble" else kind != self.kind):
            return False
        if self.owner and entry.owner != self.owner:
            return False
        if self.gateway and str(entry.path) != self.gateway:
            return False
        if self.area and not f"{entry.path}/".startswith(f"{self.area}/"):
            return False
        return not self.text or _plain(self.text) in _plain(f"{device.id} {entry.owner} {entry.site} {entry.contact}")


def may_see(reader: Reader, device: Device) -> bool:
    """May this reader know how the device does? The rule of figures (cloud.hub.api_quality)."""
    return may_see_figures(reader, device.entry)


def seen_by(reader: Reader, devices: Iterable[Device], wanted: Filter) -> Iterator[Device]:
    """The devices that this reader may know of, as wanted."""
    return (device for device in devices if may_see(reader, device) and wanted.fits(device))


def row_of(device: Device, watch: Watch, language: str) -> dict[str, Any]:
    """One device in words."""
    entry, trouble, at = device.entry, device.trouble, int(language == CHINESE)
    good_ns = max((watch.good_ns(one) for one in device.streams), default=0)
    return {
        "id": device.id,
        "device": entry.device,
        "gateway": entry.path.gateway,
        "area": f"{entry.path.district}/{entry.path.street}",
        "owner": entry.owner,
        "contact": entry.contact,
        "kind": KINDS[trouble.kind][at],
        "trouble": trouble.code,
        "cause": trouble.cause[at],
        "todo": trouble.todo[at],
        "since": format_time(device.since_ns) if device.since_ns else None,
        "stream": device.worst.stream,
        "last_good": format_time(good_ns) if good_ns else None,
        "streams": len(device.streams),
    }


def spark_of(device: Device, watch: Watch, reader: Reader) -> str:
    """The shape of the device's newest values, for who may have them."""
    return watch.spark(device) if readable(reader, device.entry) else ""


def csv_of(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as CSV for Excel: with a mark of UTF-8, and nothing that a spreadsheet takes for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_safe(row[name]) for name in COLUMNS])
    return "\ufeff" + out.getvalue()


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
