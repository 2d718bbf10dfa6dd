"""The catalogue as DCAT-AP in JSON-LD: what data portals harvest.

A stream is a dcat:Dataset with one dcat:Distribution, its history here. Where DCAT has no term (the grade itself,
retention, the reading's resolution) the namespace is our own. The context is part of the document: whoever reads it on
a closed network fetches nothing. Source: DCAT-AP 3.0; ODRL 2.2 for the policy; UCUM for units.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from cloud.hub.entries import Entry
from cloud.hub.times import format_time
from contract.catalogue import Grade

CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcatap": "http://data.europa.eu/r5r/",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "locn": "http://www.w3.org/ns/locn#",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "weinao": "urn:weinao:ns#",
}
_RIGHTS = "http://publications.europa.eu/resource/authority/access-right/"
_RIGHTS_OF = {Grade.OPEN: "PUBLIC", Grade.SHARED: "RESTRICTED", Grade.RESTRICTED: "NON_PUBLIC"}
_FREQUENCY = "http://publications.europa.eu/resource/authority/frequency/"
_FREQUENCIES = ((90, "CONT"), (5400, "HOURLY"), (129_600, "DAILY"))  # an interval up to so many seconds


def document(entries: Iterable[Entry], base: str) -> Iterator[bytes]:
    """The JSON-LD document, a piece a stream. base: the hub's address, without a slash at the end."""
    head = {
        "@context": CONTEXT,
        "@id": f"{base}/api/v1/catalogue",
        "@type": "dcat:Catalog",
        "dct:title": "Weinao",
        "dct:description": "What the city senses",
    }
    yield json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "dcat:dataset": ['
    for number, entry in enumerate(entries):
        yield (b",\n" if number else b"\n") + json.dumps(dataset(entry, base), ensure_ascii=False).encode()
    yield b"\n]}\n"


def dataset(entry: Entry, base: str) -> dict[str, Any]:
    """One stream as a dcat:Dataset."""
    made: dict[str, Any] = {
        "@id": f"{base}/api/v1/streams/{entry.number}",
        "@type": "dcat:Dataset",
        "dct:identifier": entry.id,
        "dct:title": f"{entry.quantity}: {entry.id}",
        "dct:publisher": {"@type": "foaf:Agent", "foaf:name": entry.owner or "unknown"},
        "dcat:contactPoint": {"@type": "vcard:Kind", "vcard:fn": entry.contact or entry.owner or "unknown"},
        "dct:accessRights": {"@id": _RIGHTS + _RIGHTS_OF[entry.grade]},
        "odrl:hasPolicy": _policy(entry),
        "dct:accrualPeriodicity": {"@id": _FREQUENCY + _frequency(entry.interval_s)},
        "dcat:temporalResolution": {"@type": "xsd:duration", "@value": f"PT{entry.interval_s:g}S"},
        "dct:issued": {"@type": "xsd:dateTime", "@value": format_time(entry.since_ns)},
        "dct:spatial": _place(entry),
        "dcat:distribution": {
            "@type": "dcat:Distribution",
            "dcat:accessURL": {"@id": f"{base}/api/v1/history/{entry.id}"},
            "dcat:mediaType": ["application/json", "text/csv", "application/vnd.apache.parquet"],
        },
        "weinao:grade": entry.grade.value,
        "weinao:retention": entry.retention,
        "weinao:quantity": entry.quantity,
        "weinao:unit": entry.unit,
    }
    if entry.legal_basis:
        made["dcatap:applicableLegislation"] = {"dct:title": entry.legal_basis}
    if entry.resolution is not None:
        made["weinao:resolution"] = entry.resolution
    return made


def _policy(entry: Entry) -> dict[str, Any]:
    """Who may read it, as an ODRL offer."""
    readers: list[str] = {
        Grade.OPEN: ["*"],
        Grade.SHARED: sorted({entry.owner, *entry.shared_with} - {""}),
        Grade.RESTRICTED: [entry.owner] if entry.owner else [],
    }[entry.grade]
    permissions = [{"odrl:action": {"@id": "odrl:read"}, "odrl:assignee": reader} for reader in readers]
    return {"@type": "odrl:Offer", "odrl:permission": permissions}


def _place(entry: Entry) -> dict[str, Any]:
    path = entry.path
    made: dict[str, Any] = {"@type": "dct:Location", "dct:title": f"{path.city}/{path.district}/{path.street}"}
    if entry.latitude is not None and entry.longitude is not None:
        made["dcat:centroid"] = f"POINT({entry.longitude} {entry.latitude})"
    return made


def _frequency(interval_s: float) -> str:
    return next((name for most_s, name in _FREQUENCIES if interval_s <= most_s), "OTHER")
