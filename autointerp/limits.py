"""How much is taken in at most of what somebody else packed: a few kilobytes can unpack to all the memory there is.

One place for the numbers, in bytes unless said otherwise, and for reading within them.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

ANSWER = 64 * 2**20
"""One answer of an endpoint, unpacked; an answer with log probabilities is some hundred kilobytes."""
DOWNLOAD = 4 * 2**30
"""One file of a batch's answers, as the endpoint gives it back."""
BODY = 64 * 2**20
"""One body in a store or a cache, unpacked."""
SOURCE = 256 * 2**20
"""One source of a corpus, or one line of its files, unpacked: some 60 million tokens."""
GROUP = 512 * 2**20
"""What one reading of a packed table may come to, unpacked."""
FOLDS = 200
"""How many times its packed size something large may have unpacked: text has 3 to 10, zeros have 1,000."""
LARGE_TEXT = 16 * 2**20
LARGE_ARRAY = 256 * 2**20
"""From here on that counts; an array may be all zeros."""


class TooLargeError(ValueError):
    """More than a limit allows."""


def unpack(packed: bytes, most: int = BODY) -> bytes:
    """What zlib packed.

    Raises:
        ValueError: damaged, or larger than `most` bytes.
    """
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(body) > most:
        raise TooLargeError(f"it unpacks to more than {most // 2**20:,} MB")
    if not unpacking.eof:
        raise ValueError("it is cut")
    return body


class _Readable(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


def is_bomb(packed: int, unpacked: int, large: int) -> bool:
    """Whether sizes are those of something that was packed to fill a memory."""
    return unpacked > large and unpacked > FOLDS * max(packed, 1)


def lines_of(file: _Readable, most: int = SOURCE) -> Iterator[bytes]:
    """The lines of an open file, none of which is read beyond `most` bytes.

    Raises:
        TooLargeError: one is longer.
    """
    while line := file.readline(most + 1):
        if len(line) > most:
            raise TooLargeError(f"a line is longer than {most // 2**20:,} MB")
        yield line
