"""Why: half of what fails in the field is not the devices: no signal, a full disk, a box that just restarted.

Asks the machine what it tells without rights or further programs: /sys and /proc. What it does not tell is None, and
the page says "not known" instead of inventing bars. Blocks for a few small files: call it outside the event loop.
"""

import os
import platform
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_FIELDS = 4
_EVERYTHING = "00000000"
_NO_LEVEL = -256.0


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. kind: cable, wifi, mobile or other. signal_dbm: None where the system does not tell.

    up: None where the system does not tell. default: the way to the city's broker goes through it.
    """

    name: str
    kind: str
    up: bool | None
    signal_dbm: float | None
    default: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """The box. Bytes, seconds, shares of one."""

    links: tuple[Link, ...]
    disk_free: int
    disk_total: int
    memory_rss: int
    memory_free: int
    up_s: float
    load: float
    system: str
    kernel: str
    python: str
    hostname: str


def look(directory: Path, *, root: Path = Path("/")) -> Machine:
    """The machine now. directory: on the disk that matters. root: where /sys and /proc are."""
    disk = shutil.disk_usage(directory)
    return Machine(
        links=links(root),
        disk_free=disk.free,
        disk_total=disk.total,
        memory_rss=psutil.Process().memory_info().rss,
        memory_free=psutil.virtual_memory().available,
        up_s=float(_read(root / "proc/uptime").partition(" ")[0] or 0),
        load=os.getloadavg()[0],
        system=_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        hostname=socket.gethostname(),
    )


def links(root: Path = Path("/")) -> tuple[Link, ...]:
    """Every interface but the loopback, the way out first."""
    levels, ways = _levels(_read(root / "proc/net/wireless")), _default_ways(_read(root / "proc/net/route"))
    found = []
    for folder in _folders(root / "sys/class/net"):
        name = folder.name
        if name == "lo":
            continue
        state = _read(folder / "operstate").strip()
        up = {"up": True, "down": False, "lowerlayerdown": False}.get(state)
        kind = _kind(folder)
        if kind == "other" and not up:
            continue  # a virtual interface that nobody uses
        found.append(Link(name, kind, up, levels.get(name), name in ways))
    return tuple(sorted(found, key=lambda link: (not link.default, link.name)))


def _kind(folder: Path) -> str:
    kind = next((line[8:] for line in _read(folder / "uevent").splitlines() if line.startswith("DEVTYPE=")), "")
    if kind == "wlan" or (folder / "wireless").exists() or (folder / "phy80211").exists():
        return "wifi"
    if kind == "wwan" or folder.name.startswith(("wwan", "ppp")):
        return "mobile"
    return "cable" if (folder / "device").exists() else "other"


def _levels(text: str) -> dict[str, float]:
    """Signal in dBm by interface, of /proc/net/wireless: name: status link level noise ..."""
    found = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if not colon or len(fields) < _FIELDS:
            continue
        try:
            level = float(fields[2].rstrip("."))
        except ValueError:
            continue
        if _NO_LEVEL < level < 0:  # drivers that know no dBm tell a share of their own, which means nothing here
            found[name.strip()] = level
    return found


def _default_ways(text: str) -> set[str]:
    """The interfaces of /proc/net/route whose destination is everything."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return {row[0] for row in rows if len(row) > 1 and row[1] == _EVERYTHING}


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
