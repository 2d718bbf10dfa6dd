"""Why: most gateways have no camera, and what looks through one weighs more than all the rest of the gateway.

So the vision of the gateway is loaded only when a bus of the configuration is a camera.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contract.local_socket import Answer
from drivers.base import DriverRegistry
from edge.bus_task import BusRun
from edge.config import GatewayConfig
from edge.streams import scans_of

if TYPE_CHECKING:
    from edge.vision.bus import VisionHost


class Eyes:
    """The cameras of a gateway, if it has any.

    offset_ns: UTC minus CLOCK_BOOTTIME, None while not known. load_note, save_note: small values on disk by name.
    """

    def __init__(
        self,
        offset_ns: Callable[[], int | None],
        load_note: Callable[[str], bytes | None],
        save_note: Callable[[str, bytes], None],
    ) -> None:
        self._offset_ns = offset_ns
        self._load_note = load_note
        self._save_note = save_note
        self._host: VisionHost | None = None

    def bus_runs(self, config: GatewayConfig, registry: DriverRegistry) -> list[BusRun]:
        """Every bus of the configuration, ready to be run: of its driver, or of the gateway's vision."""
        runs = []
        for spec in config.buses:
            driver = registry.get(spec.driver)
            scans = [scan for device in spec.devices for scan in scans_of(device)]
            if driver.capture is not None:
                runs.append(BusRun(spec.name, self._vision(config).bus(spec, scans), scans, listening=True))
                continue
            bus = driver.connect(spec, scans)
            runs.append(BusRun(spec.name, bus, scans, listening=driver.listening(spec), patient=driver.patient))
        return runs

    def models(self, config: GatewayConfig) -> dict[str, str]:
        """The models that look for this gateway, and the SHA-256 of each. Raises ConfigError."""
        if self._host is None:
            return {}
        from edge.vision.models import model_hashes

        return model_hashes(config.buses, config.file.vision.folder)

    def _vision(self, config: GatewayConfig) -> "VisionHost":
        if self._host is None:
            from edge.vision.bus import host_of

            self._host = host_of(
                config, offset_ns=self._offset_ns, load_note=self._load_note, save_note=self._save_note
            )
        return self._host

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """How each camera is, by name, as plain JSON values."""
        return {} if self._host is None else self._host.snapshot()

    async def confirm(self, request: Answer) -> Answer:
        """Have what a camera shows now taken for its calibrated view; answers when that is done.

        camera: its name. calibration: of the lines that the asker knows. anyway: see edge.vision.wire.Confirm. Raises
        ValueError that says why not, and what to do.
        """
        camera, calibration = request.get("camera"), request.get("calibration")
        if not isinstance(camera, str) or not isinstance(calibration, str):
            raise ValueError("expected 'camera' and 'calibration', both texts")  # noqa: TRY004 - told to the asker
        if self._host is None:
            raise ValueError("the gateway that runs has no camera: was the configuration changed? Then restart it")
        learn_s: float = await self._host.confirm(camera, calibration, anyway=request.get("anyway") is True)
        return {"camera": camera, "learn_s": learn_s}
