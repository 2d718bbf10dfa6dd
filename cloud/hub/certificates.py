"""When a certificate ends: the one field of X.509 that the hub needs, read from its DER (RFC 5280, 4.1)."""

import ssl
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def not_after_ns(pem: str) -> int:
    """The end of the first certificate in `pem`, ns since 1970. Raises ValueError for anything else."""
    start = pem.find("-----BEGIN CERTIFICATE-----")
    end = pem.find("-----END CERTIFICATE-----")
    if start < 0 or end < start:
        raise ValueError("expected a PEM file with a certificate")
    der = ssl.PEM_cert_to_DER_cert(pem[start : end + len("-----END CERTIFICATE-----")])
    fields = _children(_children(der, _SEQUENCE)[0][1])
    at = 1 if fields[0][0] == _VERSION else 0
    validity = _children(fields[at + 3][1]) if len(fields) > at + 3 else []  # serial, algorithm, issuer, validity
    if len(validity) != 2:
        raise ValueError("not a certificate")
    return _time_ns(*validity[1])


def _children(data: bytes, tag: int | None = None) -> list[tuple[int, bytes]]:
    """(tag, content) of the elements in `data`; with `tag`, of those inside its first element."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        try:
            kind, length, at = data[at], data[at + 1], at + 2
        except IndexError:
            raise ValueError("the certificate is cut off") from None
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("the certificate is cut off")
        found.append((kind, data[at : at + length]))
        at += length
    if tag is not None:
        if not found or found[0][0] != tag:
            raise ValueError("not a certificate")
        return _children(found[0][1])
    if not found:
        raise ValueError("the certificate is empty")
    return found


def _time_ns(tag: int, text: bytes) -> int:
    try:
        digits = text.decode("ascii").removesuffix("Z")
    except UnicodeDecodeError:
        raise ValueError("the certificate's end is no time") from None
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate's end is no time")
    moment = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
