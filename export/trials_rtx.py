"""Engines for RTX cards of a method at a size and a precision, built here without a run: a row for each part.

`python -m vlseg.export.trials_rtx docs/measured/rtx.csv clipseg/dense-vl base fp8 int8-fp16`. Weights are the embedded
base's at size tiny and random ones elsewhere: what a parser reads and a compiler builds does not depend on them. Eight
bits take every linear layer that could be quantised, where an export keeps those that hurt in half.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from ..deploy.drawn import draw_cases
from ..deploy.manifest import Manifest
from ..deploy.rows import append_row
from ..train.models.methods import build_model
from .bundle import Options, pack
from .graph import OPSET, OPSETS
from .measure import Row, rtx_rows
from .precision import PRECISIONS
from .quantize_choose import Choice, Yard
from .tax import print_step

PICTURES = 2
"""Drawn ones that ranges are measured on: they scale the graph and do not change its shape."""


def engines(method: str, size: str, precision: str, opset: int = OPSET) -> list[Row]:
    """Return a row for the engine of each part; ONNX and engines go into a temporary folder, and with it.

    Raises:
        UserError: no such method, size, precision or opset, or eight bits where no linear layer could have them.
        EngineError: no TensorRT-RTX, or a part that it cannot build.
    """
    model = build_model(method, size, weights=None if size == "tiny" else "random")
    options = Options(precision, folds="none", opset=opset)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = pack(model, {"method": method, "size": size}, folder, options, print_step)
        del model
        if bits := PRECISIONS[precision][1]:
            quantise_all(folder, manifest, bits)
        return rtx_rows(folder, manifest)


def quantise_all(folder: Path, manifest: Manifest, bits: str) -> None:
    """Give every linear layer that could have them eight bits, in place."""
    pictures = [(case.image, case.prompt) for case in draw_cases(PICTURES)]
    with Yard(folder, manifest, pictures) as yard:
        choice = Choice(yard, bits)
        made = choice.parts(list(choice.groups))
    for part, graph in made.items():
        onnx.save(graph, folder / str(manifest.parts[part]))


def main(words: Sequence[str] | None = None) -> None:
    """Build engines and append their rows to a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("csv", type=Path, help="file to append to")
    parser.add_argument("method", help="as in `vlseg methods`")
    parser.add_argument("size", help="tiny, base, ...")
    parser.add_argument("precisions", nargs="+", choices=PRECISIONS)
    parser.add_argument("--opset", type=int, default=OPSET, choices=OPSETS)
    given = parser.parse_args(words)
    for precision in given.precisions:
        for row in engines(given.method, given.size, precision, given.opset):
            append_row(given.csv, row)
            print_step(" ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
