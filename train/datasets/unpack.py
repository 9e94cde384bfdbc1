"""Archives, unpacked so that no member leaves the folder, and none is larger than an archive of its size can mean."""

import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...deploy.errors import UserError
from ...deploy.files import inside

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNREAD = (".rar", ".7z")
RATIO, FLOOR, MEMBERS = 100, 256 * 2**20, 500_000  # pictures hardly compress; label maps of few colours do, up to here
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError)
BROKEN += (RuntimeError, ValueError, LookupError, OverflowError)


def is_archive(path: Path) -> bool:
    """Is this an archive by its name? UserError for a kind that is not read."""
    name = path.name.lower()
    if name.endswith(UNREAD):
        raise UserError(f"{path} is an archive of a kind that is not read here: unpack it and give the folder")
    return name.endswith(ENDINGS)


def stem_of(path: Path) -> str:
    """Return the name without an archive's ending."""
    ending = next((end for end in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(ending)]


def unpack(archive: Path, into: Path) -> None:
    """Unpack the regular files of a zip or tar archive below `into`; links and devices are left out.

    Raises:
        UserError: a damaged or encrypted archive, a member whose path leads out of the folder, more than `MEMBERS`
            files, contents of more than `RATIO` times the archive's size, or more than the disk has room for.
    """
    budget = min(RATIO * archive.stat().st_size + FLOOR, shutil.disk_usage(into).free)
    try:
        for count, (name, file) in enumerate(_members(archive), 1):
            target = inside(into, name)
            if target is None:
                raise UserError(f"{archive} has a member {name!r} that leads out of its folder: do not trust it")
            if count > MEMBERS:
                raise UserError(f"{archive} has more than {MEMBERS:,} members: expected a data set, not a bomb")
            target.parent.mkdir(parents=True, exist_ok=True)
            with file, open(target, "xb") as out:
                budget -= _copy(file, out, budget, archive)
    except UserError:
        raise
    except BROKEN as error:
        raise UserError(f"cannot unpack {archive} ({error}): it is damaged or encrypted, fetch it again") from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                if not info.is_dir():
                    yield info.filename, file.open(info)
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content


def _copy(source: IO[bytes], target: IO[bytes], budget: int, archive: Path) -> int:
    """Copy at most `budget` bytes and return how many; the sizes that an archive declares are not believed."""
    copied = 0
    while block := source.read(1 << 20):
        copied += len(block)
        if copied > budget:
            raise UserError(f"{archive} unpacks to more than its size or the disk allows: expected a data set")
        target.write(block)
    return copied
