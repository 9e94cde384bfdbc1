"""A model in training as the runtime sees it: its three stages behind the engine protocol, so one code judges both."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from .models.clipseg import Clipseg
from .models.runs import load_run


class TorchEngine:
    """One stage of a model: numpy in, numpy out, in float32 on the model's device, without gradients."""

    name = "torch"

    def __init__(self, stage: Callable[..., Tensor], inputs: Sequence[str], output: str, device: torch.device) -> None:
        self._stage, self._inputs, self._output, self._device = stage, tuple(inputs), output, device

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the stage's output by name."""
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self._device) for name in self._inputs]
        with torch.inference_mode():
            return {self._output: self._stage(*given).float().cpu().numpy()}

    def close(self) -> None:
        """Hold nothing; the model belongs to the caller."""


def engines_of(model: Clipseg) -> dict[str, TorchEngine]:
    """Return the engines of a model's parts: image, text and decoder, named as in a bundle."""
    device = next(model.parameters()).device

    def encode_image(pixel_values: Tensor) -> Tensor:
        return model.image_embedding(model.image_states(pixel_values))

    def encode_text(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return model.text_embedding(model.text_states(input_ids, attention_mask))

    return {
        "image": TorchEngine(encode_image, ["pixel_values"], "image_embedding", device),
        "text": TorchEngine(encode_text, ["input_ids", "attention_mask"], "text_embedding", device),
        "decoder": TorchEngine(model.decode, ["image_embedding", "text_embedding"], "logits", device),
    }


def segmenter_of(
    model: Clipseg, threshold: float = 0.5, *, name: str = "run", method: str = "", size: str = ""
) -> Segmenter:
    """Return a segmenter that runs `model` in torch; put the model into evaluation mode first."""
    manifest = Manifest(
        name=name,
        method=method,
        size=size,
        image_size=model.image_size,
        mean=model.mean,
        std=model.std,
        threshold=threshold,
        backbone=model.backbone,
        weights_hash=model.weights_hash,
    )
    return Segmenter(manifest, dict(engines_of(model)), model.tokenizer)


def open_run(folder: Path | str) -> Segmenter:
    """Return the segmenter of a run folder, with the run's own threshold; UserErrors as `load_run`."""
    model, info = load_run(Path(folder))
    if torch.cuda.is_available():
        model = model.cuda()
    name = Path(folder).name
    return segmenter_of(model, info["threshold"], name=name, method=info["method"], size=info["size"])
