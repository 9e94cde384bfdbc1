"""The bundles that come with the package: unpacked where the page keeps its files, gone when it ends."""

import tarfile
from pathlib import Path

from ..deploy.errors import UserError
from ..deploy.manifest import MANIFEST

ARCHIVE = Path(__file__).parent / "bundles.tar.xz"


def shipped(folder: Path) -> list[Path]:
    """Unpack the package's own bundles into `folder`; return them, the frozen base first.

    They share most of their weights, which the archive holds once.

    Raises:
        UserError: the package came without them.
    """
    if not ARCHIVE.is_file():
        raise UserError(
            f"{ARCHIVE} is missing, so there is no bundle to show: name one, as `vlseg demo quickstart/bundle`"
        )
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder / "bundles", filter="data")
    found = sorted(path.parent for path in (folder / "bundles").glob(f"*/{MANIFEST}"))
    return sorted(found, key=lambda path: path.name != "base")
