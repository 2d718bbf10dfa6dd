"""What a gateway says of itself on its state topic, retained, and as its will."""

import msgspec

from contract.errors import FrameError

MAX_BYTES = 64 * 1024
_MAX_NUMBER = 1 << 62


class State(msgspec.Struct, frozen=True):
    """Is it there, and which frames does its outbox hold?

    next_sequence: the number that the next frame gets. oldest_sequence: the oldest frame not acknowledged, None when
    the outbox is empty. Keys of later versions are ignored.
    """

    online: bool
    boot: int = 0
    next_sequence: int | None = None
    oldest_sequence: int | None = None


_decoder = msgspec.json.Decoder(State)


def decode(data: bytes) -> State:
    """The state in `data`; raises FrameError for anything else."""
    if len(data) > MAX_BYTES:
        raise FrameError(f"a state of {len(data)} bytes; {MAX_BYTES} is the most")
    try:
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a state: {error}") from None
    if any(
        not 0 <= number < _MAX_NUMBER for number in (state.boot, state.next_sequence or 0, state.oldest_sequence or 0)
    ):
        raise FrameError("not a state: a number is out of range")
    return state
