"""What the running gateway says of itself: `weinao-gateway status` and `outbox` ask for it over the local socket."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from contract.local_socket import Answer
from edge.clock import TrustedClock
from edge.eyes import Eyes
from edge.outbox import Outbox
from edge.packer import Packer
from edge.pipeline import Pipeline
from edge.supervisor import Supervisor
from edge.uplink import Uplink

if TYPE_CHECKING:  # loaded only by a gateway that shows metrics
    from contract.metrics_http import MetricsServer
    from edge.page.server import PageServer  # ... or the technician's page


class Status:
    """Looks at the parts of a running gateway; changes nothing."""

    def __init__(
        self,
        gateway: str,
        clock: TrustedClock,
        supervisor: Supervisor,
        pipeline: Pipeline,
        packer: Packer,
        outbox: Outbox,
        uplink: Uplink,
        eyes: Eyes,
    ) -> None:
        self.metrics: MetricsServer | None = None
        self.page: PageServer | None = None
        self._gateway = gateway
        self._clock = clock
        self._supervisor = supervisor
        self._pipeline = pipeline
        self._packer = packer
        self._outbox = outbox
        self._uplink = uplink
        self._eyes = eyes
        self._began_s = time.monotonic()

    def status(self, _: Answer) -> Answer:
        """Everything a technician asks first: uplink, outbox, clock, devices, and the latest value of every stream."""
        return {
            "gateway": self._gateway,
            "uptime_s": round(time.monotonic() - self._began_s, 1),
            "clock": "trusted" if self._clock.trusted else "undated: the time is not known yet",
            "clock_steps": self._clock.steps,
            "uplink": self._uplink_answer(),
            "outbox": self.outbox({}),
            "cameras": self._eyes.snapshot(),
            "metrics": None if self.metrics is None else self.metrics.told(),
            "page": None if self.page is None else self.page.told(),
            **self._supervisor.snapshot(),
            "streams": [
                self._stream(device, stream)
                for device, streams in self._pipeline.snapshot().items()
                for stream in streams
            ],
        }

    def outbox(self, _: Answer) -> Answer:
        """What waits on this disk, and what was ever left out."""
        stats = self._outbox.stats()
        return {
            **asdict(stats),
            "oldest_age_s": self._clock.age_s(stats.oldest_time_ns),
            "thinned_in_memory_rows": self._packer.thinned_rows,
            "refusals": self._packer.refusals,
        }

    def _uplink_answer(self) -> dict[str, Any]:
        stats = asdict(self._uplink.stats)
        now_s = time.monotonic()
        for name in ("since_s", "last_ack_s"):
            moment_s = stats.pop(name)
            stats[name.replace("_s", "_ago_s")] = None if moment_s is None else round(now_s - moment_s, 1)
        return stats

    def _stream(self, device: str, stream: dict[str, Any]) -> dict[str, Any]:
        time_ns = stream["time_ns"]
        now_ns = self._clock.boottime_ns()
        if stream["dated"]:
            now_ns = self._clock.stamp(now_ns)[0]
        return {
            "device": device,
            "stream": stream["name"],
            "value": stream["value"],
            "unit": stream["unit"],
            "quality": stream["quality"],
            "reason": stream["reason"],
            "age_s": None if time_ns is None else round((now_ns - time_ns) / 1e9, 1),
        }
