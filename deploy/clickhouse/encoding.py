"""Content-Encoding of requests and answers: the codecs that ClickHouse's HTTP clients use."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import lz4.frame
import zstandard

_PIECE = 1024 * 1024

# How an answer is packed, best first: what packs fastest, for both ends are on one machine.
_PACKERS: dict[str, Callable[[], Any]] = {
    "lz4": lambda: _Lz4Packer(),
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(level=3, wbits=31),
    "deflate": lambda: zlib.compressobj(level=3),
}


class _Lz4Packer:
    """LZ4 frames by the same two calls as zlib's objects."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._frame.begin()

    def compress(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.flush())


def choose_packing(accepted: str) -> str | None:
    """The encoding for an answer out of an Accept-Encoding header; None when it names none that is known."""
    names = {part.split(";")[0].strip().lower() for part in accepted.split(",")}
    return next((name for name in _PACKERS if name in names), None)


def packer(encoding: str) -> Any:
    """An object with `compress(bytes) -> bytes` and `flush() -> bytes`."""
    return _PACKERS[encoding]()


def unpacked(body: IO[bytes], encoding: str) -> Iterator[bytes]:
    """The body's content in pieces.

    Raises:
        ValueError: an encoding that is not known, or bytes that are not in it.
    """
    try:
        if encoding in ("", "identity"):
            yield from _pieces(body)
        elif encoding == "gzip":
            yield from _pieces(gzip.GzipFile(fileobj=body, mode="rb"))
        elif encoding == "deflate":
            plain = zlib.decompressobj()
            for piece in _pieces(body):
                yield plain.decompress(piece)
            yield plain.flush()
        elif encoding == "lz4":
            yield from _pieces(lz4.frame.LZ4FrameFile(body))
        elif encoding == "zstd":
            yield from _pieces(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True))
        else:
            raise ValueError(f"Content-Encoding {encoding!r} is not known; use gzip, deflate, lz4 or zstd")
    except (OSError, EOFError, RuntimeError, zlib.error, zstandard.ZstdError) as exc:
        raise ValueError(f"the body is not {encoding}: {exc}") from None


def _pieces(body: Any) -> Iterator[bytes]:
    while piece := body.read(_PIECE):
        yield piece
