"""Protocol buffers on the wire: as much as TensorFlow's checkpoint index needs, without the protobuf library."""

from __future__ import annotations

from collections.abc import Iterator

FieldValue = int | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class MalformedError(ValueError):
    """Bytes that do not follow their format. Whoever knows the file turns it into an error for the user."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned base-128 integer of at most 64 bits.

    Args:
        data: the bytes.
        position: where the integer starts.

    Returns:
        The integer and the position behind it.

    Raises:
        MalformedError: the bytes end within the integer, or it has more than 64 bits.
    """
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise MalformedError("a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
    raise MalformedError("a number has more than 64 bits")


def read_bytes(data: bytes, position: int, length: int) -> tuple[bytes, int]:
    """Read ``length`` bytes from ``position``; return them and the position behind them.

    Raises:
        MalformedError: fewer bytes are left.
    """
    end = position + length
    if end > len(data):
        raise MalformedError(f"{length} bytes are announced where {len(data) - position} are left")
    return data[position:end], end


def read_fields(message: bytes) -> Iterator[tuple[int, FieldValue]]:
    """Yield number and value of each field of a message, in the order of the wire.

    Varints and fixed-width numbers come as unsigned integers, everything else as bytes.

    Raises:
        MalformedError: the message breaks off, or uses a field kind that protocol buffers 3 do not have.
    """
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            integer, position = read_varint(message, position)
            yield number, integer
        elif kind == _BYTES:
            length, position = read_varint(message, position)
            chunk, position = read_bytes(message, position, length)
            yield number, chunk
        elif kind in (_FIXED32, _FIXED64):
            chunk, position = read_bytes(message, position, 4 if kind == _FIXED32 else 8)
            yield number, int.from_bytes(chunk, "little")
        else:
            raise MalformedError(f"a message has a field of the unknown kind {kind}")
