"""What a precision costs in Dice on labelled images: a run as a float bundle and as one of fewer bits, a row for each.

`python -m vlseg.export.trials_bits docs/measured/int8_dice.csv RUN DATA int8-fp16 fp8`. Ranges are measured on DATA's
training split, Dice on its test split, both bundles in ONNX Runtime.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..deploy.annotations import read_split
from ..deploy.evaluate import evaluate
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from ..train.models.runs import load_run
from .bundle import export
from .calibration import COUNT
from .precision import PRECISIONS
from .tax import print_step

Row = dict[str, Any]


def dice_rows(run: Path, data: Path, precisions: Sequence[str], prompt: str = "p1", threads: int = 1) -> list[Row]:
    """Return a row for each precision; the bundles go into a temporary folder, and with it.

    Raises:
        UserError: no such run, data or precision, or a bundle that does not pass its certificate.
    """
    rows, (_, info) = [], load_run(run)
    with tempfile.TemporaryDirectory() as scratch:
        plain = _exported(run, Path(scratch) / "fp32", "fp32", None)
        exact = _mean_dice(Path(plain["bundle"]), data, prompt, threads)
        for precision in precisions:
            calibrate = data if PRECISIONS[precision][1] else None
            report = _exported(run, Path(scratch) / precision, precision, calibrate, prompt)
            found = _mean_dice(Path(report["bundle"]), data, prompt, threads)
            rows.append(_row(info, data, prompt, precision, report) | {"n": found[1], "threads": threads})
            rows[-1] |= {"float": round(exact[0], 5), "fewer_bits": round(found[0], 5)}
    return rows


def _exported(run: Path, out: Path, precision: str, calibrate: Path | None, prompt: str = "p1") -> dict[str, Any]:
    return export(run, out, precision=precision, calibrate=calibrate, prompt=prompt, folds="none", progress=print_step)


def _mean_dice(bundle: Path, data: Path, prompt: str, threads: int) -> tuple[float, int]:
    """Return the mean Dice on the test split, and of how many images."""
    with Segmenter.open(bundle, "onnxruntime", threads) as model:
        report = evaluate(model, read_split(data, "test"), prompt, data=data.name, split="test", hd95=False)
    return report["mean"]["dice"], report["n"]


def _row(info: dict[str, Any], data: Path, prompt: str, precision: str, report: dict[str, Any]) -> Row:
    kept = "quantised" if PRECISIONS[precision][1] else "half"
    groups, parity = [one for one in report["quantised"] if kept in one], report["parity"]
    return {
        "data": data.name,
        "method": info["method"],
        "size": info["size"],
        "precision": precision,
        "prompt": prompt,
        "minutes": info.get("minutes"),
        "groups": f"{sum(one[kept] for one in groups)} of {len(groups)}" if groups else "all",
        "calibrated_on": COUNT if PRECISIONS[precision][1] else 0,
        "certificate_dice_min": round(parity["dice_min"], 5),
        "certificate_flipped": round(parity["flipped_share"], 7),
        "certificate_passed": parity["passed"],
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure a run and append the rows to a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("csv", type=Path, help="file to append to")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("data", type=Path, help="a data folder with anns/")
    parser.add_argument("precisions", nargs="+", choices=PRECISIONS)
    parser.add_argument("--prompt", default="p1", help="prompt key of the data")
    given = parser.parse_args(words)
    for row in dice_rows(given.run, given.data, given.precisions, given.prompt):
        append_row(given.csv, row)
        print_step(" ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
