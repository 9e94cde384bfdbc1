"""The engines that were built beside a bundle: what each was made from and for, so that a stale one is never loaded.

They lie in `engines/` of the bundle and are no part of it: the manifest does not list them, and a copy to another
device leaves them unused. `engines/engines.json` says what they are.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import EngineError, UserError
from ..files import inside, read_json, sha256, write_json
from ..manifest import Manifest
from .kernels import INDEX as KERNELS

FOLDER = "engines"
INDEX = f"{FOLDER}/engines.json"
SCHEMA = 1


@dataclass(frozen=True)
class Here:
    """Where an engine is to run: name of the GPU, compute capability as 87 for 8.7, full version of TensorRT."""

    device: str
    capability: int
    tensorrt: str


@dataclass(frozen=True)
class Key:
    """What an engine depends on; where one of these differs it is built anew.

    Attributes:
        device: name of the GPU.
        capability: its compute capability, 87 for 8.7.
        tensorrt: full version.
        precision: of the bundle.
        onnx: SHA-256 of the part.
        batch: images or prompts at a time.
        plugins: our kernels inside.
        kernels: SHA-256 of `ptx/kernels.json`, empty without plugins.
        refit: names of the weights that may be exchanged later.
    """

    device: str
    capability: int
    tensorrt: str
    precision: str
    onnx: str
    batch: int
    plugins: bool = False
    kernels: str = ""
    refit: tuple[str, ...] = ()

    def differs(self, other: "Key") -> list[str]:
        """Return the names of the fields in which two keys differ."""
        return [one.name for one in fields(self) if getattr(self, one.name) != getattr(other, one.name)]


@dataclass(frozen=True)
class Plan:
    """One engine that was built here and agreed with ONNX Runtime.

    Attributes:
        part: `image`, `text` or `decoder`.
        file: in the bundle.
        sha256: of the file.
        key: what it depends on.
        bytes: of the file.
        seconds: of the build.
        ms: median of one run, copies to and from the GPU included.
        graph: whether a run is replayed from a CUDA graph.
        parity: how far its outputs are from ONNX Runtime's.
        plugins: what was measured with our kernels and without, or why they were not tried.
    """

    part: str
    file: str
    sha256: str
    key: Key
    bytes: int = 0
    seconds: float = 0.0
    ms: float = 0.0
    graph: bool = True
    parity: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, Any] = field(default_factory=dict)


def write_plans(folder: Path, plans: Iterable[Plan]) -> None:
    """Write what the engines are, whole."""
    write_json(folder / INDEX, {"schema_version": SCHEMA, "engines": [asdict(plan) for plan in plans]})


def read_plans(folder: Path) -> list[Plan]:
    """Return what was built beside a bundle; an empty list where nothing was.

    Raises:
        EngineError: the list is damaged, or of another version of this package.
    """
    if not (folder / INDEX).is_file():
        return []
    try:
        values = read_json(folder / INDEX)
        if values["schema_version"] != SCHEMA:
            raise ValueError(f"schema {values['schema_version']}, expected {SCHEMA}")
        plans = [_parse(one) for one in values["engines"]]
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"{folder / INDEX} cannot be used ({error}): delete {folder / FOLDER} and build again"
        ) from error
    if outside := [plan.file for plan in plans if inside(folder, plan.file) is None]:
        raise EngineError(f"{folder / INDEX} names {outside[0]!r}, outside of the bundle: delete {folder / FOLDER}")
    return plans


def usable(folder: Path, manifest: Manifest, part: str, here: Here) -> list[Plan]:
    """Return the engines of a part that were built from its present file, on this device, by this TensorRT.

    Raises:
        EngineError: there are none; the sentence says what differs.
    """
    plans = [plan for plan in read_plans(folder) if plan.part == part]
    if not plans:
        raise EngineError(f"{manifest.name} has no TensorRT engine of its {part} part: vlseg build {folder}")
    fresh = [plan for plan in plans if not stale(plan, manifest, here)]
    if not fresh:
        words = [_difference(name, plan.key, here) for plan in plans for name in stale(plan, manifest, here)]
        why = "; ".join(dict.fromkeys(words))
        raise EngineError(f"the TensorRT engines of {manifest.name} are stale ({why}): vlseg build {folder}")
    return fresh


def key_of(
    manifest: Manifest, part: str, here: Here, batch: int, plugins: bool = False, refit: tuple[str, ...] = ()
) -> Key:
    """Return the key of an engine that would be built here and now."""
    onnx = manifest.files[str(manifest.parts[part])]
    kernels = manifest.files.get(KERNELS, "") if plugins else ""
    return Key(here.device, here.capability, here.tensorrt, manifest.precision, onnx, batch, plugins, kernels, refit)


def stale(plan: Plan, manifest: Manifest, here: Here) -> list[str]:
    """Return the names of what has changed since a plan was built."""
    k = plan.key
    return k.differs(key_of(manifest, plan.part, here, k.batch, k.plugins, k.refit))


def check_file(folder: Path, plan: Plan) -> bytes:
    """Return the bytes of an engine, which must be those that were built.

    Raises:
        EngineError: the file is absent, truncated or changed.
    """
    path = folder / plan.file
    if not path.is_file():
        raise EngineError(f"{path} is gone: vlseg build {folder}")
    if (size := path.stat().st_size) != plan.bytes:
        raise EngineError(f"{path} has {size} bytes, {plan.bytes} were built: vlseg build {folder}")
    if sha256(path) != plan.sha256:
        raise EngineError(f"{path} is not the engine that was built (its hash differs): vlseg build {folder}")
    return path.read_bytes()


def _parse(values: dict[str, Any]) -> Plan:
    key = values["key"]
    return Plan(**{**values, "key": Key(**{**key, "refit": tuple(key["refit"])})})


def _difference(name: str, key: Key, here: Here) -> str:
    return {
        "device": f"built on {key.device}, this is {here.device}",
        "capability": f"built for sm_{key.capability}, this is sm_{here.capability}",
        "tensorrt": f"built by TensorRT {key.tensorrt}, this is {here.tensorrt}",
        "precision": f"built in {key.precision}",
        "onnx": "the ONNX file has changed",
        "kernels": "the kernels have changed",
    }[name]
