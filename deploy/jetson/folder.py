"""A bundle as a folder that a Jetson can use: model, wheel, pinned requirements, scripts, and a page that explains."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ..errors import UserError
from ..files import atomic_folder, write_json
from ..manifest import Manifest
from .wheel import pack_wheel

MARKER = "deploy.json"
ARCHITECTURES = (87, 110)
"""Compute capabilities of Orin and of Thor."""

TEMPLATES = Path(__file__).parent / "files"
PLACES = ("jetson",)
# what was built elsewhere is of no use on the device
_FOREIGN = ("rtx", "engines")
Progress = Callable[[str], None]
Kernels = Callable[[Path, list[str], tuple[int, ...]], None]
"""Called with a bundle that is being written, its ONNX files, and the architectures wanted."""


def make_folder(
    bundle: Path | str,
    out: Path | str,
    *,
    kernels: Kernels | None = None,
    overwrite: bool = False,
    progress: Progress = lambda step: None,
) -> dict[str, Any]:
    """Write `out`, whole or not at all; return `{folder, wheel, files, kernels}`.

    Args:
        bundle: as `vlseg export` wrote it.
        out: the folder; one of ours is replaced if `overwrite`, anything else is refused.
        kernels: adds the PTX of its nodes to a copy of the bundle, in place of what it has; None adds none.
        overwrite: replace a folder of ours.
        progress: called with a sentence before each step.

    Raises:
        BundleError: no bundle, or a damaged one.
        UserError: `out` is not ours, inside of the bundle, or cannot be written.
    """
    source, manifest = Path(bundle), Manifest.load(bundle)
    if Path(out).resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies inside of the bundle {bundle}, which would copy itself: choose another place")
    with atomic_folder(out, MARKER, overwrite) as folder:
        progress("copying the bundle")
        _copy(source, manifest, folder / "bundle", without=_FOREIGN if kernels is None else (*_FOREIGN, "ptx"))
        if kernels is not None:
            progress("adding our kernels for Orin and Thor")
            kernels(folder / "bundle", [str(name) for name in manifest.parts.values() if name], ARCHITECTURES)
            manifest.save(folder / "bundle")
        sealed = Manifest.load(folder / "bundle")
        progress("packing the wheel")
        name, data = pack_wheel()
        (folder / "wheels").mkdir()
        (folder / "wheels" / name).write_bytes(data)
        _write_scripts(folder, sealed)
        report = {
            "wheel": name,
            "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
            "kernels": _has_kernels(sealed),
        }
        write_json(folder / MARKER, {"bundle": manifest.name, "method": manifest.method, **report})
    return {"folder": str(out), **report}


def _copy(source: Path, manifest: Manifest, dest: Path, without: Sequence[str]) -> None:
    """Copy what the manifest lists but some folders, and seal the copy."""
    dest.mkdir()
    for name in manifest.files:
        if name.split("/")[0] not in without:
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, dest / name)
    manifest.save(dest)


def _write_scripts(folder: Path, manifest: Manifest) -> None:
    facts = {
        "name": manifest.name,
        "method": manifest.method,
        "size": manifest.size,
        "precision": manifest.precision,
        "prompt": manifest.fixed_prompts[0] if manifest.fixed_prompts else "what to find",
        "ptx": "our kernels in `ptx/`" if _has_kernels(manifest) else "no kernels of ours (its graph has none)",
    }
    for path in sorted(TEMPLATES.iterdir()):
        if path.suffix == ".md":
            (folder / path.name).write_text(Template(path.read_text()).safe_substitute(facts))
        else:
            shutil.copyfile(path, folder / path.name)
        if path.suffix == ".sh" and path.name != "common.sh":
            (folder / path.name).chmod(0o755)


def _has_kernels(manifest: Manifest) -> bool:
    return any(name.startswith("ptx/") for name in manifest.files)
