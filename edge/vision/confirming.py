"""Why: who confirms a camera's view waits until the worker has taken it, and learns why when it has not."""

import asyncio
from collections.abc import Callable

from edge.vision.wire import Confirm, Confirmed, encode_order

ANSWER_S = 5.0
"""A worker that looks answers within one look."""


class Confirmations:
    """Those that one vision worker has not answered yet."""

    def __init__(self, patience_s: float = ANSWER_S) -> None:
        self._patience_s = patience_s
        self._turn = 0
        self._answers: dict[int, asyncio.Future[Confirmed]] = {}

    async def ask(self, camera: int, send: Callable[[bytes], None], *, anyway: bool) -> Confirmed:
        """Say it to the worker by `send` and wait for the answer. Raises ValueError when none comes."""
        self._turn += 1
        turn = self._turn
        self._answers[turn] = asyncio.get_running_loop().create_future()
        send(encode_order(Confirm(camera, turn, anyway)) + b"\n")
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._answers[turn]
        except TimeoutError:
            raise ValueError(f"no answer within {self._patience_s:g} s: see `status`, then confirm again") from None
        finally:
            self._answers.pop(turn)

    def answered(self, said: Confirmed) -> None:
        """The worker has answered. Whoever asked may have gone."""
        answer = self._answers.get(said.turn)
        if answer is not None and not answer.done():
            answer.set_result(said)

    def abandon(self, why: str) -> None:
        """The worker is gone."""
        for turn in self._answers:
            self.answered(Confirmed(0, turn, f"{why}; confirm again when it sees", 0.0))
