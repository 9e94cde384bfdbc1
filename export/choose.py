"""Whether an adapter's down-projection is folded into the linear before it: a measurement decides, for each geometry.

The fold is exact but not always faster: it saves a small product and pays with a copy of the widened output.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import torch
from torch import nn

from ..deploy.engines.ort import OnnxRuntime
from ..deploy.errors import UserError
from ..deploy.stats import Ratio, paired_ratio
from ..train.models.adapters import Bottleneck, FromHidden
from ..train.models.fold import down_sites
from ..train.models.linear_folds import fold_down
from ..train.models.promptable import Promptable
from .graph import Source, to_onnx
from .timing import interleave

Folds = Literal["measure", "all", "none"]
ROUNDS = 60
TEXT_TOKENS = 16
"""Rows at a text site: a usual sentence; an image site has as many as the image has tokens."""


@dataclass(frozen=True)
class Geometry:
    """What the cost of a site depends on: the linear's sizes, the adapter's rank and activation, rows at a time."""

    in_features: int
    out_features: int
    rank: int
    outer: str
    rows: int


def choose_down(
    model: Promptable, folds: Folds = "measure", rounds: int = ROUNDS
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the sites to fold, and one record for each geometry: what was measured and what was decided.

    A geometry is folded only where the 95 % interval of folded / unfolded time lies wholly below 1. "all" and "none"
    decide without measuring.

    Raises:
        UserError: `folds` is none of the three.
    """
    if folds not in get_args(Folds):
        raise UserError(f"no way {folds!r} to choose folds; known: {', '.join(get_args(Folds))}")
    by_geometry: dict[Geometry, list[str]] = {}
    for path in down_sites(model):
        by_geometry.setdefault(_geometry(model, path), []).append(path)
    chosen, records = [], []
    for geometry, paths in by_geometry.items():
        ratio = _measure(geometry, rounds) if folds == "measure" else None
        folded = folds == "all" if ratio is None else ratio.high < 1
        chosen += paths if folded else []
        records.append(_record(geometry, paths, folded, ratio))
    return chosen, records


def _record(geometry: Geometry, paths: list[str], folded: bool, ratio: Ratio | None) -> dict[str, Any]:
    shape = {"in": geometry.in_features, "out": geometry.out_features, "rank": geometry.rank, "rows": geometry.rows}
    measured = None if ratio is None else ratio._asdict()
    return {"fold": "down-projection", "folded": folded, "sites": len(paths), **shape, "measured": measured}


def _geometry(model: Any, path: str) -> Geometry:
    site: Any = model.get_submodule(path)
    linear, adapter = site.inner.out_proj, site.graft
    in_vision = path.startswith("library.clip.vision_model.")
    rows = (model.image_size // model.patch_size) ** 2 + 1 if in_vision else TEXT_TOKENS
    return Geometry(linear.in_features, linear.out_features, adapter.down.out_features, adapter.outer, rows)


def _measure(geometry: Geometry, rounds: int) -> Ratio:
    """Time a site of this geometry, folded and not, side by side in the engine."""
    linear = nn.Linear(geometry.in_features, geometry.out_features)
    adapter = Bottleneck(geometry.out_features, geometry.rank, outer=geometry.outer)  # pyright: ignore[reportArgumentType]
    sites = {
        "folded": nn.Sequential(fold_down(linear, adapter.down), FromHidden(adapter)),
        "apart": nn.Sequential(linear, adapter),
    }
    rows = torch.randn(geometry.rows, geometry.in_features)
    feed = {"rows": rows.numpy()}
    with tempfile.TemporaryDirectory() as scratch:
        engines = {name: _open(site, rows, Path(scratch) / f"{name}.onnx") for name, site in sites.items()}
        times = interleave({name: lambda one=one: one.run(feed) for name, one in engines.items()}, rounds, warmup=10)
    return paired_ratio(times["wall"]["folded"], times["wall"]["apart"])


def _open(site: nn.Module, rows: torch.Tensor, path: Path) -> OnnxRuntime:
    source = Source(site.eval().requires_grad_(False), {"rows": rows}, {"rows": {}, "out": {}}, ("out",))
    onnx.save(to_onnx(source), path)
    return OnnxRuntime(path)
