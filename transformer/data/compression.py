"""Compressed files, recognised by their first bytes and never by their names."""

import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, BinaryIO

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 1 << 16  # of the unpacked content that `head_of` returns
ZSTD_INPUT_BYTES = 1 << 11  # fed at a time: at most 128 KiB come out for each 4 bytes, so 64 MiB at worst

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
# What the codecs raise for damaged data; bz2 raises an OSError without errno, as gzip's BadGzipFile is.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
# What Python's libraries raise for a damaged archive or one that they can't read: encrypted (RuntimeError), packed by
# an unknown method (NotImplementedError), sizes that make no sense. An OSError with an errno is the disk's, not its.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, *DAMAGE, struct.error, RuntimeError, ValueError, OverflowError,
)  # fmt: skip


def compression_of(file: BinaryIO) -> str | None:
    """The name of the compression of a file at its beginning, None for a plain one; the position stays."""
    head = file.read(16)
    file.seek(0)
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), None)


def unpacked(file: BinaryIO) -> IO[bytes]:
    """The content of a file that is open at its beginning, as a stream whose `readline` takes a limit.

    Reading raises one of DAMAGE, or an OSError without errno, where the data is damaged or cut short.
    """
    match compression_of(file):
        case "gzip":
            return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
        case "bzip2":
            return bz2.BZ2File(file)
        case "xz":
            return lzma.LZMAFile(file)
        case "zstd":
            return io.BufferedReader(_ZstdStream(file))
    return file


def head_of(file: BinaryIO) -> bytes:
    """The first HEAD_BYTES of the unpacked content; raises as reading from `unpacked` does."""
    return unpacked(file).read(HEAD_BYTES)


def damage(error: Exception) -> str | None:
    """What the exception says about compressed data, in a word or two; None for a problem of the disk."""
    if isinstance(error, EOFError):
        return "cut short"
    return "damaged" if isinstance(error, DAMAGE) or getattr(error, "errno", 0) is None else None


class _ZstdStream(io.RawIOBase):
    """Unpacked zstd frames, one after the other; zstandard's own reader takes a file that is cut short for whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False  # the frame has had input
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._out:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            packed = packed or self._file.read(ZSTD_INPUT_BYTES)
            if not packed:
                if self._begun:
                    raise EOFError
                return 0
            self._begun = True
            self._out = memoryview(self._frame.decompress(packed))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._out))
        target[:count] = self._out[:count]
        self._out = self._out[count:]
        return count
