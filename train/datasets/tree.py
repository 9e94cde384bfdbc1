"""A data set as its owners publish it: a folder, an archive, or a folder of archives, read as one list of files."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...deploy.errors import UserError
from .unpack import is_archive, stem_of, unpack

ASIDE = ("__MACOSX", ".")


@dataclass(frozen=True)
class Part:
    """Files of one kind: a regular expression on their relative path, and one path as it looks when published."""

    pattern: str
    example: str


@dataclass(frozen=True)
class Tree:
    """The files of a source, by their relative path with forward slashes."""

    source: Path
    files: Mapping[str, Path]

    def find(self, part: Part) -> list[tuple[dict[str, str], Path]]:
        """Return the named groups and the path of each file whose relative path the part's pattern is found in."""
        pattern = re.compile(part.pattern)
        found = ((pattern.search(name), path) for name, path in self.files.items())
        return [(match.groupdict(default=""), path) for match, path in found if match]

    def named(self, name: str) -> Path | None:
        """Return the file whose relative path ends in `name`, whole folders alone counting; None: none or several."""
        found = [key for key in self._by_last.get(name.rsplit("/", 1)[-1], ()) if f"/{key}".endswith(f"/{name}")]
        return self.files[found[0]] if len(found) == 1 else None

    @cached_property
    def _by_last(self) -> dict[str, list[str]]:
        by_last: dict[str, list[str]] = {}
        for key in self.files:
            by_last.setdefault(key.rsplit("/", 1)[-1], []).append(key)
        return by_last


@contextmanager
def opened(source: Path | str, scratch: Path | str) -> Iterator[Tree]:
    """Hand out the files of `source`; archives are unpacked below `scratch` and deleted again at the end.

    An archive inside a folder counts as a folder of its name. Hidden files, and links that lead out, are left aside.

    Raises:
        UserError: no such source, a damaged or hostile archive, or one of a kind that is not read.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(f"there is no {source}: expected the folder or the archive that the data came in")
    with ExitStack() as stack:
        files = {} if source.is_dir() else {stem_of(source): source}
        if source.is_dir():
            files = dict(_walk(source))
        for name, path in [pair for pair in files.items() if is_archive(pair[1])]:
            del files[name]
            inner = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch)))
            unpack(path, inner)
            prefix = name.rsplit("/", 1)[0] + "/" if "/" in name else ""
            files |= {f"{prefix}{stem_of(path)}/{key}": file for key, file in _walk(inner)}
        if not files or source in files.values():
            raise UserError(f"{source} holds no data: expected a folder, or a zip or tar archive")
        yield Tree(source, dict(sorted(files.items())))


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(ASIDE) for part in parts) or not path.is_file():
            continue
        if path.resolve().is_relative_to(root):
            yield "/".join(parts), path
