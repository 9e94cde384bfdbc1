"""A part more in a bundle, which tells how its answers come about: for a page to show, not for answering."""

from pathlib import Path
from typing import Any

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from ..deploy.manifest import Manifest
from ..train.models.runs import load_run
from ..train.models.sam.sam import Sam
from . import share, text_attention


def explain(run: Path | str, bundle: Path | str) -> dict[str, Any]:
    """Add the part to the bundle that was exported from a run; return `{bundle, tells, modules, tokens}`.

    Of SAM it tells where the words of a report look in the image, of the others what each adapter adds to each image
    token; `tokens` counts those of the image.

    Raises:
        UserError: no run or bundle, a bundle of another method or backbone, or a model that has neither.
    """
    model, info = load_run(Path(run))
    folder, manifest = Path(bundle), Manifest.load(bundle)
    own = (info["method"], info["size"], model.weights_hash)
    if own != (manifest.method, manifest.size, manifest.weights_hash):
        raise UserError(f"{bundle} is not of the run {run} ({own[0]}, {own[1]}): name its own run, or export this one")
    kind = text_attention if isinstance(model, Sam) else share
    graph, shape = kind.graph(model)
    atomic_write(folder / kind.FILE, graph.SerializeToString())
    manifest.save(folder)
    return {"bundle": str(bundle), "tells": kind.OUTPUT, "modules": shape[1], "tokens": shape[-1]}
