"""The acknowledgement: what the database has, so that the gateway may free its disk.

JSON on the ack topic of the gateway. One message names frames of one boot:

    {"boot": 123, "stored": [[4, 9], [11, 11]], "rejected": [[10, "why"]], "unknown_epochs": [7]}

stored: inclusive ranges of sequences whose every reading is in the database or in quarantine.
rejected: frames that the cloud will never take, each with the reason; the gateway moves them to its dead letters.
unknown_epochs: frames of these epochs wait for a birth; the gateway publishes it, then sends them again.
A list that is empty is left out.
"""

from collections.abc import Iterable

import msgspec

from contract.errors import FrameError

MAX_BYTES = 256 * 1024


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One acknowledgement. See the module for its fields."""

    boot: int
    stored: list[tuple[int, int]] = []
    rejected: list[tuple[int, str]] = []
    unknown_epochs: list[int] = []


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ack)


def encode(ack: Ack) -> bytes:
    """The acknowledgement as JSON."""
    return _encoder.encode(ack)


def decode(data: bytes) -> Ack:
    """The acknowledgement in `data`; raises FrameError for anything else."""
    if len(data) > MAX_BYTES:
        raise FrameError(f"an acknowledgement of {len(data)} bytes; {MAX_BYTES} is the most")
    try:
        ack = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not an acknowledgement: {error}") from None
    if any(low > high or low < 0 for low, high in ack.stored):
        raise FrameError("not an acknowledgement: a range ends before it begins")
    return ack


def ranges(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Sequences as the fewest inclusive ranges, ascending."""
    found: list[tuple[int, int]] = []
    for sequence in sorted(set(sequences)):
        if found and sequence == found[-1][1] + 1:
            found[-1] = (found[-1][0], sequence)
        else:
            found.append((sequence, sequence))
    return found
