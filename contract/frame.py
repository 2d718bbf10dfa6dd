"""The frame: one batch of readings of one gateway, with the gaps and the books that prove it whole, as few bytes.

A frame is written once, stored on the gateway's disk, given a number, perhaps dated and thinned, sent, and kept in
quarantine when it is wrong; each of these must be cheap, and any bytes may claim to be one. So the numbers that change
later stand in a header that can be rewritten alone, every time in the body is relative to it, and a decoder knows
each size before it makes room for it.

    header     version      low four bits of byte 0: 2. The four high bits are flags:
                            0x10 undated, 0x20 estimated, 0x40 the body is compressed, 0x80 the time base is in ms
               boot         6 bytes. All fixed-size numbers are big-endian
               epoch        4 bytes
               time base    8 bytes, signed, ns; or 6 bytes, signed, ms, where that is exact
               sequence     varint (see frame_numbers.py for varints, zigzag, and columns)
    check      2 bytes, CRC-16/CCITT, when check and body have 256 bytes or fewer together, else 4 bytes, CRC-32.
               It is crc(body as stored) xor crc(header) * 0x9E3779B1 modulo 2**16 or 2**32: the header can change
               without the body being read, and damage to both cannot cancel out by standing at like places
    body       as below, or one zstd frame of it, without magic number but with its content size

The body is a shape, then blocks, then blobs. The shape says which columns of integers exist and how long they are; all
columns of one length form a block (see frame_blocks.py), in the order in which the shape names them; blocks follow by
ascending length.

    shape      flags        0x01 tables, 0x02 gaps, 0x04 counters follow; 0x08 the counters' streams are those of the
                            tables in their order; 0x10 each `until` is the last time of the stream's table;
                            0x20 nothing was suppressed or thinned; 0x40 all have one `due`; 0x80 columns of one row
                            are no block: those that the shape names together are one column of as many rows
               tables, gaps, counters

    table      mark         low four bits: 0 int, 1 bool, 2 text, 3 float, 4 + d float with d decimals in all streams;
                            0x10 times as in the table before; 0x20 its stream ids go on from those of the table
                            before (from 0 in the first); 0x40 every status is GOOD; 0x80 this is the last table
               times        unless 0x10: number of the time column, which in the first table is 0 and left out. The
                            next unused number brings a new one: rows; with one or more, zigzag(first time) * 4 + unit
                            (ns, us, ms, s); with two or more, column: the steps between times, whose first entry
                            stands for nothing. Relative to the time base
               streams      how many; unless 0x20 column: id minus the id that would go on from what is before
               status       unless 0x40, or no cell: number of distinct codes, the codes; when more than one, a column
                            a stream: indices into them
               values       int: a column a stream. bool: a blob, one bit a value, stream after stream.
                            float: a column a stream; but when the form is 3: number of classes; for each its scale,
                            a byte, number of its streams, a column each; then column: class of each stream; number of
                            values apart; when not 0 two columns: their place (stream * rows + row), their 64 bits.
                            text: number of distinct texts; a column a stream: indices into them; column: their
                            lengths; a blob: the UTF-8 of all

    gaps       number of gaps; number of sets of streams; each set's size, and column: id minus position. Then five
               columns: set, first (relative to the time base), last - first, count, reason
    counters   unless 0x08 number of streams, column: id minus position; when 0x40 `due`; then columns: `due` unless
               0x40, `suppressed` and `thinned` unless 0x20, `until` (relative to the time base) unless 0x10

A class's scale: 0 to 9 are decimals, value = integer / 10**scale, used where that gives back the same 64 bits;
16 + z: the integer is the 64 bits shifted right by z. Where there is no reading (status 0xC0 and above) the value has
no meaning: it is written as whatever costs least, and read as 0, False or "". Reason codes that a decoder does not know
become NONE. A text's lone surrogates become U+FFFD. Limits are in frame_types.py; encode() and decode() refuse alike.

Version 1 is read for ever, and a stored frame of it keeps its version when its header is rewritten. It has no flag
0x80, its first table has the number of its time column, its blocks are simpler, and floats of form 3 have no classes: a
column a stream, then column: scale of each stream, and the values apart.
"""

import binascii
import struct
import threading
import zlib

import zstandard

from contract.errors import FrameError
from contract.frame_books import HAS_GAPS, HAS_TABLES, KNOWN_FLAGS, BooksReader, write_counters, write_gaps
from contract.frame_layout import SINGLES_APART, Reader, Writer
from contract.frame_numbers import get_varint, put_varint
from contract.frame_read import TableReader
from contract.frame_thin import thin_frame
from contract.frame_types import MAX_BODY_BYTES, MAX_FRAME_BYTES, Counters, Frame, Gap, Header
from contract.frame_write import TableWriter
from contract.readings import GOOD, Quality, Reason, status

__all__ = [
    "VERSION",
    "Counters",
    "Frame",
    "Gap",
    "Header",
    "decode",
    "encode",
    "peek",
    "redate",
    "thin",
    "thin_counted",
    "with_sequence",
]

