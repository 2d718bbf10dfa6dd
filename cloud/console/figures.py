"""Today's completeness and ledger for a visitor, made once for everybody who may see the same."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from cloud.console.visit import Console
from cloud.hub.access import Reader
from cloud.hub.api_quality import may_see_figures
from cloud.hub.quality_figures import MISSING, SHOULD, UNEXPLAINED
from cloud.hub.quality_roster import Level
from cloud.hub.quality_store import Period
from cloud.ledger_report import HOUR_NS
from contract.errors import StoreUnavailable

LASTS_S = 15.0
KEPT = 100


@dataclass(frozen=True, slots=True)
class Today:
    """Samples of today: that should have come, that did not, that nothing accounts for."""

    should: int
    missing: int
    unexplained: int

    @property
    def completeness(self) -> float | None:
        """Share of what should have come that did; None where nothing should."""
        return 1 - self.missing / self.should if self.should else None


_kept: OrderedDict[tuple[object, ...], tuple[float, Today]] = OrderedDict()
_lock = threading.Lock()


def today(console: Console, reader: Reader) -> Today | None:
    """The sums of today for this visitor, some seconds old at most; None while the database is away. Blocking."""
    key = (id(console), reader.department, reader.role, reader.areas)
    with _lock:  # one at a time: whoever asks meanwhile gets the same
        found = _kept.get(key)
        if found is not None and time.monotonic() - found[0] < LASTS_S:
            return found[1]
        try:
            made = _summed(console, reader)
        except StoreUnavailable:
            return None
        _kept[key] = time.monotonic(), made
        _kept.move_to_end(key)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return made


def _summed(console: Console, reader: Reader) -> Today:
    entries = [entry for entry in console.hub.catalogue.all() if may_see_figures(reader, entry)]
    groups = console.quality.figures(Level.CITY, Period.DAY, time.time_ns() // HOUR_NS, entries)
    sums = [sum(group.figures.count(code) for group in groups) for code in (SHOULD, MISSING, UNEXPLAINED)]
    return Today(*sums)
