"""What a bundle says about itself: `manifest.json`, read strictly and believed only with its hashes.

A bundle is a folder: the ONNX parts, the tokenizer (or the fixed prompts' embeddings), and this manifest.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import BundleError, UserError
from .files import SEAL, inside, read_json, seal_of, sha256, write_json
from .flow import PARTS, TWO_TOWERS, Flow

SCHEMA_VERSION = 4
MANIFEST = "manifest.json"
DEEPEST = 32


@dataclass(frozen=True)
class Manifest:
    """A bundle's description; a run described the same way lets one code evaluate both.

    Attributes:
        name: what the bundle is called in tables.
        method: `backbone/method`, such as `clipseg/dense-vl`.
        size: `tiny`, `base`, ...
        backbone: id of the frozen weights.
        weights_hash: SHA-256 of the frozen weights.
        image_size: side of the square input, pixels.
        mean: per channel, on pixels scaled to 0..1.
        std: per channel.
        threshold: probability (0..1) above which a pixel is the object, chosen on validation.
        tokenizer: file name, or None where the prompts are fixed.
        text_depends_on_image: the text part reads what the image part makes, so that no prompt is known for itself.
        needs_words: an empty prompt says nothing to the model, and is refused.
        parts: file name of `image`, `text` and `decoder`; `text` is None where the prompts are fixed.
        flow: for each part, the names of its `inputs` and `outputs`; parts feed each other by these names.
        axes: for each part, input or output name -> dims, a dim being a number or a name.
        fixed_prompts: the prompts that the text part was run on, one row of each `fixed_file` for each prompt.
        precision: `fp32`, `fp16`, `int8`, ...
        quantised: for each layer group that was judged, what fewer bits cost in it and whether it has them.
        adapters: by name, the adapters that fit this backbone: `file`, `threshold`, `parity`, `training` of each; the
            first is in the ONNX files too. Empty where the bundle has one that is not meant to be changed.
        opset: ONNX opset.
        folds: what was folded, as the export wrote it.
        files: SHA-256 of every file but the manifest.
        parity: the certificate of the export.
        training: metrics of the training.
        versions: of the libraries that made the bundle.
        created: ISO 8601 date.
        schema_version: of this description.
        seal: hash of all the other fields, which `save` writes; "" where an older version wrote none.
    """

    name: str
    method: str
    size: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    threshold: float = 0.5
    backbone: str = ""
    weights_hash: str = ""
    tokenizer: str | None = "tokenizer.json"
    text_depends_on_image: bool = False
    needs_words: bool = False
    parts: dict[str, str | None] = field(default_factory=dict)
    flow: dict[str, dict[str, list[str]]] = field(default_factory=lambda: TWO_TOWERS)
    axes: dict[str, dict[str, list[int | str]]] = field(default_factory=dict)
    fixed_prompts: list[str] = field(default_factory=list)
    precision: str = "fp32"
    quantised: list[Any] = field(default_factory=list)
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    opset: int = 20
    folds: list[Any] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = SCHEMA_VERSION
    seal: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def save(self, folder: Path | str) -> "Manifest":
        """Hash every file of `folder`, write `manifest.json` there and return the manifest with hashes and seal.

        Raises:
            BundleError: this manifest would not load again.
        """
        folder = Path(folder)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        # engines that were built beside the bundle are no part of it
        kept = [name for name in names if name != MANIFEST and not name.startswith("engines/")]
        hashed = replace(self, files={name: sha256(folder / name) for name in kept})
        sealed = replace(hashed, seal=seal_of(hashed.to_json()))
        _check(_parse(sealed.to_json(), folder), folder)
        write_json(folder / MANIFEST, sealed.to_json())
        return sealed

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """Read and check a bundle's manifest and the hash of every file it lists.

        Raises:
            BundleError: no bundle, another schema, a malformed field, a file that is missing, changed or outside.
        """
        folder = Path(folder)
        values = _read(folder)
        manifest = _parse(values, folder)
        _check(manifest, folder)
        _check_seal(values, folder)
        _check_files(manifest, folder)
        return manifest


def fixed_file(name: str) -> str:
    """Return the file that holds a text output of fixed prompts, (n, ...): `fixed_text.npy` for `text_embedding`."""
    return f"fixed_{name.removesuffix('_embedding')}.npy"


def _read(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is not a bundle (no {MANIFEST}): make one with `vlseg export RUN BUNDLE`")
    try:
        values = read_json(folder / MANIFEST)
    except UserError as error:
        raise BundleError(str(error)) from error
    if not isinstance(values, dict):
        raise BundleError(
            f"{folder / MANIFEST} holds a {type(values).__name__}, expected an object: export the bundle again"
        )
    if _depth(values) > DEEPEST:
        raise BundleError(f"{folder / MANIFEST} is nested more than {DEEPEST} deep: do not use this bundle")
    return values


def _depth(value: Any) -> int:
    """Return how deep a JSON value is nested, counted no further than what is too deep."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return depth


def _check_seal(values: dict[str, Any], folder: Path) -> None:
    """Check that no field has changed since `save`; manifests of older schemas have no seal."""
    if values["schema_version"] == SCHEMA_VERSION and values[SEAL] != seal_of(values):
        raise BundleError(
            f"{folder / MANIFEST} is not as it was written (its seal differs): copy the bundle again or export it"
        )


