"""Finding streams among a hundred thousand: every field as a column of small numbers, all text as one long string.

An index is built once for a state of the catalogue, in a thread, and never changes. A search is a few comparisons of
columns, and `str.find` through the text: milliseconds, whatever is asked for.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.hub.access import Reader
from cloud.hub.entries import Entry
from contract.catalogue import Grade
from contract.readings import Ints

Mask = NDArray[np.bool_]
FIELDS = ("city", "district", "street", "gateway", "device", "owner", "quantity", "grade")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; every field that is not None must fit.

    area: `city`, `city/district` or `city/district/street`. text: anywhere in names, quantity, owner, site, maker.
    bbox: west, south, east, north, degrees. left: also streams that no gateway has any more.
    """

    area: str | None = None
    gateway: str | None = None
    device: str | None = None
    owner: str | None = None
    quantity: str | None = None
    grade: Grade | None = None
    text: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    left: bool = False


class Index:
    """The entries, ready to be searched. `entries` are in the order of their numbers."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.numbers: Ints = np.array([entry.number for entry in entries], dtype=np.int64)
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._values: dict[str, dict[str, int]] = {}
        for name in FIELDS:
            values: dict[str, int] = {}
            codes = [values.setdefault(_field(entry, name), len(values)) for entry in entries]
            self._codes[name], self._values[name] = np.array(codes, dtype=np.int32), values
        self._left: Mask = np.array([entry.until_ns is not None for entry in entries], dtype=np.bool_)
        self._latitude = np.array([_or_nan(entry.latitude) for entry in entries], dtype=np.float64)
        self._longitude = np.array([_or_nan(entry.longitude) for entry in entries], dtype=np.float64)
        self._shared: dict[str, Ints] = _shared(entries)
        texts = [_text_of(entry) for entry in entries]
        self._text = "\n".join(texts)
        self._begins: Ints = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.entries)

    def visible(self, reader: Reader) -> Mask:
        """Which of them this reader may know of: cloud.hub.access.visible, of all at once."""
        if not reader.areas:
            return np.ones(len(self), dtype=np.bool_)
        found: Mask = np.zeros(len(self), dtype=np.bool_)
        for area in reader.areas:
            found |= self._in_area(area)
        return found

    def readable(self, reader: Reader) -> Mask:
        """Which of them this reader may have the values of: cloud.hub.access.readable, of all at once."""
        found = self._equal("grade", Grade.OPEN.value)
        if reader.department:
            found |= self._equal("owner", reader.department)
            shared: Mask = np.zeros(len(self), dtype=np.bool_)
            shared[self._shared.get(reader.department, np.zeros(0, dtype=np.int64))] = True
            found |= shared
        return found & self.visible(reader)

    def matching(self, query: Query) -> Mask:
        """Which of them fit the query."""
        found = np.ones(len(self), dtype=np.bool_) if query.left else ~self._left
        if query.area is not None:
            found &= self._in_area(query.area)
        for name in ("gateway", "device", "owner", "quantity"):
            value = getattr(query, name)
            if value is not None:
                found &= self._equal(name, value)
        if query.grade is not None:
            found &= self._equal("grade", query.grade.value)
        if query.bbox is not None:
            found &= self._inside(query.bbox)
        if query.text:
            found &= self._containing(query.text)
        return found

    def facets(self, name: str, among: Mask) -> dict[str, int]:
        """How many of `among` have each value of a field; `area` is city/district/street."""
        if name == "area":
            return self._areas(among)
        counts = np.bincount(self._codes[name][among], minlength=len(self._values[name]))
        return {value: int(counts[code]) for value, code in sorted(self._values[name].items()) if counts[code]}

    def _areas(self, among: Mask) -> dict[str, int]:
        found: dict[str, int] = {}
        for at in np.flatnonzero(among).tolist():
            path = self.entries[at].path
            area = f"{path.city}/{path.district}/{path.street}"
            found[area] = found.get(area, 0) + 1
        return dict(sorted(found.items()))

    def _equal(self, name: str, value: str) -> Mask:
        return np.asarray(self._codes[name] == self._values[name].get(value, -1))

    def _in_area(self, area: str) -> Mask:
        found: Mask = np.ones(len(self), dtype=np.bool_)
        for name, level in zip(FIELDS, area.split("/")[:3], strict=False):
            found &= self._equal(name, level)
        return found

    def _inside(self, bbox: tuple[float, float, float, float]) -> Mask:
        west, south, east, north = bbox
        inside: Mask = (self._latitude >= south) & (self._latitude <= north)
        if west <= east:
            return inside & (self._longitude >= west) & (self._longitude <= east)
        return inside & ((self._longitude >= west) | (self._longitude <= east))  # across the date line

    def _containing(self, text: str) -> Mask:
        wanted, found = plain(text), np.zeros(len(self), dtype=np.bool_)
        if not wanted or "\n" in wanted:
            return found
        at = self._text.find(wanted)
        while at >= 0:
            place = int(np.searchsorted(self._begins, at, side="right")) - 1
            found[place] = True
            following = int(self._begins[place + 1]) if place + 1 < len(self) else len(self._text)
            at = self._text.find(wanted, following)
        return found


def plain(text: str) -> str:
    """As it is compared: without case, and full-width letters as any others."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _field(entry: Entry, name: str) -> str:
    path = entry.path
    match name:
        case "city" | "district" | "street" | "gateway":
            return str(getattr(path, name))
        case "grade":
            return entry.grade.value
        case _:
            return str(getattr(entry, name))


def _text_of(entry: Entry) -> str:
    words = (entry.id, entry.quantity, entry.owner, entry.site, entry.manufacturer, entry.model, entry.serial_number)
    return plain(" ".join(words)).replace("\n", " ")


def _shared(entries: Sequence[Entry]) -> dict[str, Ints]:
    places: dict[str, list[int]] = {}
    for at, entry in enumerate(entries):
        if entry.grade is Grade.SHARED:
            for department in entry.shared_with:
                places.setdefault(department, []).append(at)
    return {department: np.array(found, dtype=np.int64) for department, found in places.items()}


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
