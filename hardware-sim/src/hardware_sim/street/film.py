"""A scene as a sequence of frames: the street moves on, somebody draws it or not, and the truth is told either way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hardware_sim.street import stamp
from hardware_sim.street.conditions import Setup, Spoil, setup
from hardware_sim.street.scenes import Scene
from hardware_sim.street.sight import Sight
from hardware_sim.street.stage import Seen, Stage
from hardware_sim.street.types import Bytes
from hardware_sim.street.witness import Moment, Witness


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame: its picture, unless nobody wanted one, and its truth."""

    bgr: Bytes | None
    moment: Moment


class Film:
    """A scene from its beginning, `fps` frames a second. Frame n shows the time n / fps.

    Crossings, stays and zones are those of the calibrated view, also while the camera is moved; the objects of a moment
    are as they are in the picture that was drawn. stamped: each picture carries its number, see stamp.py.
    """

    def __init__(self, scene: Scene, fps: float, *, stamped: bool = False) -> None:
        self.scene = scene
        self.fps = fps
        self.number = 0
        self._stamped = stamped
        self._traffic = scene.traffic()
        self._witness = Witness(scene)
        self._sight = Sight(scene.camera)
        self._setup: Setup = setup(scene, {})
        self._stage: Stage | None = None
        self._last: Bytes | None = None

    def spoil(self, spoils: Mapping[Spoil, int]) -> None:
        """From the next frame on these spoil the picture, and no others. Raises ValueError."""
        made = setup(self.scene, dict(spoils))
        if made.stage_key != self._setup.stage_key:
            self._stage = None
        self._setup = made

    def next(self, *, draw: bool = True) -> Shot:
        """The next frame. Without drawing it costs a tenth."""
        number, self.number = self.number, self.number + 1
        t_s = number / self.fps
        bodies = [*self._traffic.at(t_s), *self._setup.bodies]
        kinds = {body.id: body.kind for body in bodies}
        objects = [Seen(one, kinds[one], box, 1.0) for one, box in self._sight.boxes(bodies)]
        moment = self._witness.look(number, t_s, bodies, objects)
        if not draw:
            return Shot(None, moment)
        if self._setup.frozen and self._last is not None:
            return Shot(self._last, replace(moment, objects=(), bodies=()))
        if self._stage is None:
            self._stage = Stage(self._setup.camera, self.scene.street, self._setup.light)
        drawn = self._stage.picture(bodies)
        taken = self._setup.lens.take(drawn.bgr, self._setup.light, number)
        bgr = self._setup.spoil(taken, number)
        if self._stamped:
            bgr = bgr if bgr.flags.writeable else np.array(bgr)
            stamp.write(bgr, number)
        self._last = bgr
        seen = {one.id for one in drawn.objects}
        shown = tuple(body for body in bodies if body.id in seen)
        return Shot(bgr, replace(moment, objects=tuple(drawn.objects), bodies=shown))
