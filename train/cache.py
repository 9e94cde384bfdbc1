"""The frozen-prefix cache: what lies below the first trained parameter is computed once and reused.

Every state is computed alone (batch of one, no padding), so that it depends on nothing but the image or the sentence:
not on its neighbours in a batch, not on the order, not on a resume.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from .data import Batch
from .models.methods import cacheable
from .models.parts import Seen, as_stage, see, several
from .models.promptable import Promptable, States
from .reports import Reports
from .sealed import Damaged, pack, unpack

SUFFIX = ".safetensors"
Tensors = tuple[Tensor, ...]


class Store(Protocol):
    """A place for the tensors of states, of a limited size."""

    def get(self, key: str) -> Tensors | None:
        """Return what is stored under `key`, or None."""
        ...

    def put(self, key: str, value: Tensors) -> bool:
        """Store `value` if there is room; say whether there was."""
        ...


class MemoryStore:
    """Tensors in main memory, up to `limit` bytes; when full, what is there stays and nothing is added.

    Training walks over the same images again and again; throwing out the oldest would lose every one of them.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._held: dict[str, Tensors] = {}

    def get(self, key: str) -> Tensors | None:
        """Return what is stored under `key`, or None."""
        return self._held.get(key)

    def put(self, key: str, value: Tensors) -> bool:
        """Store `value` if there is room; say whether there was."""
        size = sum(tensor.nbytes for tensor in value)
        if self.used + size > self.limit:
            return False
        self._held[key] = tuple(tensor.cpu() for tensor in value)
        self.used += size
        return True


class DiskStore:
    """One safetensors file per state in `folder`, up to `limit` bytes of files; when full, nothing is added.

    The files are named by hashes and hold no image and no sentence. They may be deleted at any time between runs.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit = folder, limit
        self.used = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))

    def get(self, key: str) -> Tensors | None:
        """Return what is stored under `key`, or None; UserError for a damaged file."""
        path = self.folder / (key + SUFFIX)
        if not path.exists():
            return None
        try:
            held, _ = unpack(path)
        except Damaged as error:
            raise UserError(f"the cache file {path} is damaged ({error}): delete it and run again") from error
        return tuple(held[str(i)] for i in range(len(held)))

    def put(self, key: str, value: Tensors) -> bool:
        """Store `value` if there is room; say whether there was."""
        data = pack({str(i): tensor.cpu().contiguous() for i, tensor in enumerate(value)})
        if self.used + len(data) > self.limit:
            return False
        atomic_write(self.folder / (key + SUFFIX), data)
        self.used += len(data)
        return True


class CachedModel:
    """A forward pass that takes the states of the frozen stages from a store.

    What the text needs of an image is kept with the image's states; text that needs it is kept by image and sentence.

    Attributes:
        stages: for "image" and "text", whether the stage is cached (nothing in it trains).
        computed: how many states were computed alone since the start.
        dropped: how many of them found no room.
    """

    def __init__(
        self,
        model: Promptable,
        store: Store | None,
        precision: str,
        say: Callable[[str], None],
        reports: Reports | None = None,
    ) -> None:
        """`precision` is that of the training, since autocast changes states; `store` None caches nothing.

        Sentences come from `reports` where there are any.
        """
        self.model, self.store, self.reports, self._say = model, store, reports, say
        self.stages = cacheable(model) if store is not None else {"image": False, "text": False}
        self.computed = self.dropped = 0
        kind = "seen" if model.text_depends_on_image else "apart"
        variant = model.variant and f"/{model.variant}"
        self._key = f"2/{model.weights_hash}/{kind}/{model.image_size}/{precision}{variant}"

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits (B, 1, S, S)."""
        model = self.model
        seen = self._seen(batch) if self.stages["image"] else see(model, batch.pixel_values)
        if self.reports is not None:
            text = as_stage(_together([self.reports.states(text) for text in batch.prompts], batch.pixel_values.device))
        elif self.stages["text"]:
            text = self._text_states(batch, seen.context)
        else:
            text = model.text_states(batch.input_ids, batch.attention_mask, *seen.context)
        return model.answer(seen.states, text)

    def _seen(self, batch: Batch) -> Seen:
        pixels = batch.pixel_values
        states = [
            self._state(f"image/{digest}", lambda i=i: self._see(pixels[i : i + 1]))
            for i, digest in enumerate(batch.digests)
        ]
        whole = [
            tuple(tensor if tensor.numel() else pixels[i : i + 1] for tensor in state) for i, state in enumerate(states)
        ]
        tensors = _together(whole, pixels.device)
        split = len(tensors) - self.model.text_depends_on_image
        return Seen(as_stage(tensors[:split]), tensors[split:])

    def _see(self, pixel_values: Tensor) -> Tensors:
        """Return states and context; where a state is the image itself, an empty tensor, for no image is kept."""
        seen = see(self.model, pixel_values)
        flat = (*several(seen.states), *seen.context)
        return tuple(tensor.new_empty(0) if tensor is pixel_values else tensor for tensor in flat)

    def _text_states(self, batch: Batch, context: Tensors) -> States:
        device = batch.input_ids.device
        states = []
        for i, (digest, text) in enumerate(zip(batch.digests, batch.prompts, strict=True)):
            own = tuple(tensor[i : i + 1] for tensor in context)
            name = f"text/{digest}/{text}" if own else f"text/{text}"
            states.append(self._state(name, lambda text=text, own=own: self._encode(text, own, device)))
        return as_stage(_together(states, device))

    def _encode(self, text: str, context: Tensors, device: torch.device) -> Tensors:
        ids, mask = (torch.from_numpy(array).to(device) for array in self.model.tokenizer([text]))
        return several(self.model.text_states(ids, mask, *context))

    def _state(self, name: str, compute: Callable[[], Tensors]) -> Tensors:
        assert self.store is not None
        key = hashlib.sha256(f"{self._key}/{name}".encode()).hexdigest()
        state = self.store.get(key)
        if state is None:
            with torch.no_grad():
                state = compute()
            self.computed += 1
            self._keep(key, state)
        return state

    def _keep(self, key: str, state: Tensors) -> None:
        assert self.store is not None
        if self.store.put(key, state):
            return
        if not self.dropped:
            self._say("the cache is full; what does not fit is computed again each epoch (raise cache_bytes)")
        self.dropped += 1


def _together(states: list[Tensors], device: torch.device) -> Tensors:
    """Return the batch of states that were kept one by one."""
    return tuple(torch.cat([one.to(device, non_blocking=True) for one in row]) for row in zip(*states, strict=True))
