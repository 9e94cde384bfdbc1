"""A model in training, or a run, as the segmenter that a bundle is too."""

from pathlib import Path

import torch

from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from .models.parts import facts_of
from .models.promptable import Promptable
from .models.runs import load_run
from .models.torch_engine import TorchEngine, engines_of


def segmenter_of(
    model: Promptable,
    threshold: float = 0.5,
    *,
    name: str = "run",
    method: str = "",
    size: str = "",
    way: str = TorchEngine.name,
) -> Segmenter:
    """Return a segmenter that runs `model` in torch, in a way of `WAYS`; put the model into evaluation mode first."""
    manifest = Manifest(name=name, method=method, size=size, threshold=threshold, **facts_of(model))
    return Segmenter(manifest, engines_of(model, way), model.tokenizer)


def open_run(folder: Path | str, threads: int | None = None, way: str = TorchEngine.name) -> Segmenter:
    """Return the segmenter of a run folder, with the run's own threshold; UserErrors as `load_run`.

    `way` is one of `WAYS`: eager, compiled, or ahead of time. `threads` is for the whole process from then on, since
    torch knows no other way; None leaves it as it is.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model, info = load_run(Path(folder))
    if torch.cuda.is_available():
        model = model.cuda()
    name = Path(folder).name
    return segmenter_of(model, info["threshold"], name=name, method=info["method"], size=info["size"], way=way)
