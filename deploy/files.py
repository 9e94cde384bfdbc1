"""Files that are written whole or not at all, and the hashes that prove what was read."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

PARTIAL = ".partial"
SEAL = "seal"
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}" + re.escape(PARTIAL))
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
_TRIES = 20  # each is lost only to another process that renames within the same microseconds
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 lower-case hex digits."""
    with open(path, "rb") as file:
        return digest_of(file)


def digest_of(file: BinaryIO) -> str:
    """Return the SHA-256 of what an open file still holds, as 64 lower-case hex digits."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def atomic_folder(dest: Path | str, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Hand out a temporary sibling of `dest`; when the block ends well, it becomes `dest` in one rename.

    The block must write the file `marker` (`manifest.json`, `run.json`): by it a folder is known as ours. Where `dest`
    exists, an empty folder is used, a folder of ours is replaced with `overwrite`, and anything else is refused and
    left as it is. If the block fails, nothing is left behind; if the process is killed, a hidden folder ending in
    `.partial` stays, which no reader takes for a whole one.

    Raises:
        UserError: `dest` is not ours, or ours without `overwrite`, or cannot be written.
    """
    dest = Path(dest).resolve()
    _check_free(dest, marker, overwrite)
    partial = _make_partial(dest)
    try:
        with writing(dest):
            yield partial
            if not (partial / marker).is_file():
                raise RuntimeError(f"the block for {dest} ended without writing {marker}")
            _sync_tree(partial)
        with writing(dest):
            _place(partial, dest, marker, overwrite)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write a file whole: a reader sees the old bytes or the new ones, never a part. Text is UTF-8.

    Raises:
        UserError: the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    partial = _partial_name(path)
    with writing(path, anything=True):
        try:
            with open(partial, "xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        _sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they do not stand yet.

    Raises:
        UserError: it cannot be made.
    """
    with writing(path, anything=True):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Hand out a temporary sibling of `path` for a library to write; when the block ends well, it becomes `path`.

    If the block fails, nothing is left behind. Raises as `atomic_write`.
    """
    path = Path(path)
    partial = _partial_name(path)
    try:
        yield partial
        with writing(path, anything=True):
            _sync(partial)
            os.replace(partial, path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole; NaN and infinity are refused, since JSON has no word for them."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: the file is absent, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): expected UTF-8 JSON, correct or restore the file"
        ) from error


def seal_of(values: dict[str, Any]) -> str:
    """Return a hash of what a JSON object says but its `SEAL`: that field holds it, so that a changed bit shows."""
    told = {name: value for name, value in values.items() if name != SEAL}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_partial(path: Path | str) -> bool:
    """Is this what an unfinished write left behind?"""
    return Path(path).name.endswith(PARTIAL)


def is_leftover(path: Path | str) -> bool:
    """Is this, by its name, a partial file or folder of ours that a killed process left behind?"""
    return bool(_LEFTOVER.fullmatch(Path(path).name))


def inside(folder: Path, name: str) -> Path | None:
    """Return the file that the relative `name` means inside `folder`, or None where it leads out of it.

    Absolute names, `..` and symbolic links that end outside or in a circle all lead out, as do names that the file
    system cannot take.
    """
    pure = Path(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        return None
    root = folder.resolve()
    try:
        name.encode()
        target = (root / name).resolve()
        target.is_file()
    except (OSError, RuntimeError, ValueError):
        return None
    return folder / name if target.is_relative_to(root) else None


def _partial_name(dest: Path) -> Path:
    return dest.parent / f".{dest.name}.{secrets.token_hex(4)}{PARTIAL}"


def _make_partial(dest: Path) -> Path:
    partial = _partial_name(dest)
    with writing(dest, anything=True):
        dest.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    return partial


def _check_free(dest: Path, marker: str, overwrite: bool) -> None:
    if not (names := _names(dest)):
        return
    if marker not in names:
        raise UserError(
            f"{dest} exists and is not ours (it holds no {marker}), so it is never deleted: choose another name"
        )
    if not overwrite:
        raise UserError(f"{dest} exists already: choose another name, or ask for it to be overwritten")


def _names(dest: Path) -> list[str]:
    """Return what a folder holds, all of one moment: another process may put a new one in its place meanwhile."""
    while dest.exists():
        try:
            before, names = dest.stat(), os.listdir(dest)
            if os.path.samestat(before, dest.stat()):
                return names
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            raise UserError(f"{dest} is a file, expected a folder to write: choose another name") from None
    return []


def _place(partial: Path, dest: Path, marker: str, overwrite: bool) -> None:
    """Rename over nothing or an empty folder; a full one is checked, and steps aside where it may be replaced.

    Of several processes that do so at once, each finds either what it may replace or what it must refuse.
    """
    for _ in range(_TRIES):
        _check_free(dest, marker, overwrite)
        try:
            os.replace(partial, dest)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            _sync(dest.parent)
            return
        if overwrite and _swap(partial, dest):
            return
    raise UserError(f"{dest} is being written by other processes: wait for their end, or choose another name")


def _swap(partial: Path, dest: Path) -> bool:
    """Let a full folder step aside, to come back if the rename fails; False where another process was quicker."""
    old = _partial_name(dest)
    try:
        os.replace(dest, old)
    except FileNotFoundError:
        return False
    try:
        os.replace(partial, dest)
    except OSError as error:
        if error.errno in _TAKEN:
            shutil.rmtree(old)
            return False
        os.replace(old, dest)
        raise
    _sync(dest.parent)
    shutil.rmtree(old)
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def check_writable(path: Path) -> None:
    """Raise UserError unless a file could be written at `path`, which is left as it is: to ask before long work."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, expected a file to write: give it a name")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.absolute().parent}")
    with writing(path, anything=True), tempfile.TemporaryFile(dir=path.absolute().parent):
        pass


@contextmanager
def writing(dest: Path, anything: bool = False) -> Iterator[None]:
    """Turn the system's refusal to write into one sentence; other errors of the block pass through."""
    try:
        yield
    except OSError as error:
        if not anything and error.errno not in _FULL:
            raise
        raise UserError(f"cannot write {dest}: {error.strerror}; nothing was changed, choose another place") from error
