"""FROST's own Python client walks a SensorThings service, in a process of its own, and says what it found as JSON.

Usage: frost_walk.py ADDRESS TOKEN. The client knows basic authentication alone; requests takes any callable.
"""

import json
import sys
from typing import Any

import frost_sta_client as fsc  # type: ignore[import-untyped]  # it has no type marks
from frost_sta_client.service.auth_handler import AuthHandler  # type: ignore[import-untyped]


class Bearer(AuthHandler):  # type: ignore[misc]  # its base is untyped
    """A token as the hub wants it."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def add_auth_header(self) -> Any:
        """What requests calls with every request."""

        def sign(request: Any) -> Any:
            request.headers["authorization"] = f"Bearer {self._token}"
            return request

        return sign


def main(address: str, token: str) -> None:
    """Things, then their Datastreams, then all Observations of each, page by page."""
    service = fsc.SensorThingsService(address, auth_handler=Bearer(token))
    found: dict[str, Any] = {"things": {}, "counts": {}, "walked": {}, "newest": {}, "places": []}
    for thing in service.things().query().top(2).expand("Locations").list():
        found["places"] += [place.location["coordinates"] for place in thing.locations.entities]
        names = found["things"].setdefault(thing.name, [])
        for stream in thing.get_datastreams().query().expand("ObservedProperty,Sensor").list():
            names.append(stream.name)
            if not stream.properties["readable"]:
                continue
            counted = stream.get_observations().query().count().top(0).list()
            found["counts"][stream.name] = counted.count
            walked = stream.get_observations().query().top(400).orderby("phenomenonTime", "ASC").list()
            found["walked"][stream.name] = sum(1 for _ in walked)
            if not found["walked"][stream.name]:
                continue
            last = stream.get_observations().query().top(1).orderby("phenomenonTime").list().get(0)
            again = service.observations().find(last.id)
            found["newest"][stream.name] = [again.result, again.phenomenon_time, stream.unit_of_measurement.symbol]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