def _parse(values: dict[str, Any], folder: Path) -> Manifest:
    values = _today(values, folder)
    known = {item.name for item in fields(Manifest)}
    if unknown := sorted(values.keys() - known):
        raise BundleError(f"{folder} has unknown manifest fields {', '.join(unknown)}: install the vlseg that wrote it")
    if missing := sorted(known - values.keys()):
        raise BundleError(f"{folder} lacks the manifest fields {', '.join(missing)}: export the bundle again")
    for name, (right, expected) in _RULES.items():
        if not right(values[name]):
            raise BundleError(
                f"{folder}: manifest field {name} is {values[name]!r}, expected {expected}: export it again"
            )
    return Manifest(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def _today(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the fields as this schema has them; what older ones did not know of is added as it was then.

    The first knew a single flow and did not write it down, the second knew neither eight bits nor several adapters,
    the third had no seal.
    """
    version = values.get("schema_version")
    if _is_count(version) and version in _ADDED:
        return {**_ADDED[version], **values, "schema_version": SCHEMA_VERSION}
    if not _is_count(version) or version != SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has manifest schema {version!r}, this vlseg reads 1 to {SCHEMA_VERSION}: "
            "install the vlseg that wrote it, or export the bundle again with this one"
        )
    return values


def _check(manifest: Manifest, folder: Path) -> None:
    """Check what the fields say of each other: every file that is used is listed, and either text or fixed prompts."""
    if manifest.parts.keys() != set(PARTS):
        raise BundleError(
            f"{folder}: manifest parts are {sorted(manifest.parts)}, expected {', '.join(PARTS)}: export it again"
        )
    _check_flow(manifest, folder)
    fixed = bool(manifest.fixed_prompts)
    text = [manifest.parts["text"], manifest.tokenizer]
    if fixed == (text[0] is not None):
        raise BundleError(
            f"{folder} must have either a text part or fixed prompts, not both or neither: export it again"
        )
    constants = [fixed_file(name) for name in manifest.flow["text"]["outputs"]]
    used = [manifest.parts["image"], manifest.parts["decoder"], *(constants if fixed else text)]
    if lost := [str(name) for name in used if name not in manifest.files]:
        raise BundleError(f"{folder}: {', '.join(lost)} is used but not listed under files: export the bundle again")
    if lost := [one["file"] for one in manifest.adapters.values() if one["file"] not in manifest.files]:
        raise BundleError(f"{folder}: adapter {lost[0]} is not listed under files: export the bundle again")
    if outside := [name for name in manifest.files if inside(folder, name) is None]:
        raise BundleError(
            f"{folder}: the manifest names {outside[0]!r}, which is outside the bundle: do not use this bundle"
        )


def _check_flow(manifest: Manifest, folder: Path) -> None:
    try:
        depends = "picture" in Flow(manifest.flow).depends["text"]
    except BundleError as error:
        raise BundleError(f"{folder}: the flow of its parts is wrong ({error}): export it again") from error
    if depends != manifest.text_depends_on_image:
        words = "does" if depends else "does not"
        raise BundleError(
            f"{folder}: by its flow the text {words} depend on the image, and text_depends_on_image says "
            f"{str(manifest.text_depends_on_image).lower()}: export it again"
        )
    if depends and manifest.fixed_prompts:
        raise BundleError(f"{folder} has fixed prompts although its text depends on the image: export it again")


def _check_files(manifest: Manifest, folder: Path) -> None:
    for name in manifest.files:
        if not (folder / name).is_file():
            raise BundleError(f"{folder} lacks {name}, which its manifest lists: copy the bundle again")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(sha256, [folder / name for name in manifest.files]))
    for (name, digest), own in zip(manifest.files.items(), found, strict=True):
        if own != digest:
            raise BundleError(
                f"{folder / name} is not the file the manifest describes (its hash differs): copy the bundle again"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_table(value: Any, right: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(right, value.values()))


def _is_dims(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(dim) or (isinstance(dim, str) and dim) for dim in value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_adapters(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict) and _is_name(one.get("file", "")) and _is_level(one.get("threshold"))
        for one in value.values()
    )


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


_THIRD = {SEAL: ""}
_SECOND = {"quantised": [], "adapters": {}, "needs_words": False, **_THIRD}
_ADDED: dict[Any, dict[str, Any]] = {1: {"flow": TWO_TOWERS, **_SECOND}, 2: _SECOND, 3: _THIRD}
_TEXT = (_is_text, "text")
_OBJECT = (lambda value: isinstance(value, dict), "an object")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": _TEXT,
    "method": _TEXT,
    "size": _TEXT,
    "backbone": _TEXT,
    "weights_hash": _TEXT,
    "image_size": (_is_count, "a positive whole number"),
    "mean": (_is_triple, "three numbers"),
    "std": (lambda value: _is_triple(value) and min(value) > 0, "three positive numbers"),
    "threshold": (_is_level, "a number from 0 to 1"),
    "tokenizer": (_is_name, "a file name or null"),
    "text_depends_on_image": (lambda value: isinstance(value, bool), "true or false"),
    "needs_words": (lambda value: isinstance(value, bool), "true or false"),
    "parts": (lambda value: _is_table(value, _is_name), "a file name or null for each part"),
    "flow": (lambda value: _is_table(value, lambda part: _is_table(part, _is_names)), "lists of names for each part"),
    "axes": (lambda value: _is_table(value, lambda part: _is_table(part, _is_dims)), "lists of dims for each part"),
    "fixed_prompts": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of texts"),
    "precision": _TEXT,
    "quantised": (lambda value: isinstance(value, list), "a list"),
    "adapters": (_is_adapters, "a file and a threshold from 0 to 1 for each name"),
    "opset": (_is_count, "a positive whole number"),
    "folds": (lambda value: isinstance(value, list), "a list"),
    "files": (lambda value: _is_table(value, _is_text), "a SHA-256 for each file"),
    "parity": _OBJECT,
    "training": _OBJECT,
    "versions": (lambda value: _is_table(value, _is_text), "a text for each library"),
    "created": _TEXT,
    SEAL: _TEXT,
}
