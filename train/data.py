"""Samples on disk become batches of tensors, in an order and with sentences that only (seed, epoch) decide."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..deploy.annotations import Sample, choose_prompt, read_pair
from ..deploy.pixels import to_input
from ..deploy.words import Tokenizer
from .absent import Absent
from .augment import augment
from .augment_crops import augment_crops
from .seeds import derive
from .splits import by_set, set_of

AUGMENTATIONS = {"flips": augment, "crops": augment_crops}


class Picture(NamedTuple):
    """A decoded sample at network resolution: uint8 (S, S, 3), bool (S, S), and the hash of the pixels."""

    pixels: np.ndarray
    mask: np.ndarray
    digest: str


class Example(NamedTuple):
    """One training example: float32 (3, S, S) normalised, float32 (1, S, S) of 0 and 1, and what they are."""

    pixel_values: Tensor
    mask: Tensor
    prompt: str
    digest: str
    name: str


class Batch(NamedTuple):
    """Examples stacked: (B, 3, S, S), (B, 1, S, S), int64 (B, L) twice, and the B sentences, hashes and names."""

    pixel_values: Tensor
    mask: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    prompts: list[str]
    digests: list[str]
    names: list[str]


def read_picture(sample: Sample, size: int) -> Picture:
    """Decode a sample and bring it to `size` x `size`: antialiased bilinear image, nearest mask.

    Raises UserError for a file that cannot be read, or an image and a mask of different sizes.
    """
    image, mask = read_pair(sample)
    # with this mean and std `to_input` only resizes, to whole numbers from 0 to 255
    pixels = to_input(image, size, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    pixels = np.ascontiguousarray(np.rint(pixels).astype(np.uint8).transpose(1, 2, 0))
    small = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
    return Picture(pixels, small, hashlib.sha256(pixels.tobytes()).hexdigest())


@dataclass(frozen=True)
class Look:
    """How pictures and sentences are presented to a model.

    Attributes:
        image_size: side of the network input in pixels.
        mean: per channel, of values in 0..1.
        std: per channel, of values in 0..1.
        prompt: key of the sentence, or "random".
        seed: of the draws in training; None: one fixed draw, for validation and test.
        augment: change pictures, masks and sentences (training only).
        augmentation: how: a name of `AUGMENTATIONS`.
        sets: names of the data folders where they are several; the name of each sample begins with its folder's.
        negatives: share of examples that are asked for what is not there (training only).
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    prompt: str
    seed: int | None = None
    augment: bool = False
    augmentation: str = "flips"
    sets: tuple[str, ...] = ()
    negatives: float = 0.0


class Pictures(Dataset):
    """Samples as examples; an index is (epoch, position), so that what it gives depends on nothing else.

    Decoded pictures are kept, as uint8 at network resolution, until they take `keep_bytes`; the rest is decoded each
    time it is asked for.
    """

    def __init__(self, samples: Sequence[Sample], look: Look, keep_bytes: int = 2 * 2**30) -> None:
        self.samples, self.look = list(samples), look
        self._kept: dict[int, Picture] = {}
        self._room = keep_bytes // (4 * look.image_size**2)
        self.absent = Absent(by_set(self.samples, look.sets), look.prompt) if look.negatives else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def picture(self, position: int) -> Picture:
        """Return the decoded sample."""
        if position in self._kept:
            return self._kept[position]
        picture = read_picture(self.samples[position], self.look.image_size)
        if len(self._kept) < self._room:
            self._kept[position] = picture
        return picture

    def __getitem__(self, index: tuple[int, int]) -> Example:
        """Return the example at (epoch, position)."""
        epoch, position = index
        sample, look = self.samples[position], self.look
        pixels, mask, digest = self.picture(position)
        text = choose_prompt(sample, look.prompt, 0 if look.seed is None else derive(look.seed, epoch))
        if self.absent and derive(look.seed or 0, "absent", epoch, sample.name) < look.negatives * 2**32:
            folder = set_of(sample.name) if look.sets else ""
            text, mask = self.absent.sentence(folder, sample.name, look.seed or 0, epoch), np.zeros_like(mask)
        if look.augment:
            change = AUGMENTATIONS[look.augmentation]
            pixels, mask, text = change(pixels, mask, text, derive(look.seed or 0, epoch, sample.name))
        values = torch.from_numpy(to_input(pixels, look.image_size, look.mean, look.std))
        return Example(values, torch.from_numpy(mask[None].astype(np.float32)), text, digest, sample.name)

    def read_all(self, say: Callable[[str], None]) -> int:
        """Decode every sample, so that bad files show before training; return how many masks hold an object."""
        objects = 0
        for position in range(len(self)):
            objects += bool(self.picture(position).mask.any())
            if position and position % 500 == 0:
                say(f"read {position} of {len(self)} images")
        return objects


