"""Who may see what: the one rule that guards every way out of the hub.

Two questions, and no third one anywhere else:

- `visible`: may this reader know that the stream exists? Inside the areas of the token, yes, whatever its grade.
- `readable`: may this reader have its values? `open`: yes. `shared`: the departments listed, and the owner.
  `restricted`: the owner alone. An owner that no birth names (an empty text) is nobody's department.

Administration (tokens, purge, audit) is a right of its own and opens no value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cloud.hub.entries import Entry
from contract.catalogue import Grade
from contract.topics import GatewayPath


class Role(StrEnum):
    """What a token may do besides reading: nothing; acknowledge alerts; manage tokens, purges and the audit."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: a token's department, purpose and areas. token: its public id, never its secret.

    areas: `city`, `city/district` or `city/district/street`; none means everywhere.
    """

    token: str
    department: str
    purpose: str
    role: Role = Role.READER
    areas: tuple[str, ...] = ()

    def covers(self, path: GatewayPath) -> bool:
        """Whether this place is inside the token's areas."""
        if not self.areas:
            return True
        levels = (path.city, path.district, path.street)
        return any(tuple(area.split("/")) == levels[: area.count("/") + 1] for area in self.areas)


def visible(reader: Reader, entry: Entry) -> bool:
    """May `reader` know that this stream exists, whose it is and whom to ask?"""
    return reader.covers(entry.path)


def readable(reader: Reader, entry: Entry) -> bool:
    """May `reader` have the values of this stream?"""
    return visible(reader, entry) and department_may_read(reader.department, entry)


def department_may_read(department: str, entry: Entry) -> bool:
    """The grade's half of the rule: what the department may have, wherever the token's area ends."""
    if entry.grade is Grade.OPEN:
        return True
    if not department:
        return False
    if department == entry.owner:
        return True
    return entry.grade is Grade.SHARED and department in entry.shared_with


def audited(entry: Entry) -> bool:
    """Whether reading this stream's values leaves a line in the audit."""
    return entry.grade is not Grade.OPEN


def readable_of(reader: Reader, entries: Iterable[Entry]) -> list[Entry]:
    """Those that `reader` may have the values of, in their order."""
    return [entry for entry in entries if readable(reader, entry)]
