"""Make demo/bundles.tar.xz: the bundles that come with the package, of the frozen base and of runs that adapt it.

python docs/bundles.py nuclei=runs/nuclei clinic=runs/clinic

Weights are rounded to as few bits as a bundle's proof of parity allows, which is what makes the archive small; what the
bundles share is in it once.
"""

import argparse
import lzma
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from vlseg.deploy.drawn import draw_cases
from vlseg.deploy.files import atomic_write
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.parity import certify
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.bundle import export_model
from vlseg.export.explain import explain
from vlseg.export.parity import torch_segmenter
from vlseg.train.models.card import CARD, bundle_card
from vlseg.train.models.methods import build_model
from vlseg.train.models.promptable import Promptable
from vlseg.train.models.runs import load_run

ARCHIVE = Path(__file__).parents[1] / "demo" / "bundles.tar.xz"
BITS = (10, 11, 12, 13, 14, 16, 23)
"""Bits of a weight's mantissa to try, of float32's 23."""
LARGE = 256
# the shared weights lie as far apart as a bundle is large; four-byte numbers
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 64 << 20, "lc": 0, "lp": 2, "pb": 2}]


@dataclass(frozen=True)
class Exact:
    """A bundle as it was exported: the model, what its run says, and the folder."""

    model: Promptable
    info: dict[str, Any]
    folder: Path


def main() -> None:
    """Export, round, prove and pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", help="name=folder of each adapted run")
    parser.add_argument("--out", type=Path, default=ARCHIVE)
    given = parser.parse_args()
    runs = dict(run.split("=", 1) for run in given.runs)
    with tempfile.TemporaryDirectory() as scratch:
        exact = [write("base", None, Path(scratch)), *(write(name, run, Path(scratch)) for name, run in runs.items())]
        pack(fewest_bits(exact), given.out)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB")


def write(name: str, run: str | None, scratch: Path) -> Exact:
    """Export one bundle, with what its adapters contribute."""
    folder = scratch / "exact" / name
    frozen = {"method": "clipseg/frozen", "size": "tiny"}
    model, info = load_run(Path(run)) if run else (build_model("clipseg/frozen", "tiny"), frozen)
    export_model(model, info, folder, progress=print)
    if run:
        explain(run, folder)
    return Exact(model, info, folder)


def fewest_bits(exact: list[Exact]) -> list[Path]:
    """Return the bundles with as few bits in their weights as all proofs allow: one number, so that they share."""
    for bits in BITS:
        made = [round_bundle(one, bits) for one in exact]
        if all(made):
            return [folder for folder in made if folder]
    raise SystemExit("a bundle does not pass even unrounded")


def round_bundle(exact: Exact, bits: int) -> Path | None:
    """Return a copy of a bundle with rounded weights and the certificate of it, or None where it does not pass."""
    name, folder = exact.folder.name, exact.folder.parents[1] / exact.folder.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(exact.folder, folder)
    for path in folder.glob("*.onnx"):
        round_weights(path, bits)
    manifest = Manifest.load(exact.folder)
    manifest.save(folder)
    with Segmenter.open(folder) as candidate:
        parity = certify(torch_segmenter(exact.model, manifest), candidate, draw_cases())
    print(f"{name}: {bits} bits, lowest Dice {parity['dice_min']:.5f}, {parity['flipped_share']:.6%} flipped")
    folds = [*manifest.folds, {"fold": f"weights rounded to {bits + 1} significant bits"}]
    return seal(folder, replace(manifest, parity=parity, folds=folds), exact.info) if parity["passed"] else None


def seal(folder: Path, manifest: Manifest, info: dict[str, Any]) -> Path:
    """Write card and manifest of the rounded bundle into it, with its own certificate."""
    known = {"weights_hash": manifest.weights_hash, "created": manifest.created, **info}
    atomic_write(folder / CARD, bundle_card(manifest, {manifest.name: known}))
    manifest.save(folder)
    return folder


def round_weights(path: Path, bits: int) -> None:
    """Round the large float32 constants of a graph to `bits` bits of mantissa, to the nearest."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= LARGE:
            tensor.CopyFrom(numpy_helper.from_array(rounded(values, bits), tensor.name))
    onnx.save(model, path)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Return float32 values with all but `bits` bits of the mantissa zero."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits + 1)), exponent - bits - 1).astype(np.float32)


def pack(folders: list[Path], out: Path) -> None:
    """Write an archive without names or times of the machine that made it, large files of one kind side by side."""
    files = [path for folder in folders for path in folder.iterdir()]
    files.sort(key=lambda path: (path.suffix, path.name, path.parent.name))
    with lzma.open(out, "wb", filters=FILTERS) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for path in files:
            entry = archive.gettarinfo(path, f"{path.parent.name}/{path.name}")
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            with open(path, "rb") as file:
                archive.addfile(entry, file)


if __name__ == "__main__":
    main()
