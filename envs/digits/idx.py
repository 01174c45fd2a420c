"""Reading IDX files, the format of MNIST (LeCun, Cortes & Burges, yann.lecun.com/exdb/mnist).

Two zero bytes, the type of the values, the number of dimensions; then each dimension's size, 32 bit
and big-endian; then the values, the last dimension first to change.
"""

import gzip
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from groundling.envs.errors import UserError

GZIP: Final = b"\x1f\x8b"
BYTES: Final = 0x0800
"""The header of a file of bytes, but for the number of dimensions."""


def read_idx(path: str, field: str, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, plain or compressed by gzip (whatever its name says).

    Args:
        path: of the file.
        field: the option that names it, for the message.
        dimensions: that it must have: 1 of labels, 3 of images (number, rows, columns).

    Raises:
        UserError: it cannot be read, is no such file, or is not whole; names field and file.
    """
    content = _content(path, field)
    start = 4 * (1 + dimensions)
    expected = BYTES + dimensions
    magic = int.from_bytes(content[:4], "big")
    if len(content) < start or magic != expected:
        raise UserError(
            f"{field}={path!r} begins with 0x{magic:08X}, expected an IDX file of bytes with "
            f"{dimensions} dimension{'s' if dimensions > 1 else ''}, 0x{expected:08X}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    # A product of Python's own integers: a size that is nonsense must not overflow into sense.
    values = int(np.prod(np.array(shape, object)))
    if len(content) - start != values:
        raise UserError(
            f"{field}={path!r} holds {len(content) - start} values, expected {values}: "
            f"its header says {' × '.join(map(str, shape))}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: str, field: str) -> bytes:
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{field}={path!r} cannot be read ({error}), expected an IDX file"
        ) from error