VERSION = 2
_OLDEST_VERSION, _VERSION_BITS = 1, 0x0F
_UNDATED, _ESTIMATED, _COMPRESSED, _MILLISECONDS = 0x10, 0x20, 0x40, 0x80
_FIXED = struct.Struct(">BHII")
_NS = struct.Struct(">q")
_NS_PER_MS = 1_000_000
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_SHORT_BYTES = 256
_WORTH_COMPRESSING_BYTES = 64
_WORTH_A_BLOCK_BYTES = 512
_LEVEL = 3
_SPREAD = 0x9E3779B1
_ESTIMATED_STATUS = status(Quality.UNCERTAIN, Reason.CLOCK_ESTIMATED)
_MAGICLESS = zstandard.FORMAT_ZSTD1_MAGICLESS


class _Zstd(threading.local):
    """One compressor and decompressor a thread: they keep their state between calls and are not shared."""

    def __init__(self) -> None:
        settings = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, format=_MAGICLESS, write_content_size=1, write_checksum=0, write_dict_id=0
        )
        self._compressor = zstandard.ZstdCompressor(compression_params=settings)
        self._decompressor = zstandard.ZstdDecompressor(format=_MAGICLESS)
        self.decompress = self._decompressor.decompress

    def compress(self, body: bytes, seams: list[int]) -> bytes:
        """One zstd frame, with a block ended at each seam that lies far enough from the one before."""
        stream, out, begin = None, b"", 0
        for seam in seams:
            if seam - begin >= _WORTH_A_BLOCK_BYTES <= len(body) - seam:
                stream = stream or self._compressor.compressobj(size=len(body))
                out += stream.compress(body[begin:seam]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
                begin = seam
        if stream is None:
            return self._compressor.compress(body)
        return out + stream.compress(body[begin:]) + stream.flush()


_zstd = _Zstd()


def encode(frame: Frame) -> bytes:
    """The frame as bytes, lossless; raises FrameError for what no decoder would take (see frame_types.py)."""
    _check(frame.header)
    out = Writer(frame.header.time_base_ns)
    out.byte(0)
    flags = 0
    if frame.tables:
        flags |= HAS_TABLES
        TableWriter(out).write(frame.tables)
    if frame.gaps:
        flags |= HAS_GAPS
        write_gaps(out, frame.gaps)
    if frame.counters is not None:
        flags |= write_counters(out, frame.counters, frame.tables)
    out.shape[0] = flags
    body, seams = out.body()
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"a body of {len(body)} bytes; {MAX_BODY_BYTES} is the most")
    compressed = False
    if len(body) >= _WORTH_COMPRESSING_BYTES:
        smaller = _zstd.compress(body, seams)
        if len(smaller) < len(body):
            body, compressed = smaller, True
    return _seal(_header_bytes(frame.header, compressed=compressed), body)


def decode(data: bytes) -> Frame:
    """The frame in `data`; raises FrameError."""
    return _decode(data, estimated_as=_ESTIMATED_STATUS)


def peek(data: bytes) -> Header:
    """The header alone; raises FrameError. Costs a microsecond and never decompresses."""
    return _parse_header(data)[0]


def with_sequence(data: bytes, sequence: int) -> bytes:
    """The same frame under the number that the outbox gave it; touches the header alone."""
    header, end = _parse_header(data)
    return _reseal(
        data,
        end,
        Header(header.boot, sequence, header.epoch, header.time_base_ns, header.undated, header.estimated),
    )


def redate(data: bytes, offset_ns: int, *, estimated: bool) -> bytes:
    """An undated frame, dated: every time moved by `offset_ns`; touches the header alone."""
    header, end = _parse_header(data)
    if not header.undated:
        raise FrameError("this frame is dated already")
    moved = header.time_base_ns + offset_ns
    return _reseal(data, end, Header(header.boot, header.sequence, header.epoch, moved, estimated=estimated))


def thin(data: bytes, every: int, keep_whole: frozenset[int], phase: int = 0) -> bytes:
    """The frame with each `every`-th row of telemetry kept and the rest counted as thinned.

    Streams in `keep_whole` (alarms), gaps, and counters stay whole. every: 0 keeps no telemetry. phase: how far into
    `every` the first row stands, so that frames of a row or two are thinned as a whole, not each for itself. Thinning
    again adds up.
    Raises FrameError, also when a stream that loses readings has no counters.
    """
    return thin_counted(data, every, keep_whole, phase)[0]


def thin_counted(data: bytes, every: int, keep_whole: frozenset[int], phase: int = 0) -> tuple[bytes, int]:
    """As `thin`, and how many readings that took; when it took none, the very same bytes."""
    frame, taken = thin_frame(_decode(data, estimated_as=GOOD), every, keep_whole, phase)
    return (encode(frame), taken) if taken else (data, 0)


