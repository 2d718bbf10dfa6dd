"""The filters that catalogue, latest, live and export share, as parameters of an endpoint."""

from typing import Annotated

from fastapi import Query as Parameter

from cloud.hub.catalogue_index import Query
from cloud.hub.problems import BadQuery
from contract.catalogue import Grade

MAX_CHARS = 400
BAD_TEXT = "text without control characters"
Text = Annotated[str | None, Parameter(max_length=MAX_CHARS)]


def filters_of(
    area: Annotated[
        str | None, Parameter(max_length=MAX_CHARS, description="city, city/district or .../street")
    ] = None,
    gateway: Text = None,
    device: Text = None,
    owner: Annotated[str | None, Parameter(max_length=MAX_CHARS, description="a department")] = None,
    quantity: Text = None,
    grade: Grade | None = None,
    text: Annotated[str | None, Parameter(max_length=MAX_CHARS, description="anywhere in names, owner, maker")] = None,
    bbox: Annotated[
        str | None, Parameter(max_length=MAX_CHARS, description="west,south,east,north in degrees, WGS84")
    ] = None,
    *,
    left: Annotated[bool, Parameter(description="also streams that no gateway has any more")] = False,
) -> Query:
    """A query of the catalogue. Raises BadQuery."""
    given = {"area": area, "gateway": gateway, "device": device, "owner": owner, "quantity": quantity, "text": text}
    for name, value in given.items():
        if value is not None:
            check_text(name, value)
    if area is not None and area.count("/") > 2:
        raise BadQuery("area", "city, city/district or city/district/street", area)
    return Query(area, gateway, device, owner, quantity, grade, text, _box(bbox), left)


def check_text(name: str, value: str) -> str:
    """`value`, when it can be a text. Raises BadQuery."""
    if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in value):
        raise BadQuery(name, BAD_TEXT)
    return value


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise BadQuery("bbox", "four numbers: west,south,east,north", text) from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise BadQuery("bbox", "degrees: -180 to 180, -90 to 90, south not above north", text)
    return west, south, east, north
