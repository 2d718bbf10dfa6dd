"""A city (tests/city.py) whose gateway is configured or started otherwise, and whose simulator takes faults."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from city import ROOT, City, Database, Verdict
from programs import Program
from servers import Mosquitto
from wire import Wire

GATEWAY = ("weinao-gateway", "run", "gateway.yaml")


@contextmanager
def edited_city(
    folder: Path,
    broker: Mosquitto,
    database: Database,
    edit: Callable[[str], str],
    *,
    gateway: tuple[str, ...] = GATEWAY,
) -> Iterator[City]:
    """A city that runs. `edit` is given the gateway's YAML and returns what it shall be; `gateway` is its command.

    Faults of the simulated devices begin with `weinao-sim fault sim.sock KIND DEVICE`.
    """
    with ExitStack() as stack:
        cable = stack.enter_context(Wire(broker.port))
        town = City(folder, broker, database, cable, f"gw-{folder.name}"[:60])
        scenario = str(ROOT / "hardware-sim/scenarios/load.yaml")
        town.simulator = Program(
            folder,
            "simulator",
            *("weinao-sim", "run", scenario, "--truth", "truth.tsv", "--ready-file", "sim.json", "--run-dir", "run"),
            *("--control", "sim.sock"),
            ready=folder / "sim.json",
        )
        town.gateway = Program(folder, "gateway", *gateway, ready=folder / "outbox" / "status.sock")
        stack.enter_context(town.simulator)
        town.configure()
        config = folder / "gateway.yaml"
        config.write_text(edit(config.read_text(encoding="utf-8")), encoding="utf-8")
        stack.enter_context(town.collector)
        stack.enter_context(town.gateway)
        yield town


def assert_closed(verdict: Verdict, at_least: int) -> None:
    """The run was long enough to prove something, nothing is there twice, and the ledger closes."""
    print(verdict)
    assert verdict.served >= at_least, f"the run was too short to prove anything: {verdict}"
    assert (verdict.twice, verdict.foreign) == (0, 0), str(verdict)
    totals = verdict.ledger["totals"]
    assert (totals["unexplained"], totals["in_flight"]) == (0, 0), str(verdict)
    assert verdict.ledger["closes"] is True