def _decode(data: bytes, *, estimated_as: int) -> Frame:
    """The frame, its GOOD readings as `estimated_as` when their times are a guess."""
    header, end = _parse_header(data)
    reader = Reader(_open(data, end), header.time_base_ns, data[0] & _VERSION_BITS)
    flags = reader.byte()
    if flags & ~KNOWN_FLAGS[reader.version]:
        raise FrameError(f"unknown flags {flags:#x}")
    tables = TableReader(reader, good_as=estimated_as if header.estimated else GOOD)
    if flags & HAS_TABLES:
        tables.plan()
    books = BooksReader(reader, flags)
    books.plan(tables.streams)
    reader.read_blocks(singles_apart=bool(flags & SINGLES_APART))
    found = tables.tables()
    frame = Frame(header, found, books.gaps(), books.counters(found, ids_follow=tables.ids_follow))
    reader.finish()
    return frame


def _check(header: Header) -> None:
    if not 0 <= header.boot < 1 << 48 or not 0 <= header.epoch < 1 << 32 or not 0 <= header.sequence <= _INT64_MAX:
        raise FrameError("a boot has 48 bits, an epoch 32, a sequence 63")
    if not _INT64_MIN <= header.time_base_ns <= _INT64_MAX:
        raise FrameError("a time beyond 64 bits")


def _header_bytes(header: Header, *, compressed: bool, version: int = VERSION) -> bytes:
    milliseconds, rest = divmod(header.time_base_ns, _NS_PER_MS)
    first = version | _UNDATED * header.undated | _ESTIMATED * header.estimated | _COMPRESSED * compressed
    first |= _MILLISECONDS * (not rest)
    out = bytearray(_FIXED.pack(first, header.boot >> 32, header.boot & 0xFFFFFFFF, header.epoch))
    out += _NS.pack(header.time_base_ns) if rest else milliseconds.to_bytes(6, "big", signed=True)
    put_varint(out, header.sequence)
    return bytes(out)


def _parse_header(data: bytes) -> tuple[Header, int]:
    """The header and where it ends."""
    if len(data) < _FIXED.size + 8 or len(data) > MAX_FRAME_BYTES:
        raise FrameError(f"{len(data)} bytes are no frame")
    first, boot_high, boot_low, epoch = _FIXED.unpack_from(data)
    if not _OLDEST_VERSION <= first & _VERSION_BITS <= VERSION:
        raise FrameError(f"a frame of version {first & _VERSION_BITS}; this decoder reads 1 to {VERSION}")
    if first & _MILLISECONDS:
        time_base_ns = int.from_bytes(data[11:17], "big", signed=True) * _NS_PER_MS
        if not _INT64_MIN <= time_base_ns <= _INT64_MAX:
            raise FrameError("a time beyond 64 bits")
        end = 17
    else:
        time_base_ns = _NS.unpack_from(data, 11)[0]
        end = 19
    sequence, end = get_varint(data, end)
    if sequence > _INT64_MAX:
        raise FrameError("a sequence beyond 63 bits")
    boot = boot_high << 32 | boot_low
    return Header(boot, sequence, epoch, time_base_ns, bool(first & _UNDATED), bool(first & _ESTIMATED)), end


def _check_size(rest: int) -> int:
    """How long the check is, when it and the body have `rest` bytes."""
    return 2 if rest <= _SHORT_BYTES else 4


def _crc(data: bytes, size: int) -> int:
    return binascii.crc_hqx(data, 0xFFFF) if size == 2 else zlib.crc32(data)


def _header_crc(header: bytes, size: int) -> int:
    return _crc(header, size) * _SPREAD & (1 << 8 * size) - 1


def _seal(header: bytes, body: bytes) -> bytes:
    size = _check_size(len(body) + 2)
    check = _header_crc(header, size) ^ _crc(body, size)
    return header + check.to_bytes(size, "big") + body


def _reseal(data: bytes, end: int, header: Header) -> bytes:
    """The frame under another header; a frame that was damaged before stays damaged."""
    _check(header)
    size = _check_size(len(data) - end)
    renewed = _header_bytes(header, compressed=bool(data[0] & _COMPRESSED), version=data[0] & _VERSION_BITS)
    check = int.from_bytes(data[end : end + size], "big")
    check ^= _header_crc(data[:end], size) ^ _header_crc(renewed, size)
    return renewed + check.to_bytes(size, "big") + data[end + size :]


def _open(data: bytes, end: int) -> bytes:
    """The body, checked and decompressed."""
    size = _check_size(len(data) - end)
    body = data[end + size :]
    if int.from_bytes(data[end : end + size], "big") != _header_crc(data[:end], size) ^ _crc(body, size):
        raise FrameError("the check does not match: the frame is damaged")
    if not data[0] & _COMPRESSED:
        return body
    try:
        declared = zstandard.get_frame_parameters(body, format=_MAGICLESS).content_size
        if declared > MAX_BODY_BYTES:
            raise FrameError(f"a body of {declared} bytes; {MAX_BODY_BYTES} is the most")
        return _zstd.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameError(f"the body cannot be decompressed: {error}") from None