class Order(Sampler[tuple[int, int]]):
    """The (epoch, position) pairs of one process, from a permutation that (seed, epoch) alone decides.

    Every global batch is dealt out in turn to the processes, so that together they see the batches of one process. A
    process that gets nothing of the last batch is given its first image, which `share` then weighs with 0.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[int] = (),
    ) -> None:
        """`batch_size` is the global one; without a `seed` the order is that of the samples, in every epoch.

        `groups`: sizes of the sets that the samples are made of, one behind the other; an epoch, which stays as long,
        then draws as many of each set. With a seed alone.
        """
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size, self.groups = rank, world_size, tuple(groups)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls this at the start of each epoch."""
        self.epoch = epoch if self.seed is not None else 0

    def __len__(self) -> int:
        """Return how many pairs this process gets."""
        return len(self._positions())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs of the current epoch."""
        return ((self.epoch, position) for position in self._positions())

    def _positions(self) -> list[int]:
        everything = list(range(self.size))
        if self.seed is not None:
            everything = self._drawn(np.random.default_rng(derive(self.seed, self.epoch)))
        mine: list[int] = []
        for start in range(0, self.size, self.batch_size):
            batch = everything[start : start + self.batch_size]
            mine += batch[self.rank :: self.world_size] or batch[:1]
        return mine

    def _drawn(self, rng: np.random.Generator) -> list[int]:
        if not self.groups:
            return rng.permutation(self.size).tolist()
        each = -(-self.size // len(self.groups))
        starts = np.cumsum((0, *self.groups[:-1]))
        drawn = [start + np.resize(rng.permutation(n), each) for start, n in zip(starts, self.groups, strict=True)]
        return rng.permutation(np.concatenate(drawn))[: self.size].tolist()

    def share(self, step: int) -> tuple[int, int]:
        """Return (images of this process that count, images of all processes) in batch `step`."""
        together = min(self.batch_size, self.size - step * self.batch_size)
        return len(range(self.rank, together, self.world_size)), together


def make_loader(pictures: Pictures, order: Order, tokenizer: Tokenizer | None, num_workers: int = 0) -> DataLoader:
    """Return the loader of one process; batches hold its part of each global batch."""
    return DataLoader(
        pictures,
        batch_size=order.batch_size // order.world_size,
        sampler=order,
        collate_fn=Collate(tokenizer),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


@dataclass(frozen=True)
class Collate:
    """Stack examples; sentences are padded to the longest. Without a tokenizer they have no tokens."""

    tokenizer: Tokenizer | None

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the batch."""
        prompts = [example.prompt for example in examples]
        ids, mask = self.tokenizer(prompts) if self.tokenizer else (np.zeros((len(prompts), 0), np.int64),) * 2
        return Batch(
            torch.stack([example.pixel_values for example in examples]),
            torch.stack([example.mask for example in examples]),
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            prompts,
            [example.digest for example in examples],
            [example.name for example in examples],
        )
