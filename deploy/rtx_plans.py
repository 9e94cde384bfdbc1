"""The engines for RTX cards that a bundle may bring: `rtx/engines.json` says what they are, and for which cards.

They are built where the bundle is exported, so unlike an engine that was built on its own device, one may be handed to
a card, a version or an ONNX file that it was not made for. All three are refused here, by name.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError, EngineError, UserError
from .files import inside, read_json, write_json
from .manifest import Manifest

FOLDER = "rtx"
INDEX = f"{FOLDER}/engines.json"


@dataclass(frozen=True)
class Entry:
    """One engine of a bundle.

    Attributes:
        plan: file name in the bundle.
        context: the ONNX file in the bundle whose only node is the plan, which is what ONNX Runtime opens.
        onnx: SHA-256 of the part that it was built from.
        architectures: compute capabilities that it runs on, 86 for 8.6.
        left_out: those it could not be built for, with the reason.
        version: of the TensorRT-RTX that built it, and the only one that loads it.
        bytes: of the plan.
        seconds: of the build.
    """

    plan: str
    context: str
    onnx: str
    architectures: list[int]
    left_out: dict[str, str]
    version: str
    bytes: int
    seconds: float


def write_index(folder: Path, entries: dict[str, Entry]) -> None:
    """Write what each part's engine is."""
    write_json(folder / INDEX, {part: asdict(entry) for part, entry in entries.items()})


def read_index(folder: Path, manifest: Manifest) -> dict[str, Entry]:
    """Return the engine of each part; none where the bundle was exported without.

    Raises:
        BundleError: the index or what it names is not part of the bundle, or is damaged.
    """
    if INDEX not in manifest.files:
        return {}
    try:
        entries = {part: Entry(**values) for part, values in read_json(folder / INDEX).items()}
    except (UserError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / INDEX} is damaged ({error}): export the bundle again") from error
    for entry in entries.values():
        for name in (entry.plan, entry.context):
            if name not in manifest.files or inside(folder, name) is None:
                raise BundleError(f"{folder} lacks {name}, which {INDEX} names: copy the bundle again")
    return entries


def context_of(folder: Path, manifest: Manifest, part: str, capability: int, version: str) -> Path | None:
    """Return the file to open for a part on a card, or None where the bundle brings no engines at all.

    Args:
        folder: the bundle.
        manifest: its description, with checked hashes.
        part: `image`, `text` or `decoder`.
        capability: compute capability of the card, 86 for 8.6.
        version: of the TensorRT-RTX that is installed.

    Raises:
        EngineError: the engine was built for other cards, by another version, or from another ONNX file.
    """
    entries = read_index(folder, manifest)
    if not entries:
        return None
    entry = entries.get(part)
    if entry is None or entry.onnx != manifest.files[str(manifest.parts[part])]:
        raise EngineError(
            f"the engine of {manifest.name}'s {part} part was not built from its ONNX file: {_again(capability)}"
        )
    if capability not in entry.architectures:
        have = ", ".join(f"sm_{arch}" for arch in entry.architectures)
        why = entry.left_out.get(str(capability))
        raise EngineError(
            f"{manifest.name} has engines for {have}, this GPU is sm_{capability}{f' ({why})' if why else ''}: "
            f"{'export with --precision fp16' if why else _again(capability)}"
        )
    if entry.version != version:
        raise EngineError(
            f"the engines of {manifest.name} were built by TensorRT-RTX {entry.version}, {version} is installed: "
            f"install that one, or {_again(capability)}"
        )
    return folder / entry.context


def _again(capability: int) -> str:
    return f"export again with --target tensorrt-rtx --arch {capability}"


def summary(entries: dict[str, Entry]) -> list[dict[str, Any]]:
    """Return a row for each part, for a report."""
    return [{"part": part, **asdict(entry)} for part, entry in entries.items()]
