"""The frozen-prefix cache: what lies below the first trained parameter is computed once and reused.

Every state is computed alone (batch of one, no padding), so that it depends on nothing but the image or the sentence:
not on its neighbours in a batch, not on the order, not on a resume.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from .data import Batch
from .models.clipseg import Clipseg
from .models.methods import cacheable

SUFFIX = ".safetensors"


class Store(Protocol):
    """A place for tensors, of a limited size."""

    def get(self, key: str) -> Tensor | None:
        """Return what is stored under `key`, or None."""
        ...

    def put(self, key: str, value: Tensor) -> bool:
        """Store `value` if there is room; say whether there was."""
        ...


class MemoryStore:
    """Tensors in main memory, up to `limit` bytes; when full, what is there stays and nothing is added.

    Training walks over the same images again and again; throwing out the oldest would lose every one of them.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._held: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor | None:
        """Return what is stored under `key`, or None."""
        return self._held.get(key)

    def put(self, key: str, value: Tensor) -> bool:
        """Store `value` if there is room; say whether there was."""
        if self.used + value.nbytes > self.limit:
            return False
        self._held[key] = value.cpu()
        self.used += value.nbytes
        return True


class DiskStore:
    """One safetensors file per tensor in `folder`, up to `limit` bytes of files; when full, nothing is added.

    The files are named by hashes and hold no image and no sentence. They may be deleted at any time between runs.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit = folder, limit
        self.used = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))

    def get(self, key: str) -> Tensor | None:
        """Return what is stored under `key`, or None; UserError for a damaged file."""
        path = self.folder / (key + SUFFIX)
        if not path.exists():
            return None
        try:
            return load_file(path)["state"]
        except (SafetensorError, KeyError) as error:
            raise UserError(f"the cache file {path} is damaged ({error}): delete it and run again") from error

    def put(self, key: str, value: Tensor) -> bool:
        """Store `value` if there is room; say whether there was."""
        data = save({"state": value.cpu().contiguous()})
        if self.used + len(data) > self.limit:
            return False
        atomic_write(self.folder / (key + SUFFIX), data)
        self.used += len(data)
        return True


class CachedClipseg:
    """A forward pass that takes the states of the frozen stages from a store.

    Attributes:
        stages: for "image" and "text", whether the stage is cached (nothing in it trains).
        computed: how many states were computed alone since the start.
        dropped: how many of them found no room.
    """

    def __init__(self, model: Clipseg, store: Store | None, precision: str, say: Callable[[str], None]) -> None:
        """`precision` is that of the training, since autocast changes states; `store` None caches nothing."""
        self.model, self.store, self._say = model, store, say
        self.stages = cacheable(model) if store is not None else {"image": False, "text": False}
        self.computed = self.dropped = 0
        self._key = f"1/{model.weights_hash}/{model.image_size}/{precision}"

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits (B, 1, S, S)."""
        model = self.model
        image = self._image_states(batch) if self.stages["image"] else model.image_states(batch.pixel_values)
        text = (
            self._text_states(batch)
            if self.stages["text"]
            else model.text_states(batch.input_ids, batch.attention_mask)
        )
        return model.decode(model.image_embedding(image), model.text_embedding(text))

    def _image_states(self, batch: Batch) -> Tensor:
        pixels = batch.pixel_values
        states = [
            self._state(f"image/{digest}", lambda i=i: self.model.image_states(pixels[i : i + 1]))
            for i, digest in enumerate(batch.digests)
        ]
        return torch.cat([state.to(pixels.device, non_blocking=True) for state in states])

    def _text_states(self, batch: Batch) -> Tensor:
        device = batch.input_ids.device
        states = [self._state(f"text/{text}", lambda text=text: self._encode(text, device)) for text in batch.prompts]
        return torch.cat([state.to(device) for state in states])

    def _encode(self, text: str, device: torch.device) -> Tensor:
        ids, mask = self.model.tokenizer([text])
        return self.model.text_states(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))

    def _state(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        assert self.store is not None
        key = hashlib.sha256(f"{self._key}/{name}".encode()).hexdigest()
        state = self.store.get(key)
        if state is None:
            with torch.no_grad():
                state = compute()
            self.computed += 1
            self._keep(key, state)
        return state

    def _keep(self, key: str, state: Tensor) -> None:
        assert self.store is not None
        if self.store.put(key, state):
            return
        if not self.dropped:
            self._say("the cache is full; what does not fit is computed again each epoch (raise cache_bytes)")
        self.dropped += 1
