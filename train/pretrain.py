"""The recipe that remakes the embedded base: a small CLIPSeg taught on drawn scenes alone.

Each picture is encoded once and asked several sentences; the pictures grow from 64 to 176 pixels on the way.
`python -m vlseg.train.pretrain FOLDER` runs it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from ..deploy.files import atomic_write
from ..deploy.words import Tokenizer
from . import scenes
from .drawn_batch import Batch, Stage, compose, draw_batch, whole
from .grounding import Hints, Library, attend, mask_loss, predict, unused
from .models.sizes import TINY
from .muon import Muon
from .sentences import WORDS, say


@dataclass(frozen=True)
class Recipe:
    """How the base is trained.

    Stages hold for each process: words are learned on small pictures, outlines on full-size ones.
    `rate` is the highest learning rate, `average` the weight average's memory, the hints are their losses' weights.
    """

    stages: tuple[Stage, ...] = (
        Stage(0.40, 10, 8, 3, 4),
        Stage(0.15, 14, 5, 2, 5),
        Stage(0.45, 0, 4, 1, 6),
    )
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 150
    average: float = 0.998
    hints: tuple[tuple[str, float], ...] = (("match", 0.4), ("patch", 0.5), ("word", 0.2))

    def rate_at(self, step: int, done: float) -> float:
        """Learning rate: a linear warm-up in steps, a cosine in the share of the time done."""
        return self.rate * min(1, step / self.warmup) * (0.02 + 0.98 * math.cos(math.pi / 2 * min(done, 1)) ** 2)

    def stage(self, done: float) -> Stage:
        """The stage at a share of the time done, 0 to 1."""
        ends = np.cumsum([stage.share for stage in self.stages])
        return self.stages[min(int(np.searchsorted(ends, done, side="right")), len(self.stages) - 1)]


def new_model(folder: Path = TINY, seed: int = 0) -> Library:
    """The base with random weights, its vision positions started as smooth waves so that they survive resizing."""
    torch.manual_seed(seed)
    model: Library = CLIPSegForImageSegmentation(CLIPSegConfig.from_json_file(folder / "config.json"))
    table = model.clip.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        table[1:] = 0.3 * _waves(math.isqrt(len(table) - 1), table.shape[1])
        for layer in model.clip.vision_model.encoder.layers:
            look_nearby(layer.self_attn, math.isqrt(len(table) - 1))
    # the library draws these from N(0, 1), which drowns the sentence and saturates the norms behind them
    decoder = model.decoder
    for layer in (decoder.film_mul, decoder.film_add, *decoder.reduces, decoder.transposed_convolution):
        nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return model


def _waves(side: int, width: int) -> Tensor:
    place = (torch.arange(side) + 0.5) / side
    angles = place[:, None] * _frequencies(width // 4)
    row = torch.cat([angles.sin(), angles.cos()], -1)
    grid = torch.cat([row[:, None].expand(side, side, -1), row[None].expand(side, side, -1)], -1)
    return grid.reshape(side * side, width)


def _frequencies(n: int) -> Tensor:
    """Radians per picture side: from half a wave to eight."""
    return math.pi * 2 ** torch.linspace(0, 4, n)


def look_nearby(attention: Library, side: int, gain: float = 2.0) -> None:
    """Start the heads as a convolution's taps: each looks at the patch beside its own, in a direction of its own.

    Queries are the waves of a position, turned by the angles of one patch, keys the waves as they are, so that their
    product peaks one patch away. From there attention learns (after d'Ascoli et al., ConViT, arXiv 2103.10697).
    """
    width, steps = attention.embed_dim, ((0, 1), (0, -1), (1, 0), (-1, 0), (0, 0))
    waves, per_head = width // 4, attention.head_dim // 4
    chosen = torch.linspace(waves // 3, waves - 1, per_head).long()
    angle = _frequencies(waves)[chosen] / side
    query, key = torch.zeros(2, attention.num_heads, attention.head_dim, width)
    for head, step in zip(range(attention.num_heads), steps, strict=False):
        for axis, patches in enumerate(step):
            sin = 2 * waves * axis + chosen
            cos, turn, row = sin + waves, angle * patches, 2 * per_head * axis + torch.arange(per_head)
            key[head, row, sin] = key[head, row + per_head, cos] = gain
            query[head, row, sin] = query[head, row + per_head, cos] = gain * turn.cos()
            query[head, row, cos], query[head, row + per_head, sin] = gain * turn.sin(), -gain * turn.sin()
    attention.q_proj.weight += query.flatten(0, 1)
    attention.k_proj.weight += key.flatten(0, 1)


def load_weights(model: Library, path: Path) -> None:
    """Load a base's file into a model, as float32."""
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=True)


def save_weights(model: Library, path: Path) -> None:
    """Write all weights in float16, whole or not at all."""
    atomic_write(path, save({name: value.half().contiguous() for name, value in model.state_dict().items()}))


class Learner:
    """Takes training steps together with the other processes."""

    def __init__(self, model: Library, recipe: Recipe) -> None:
        self.model, self.hints, self.recipe, self.steps = model, Hints(model), recipe, 0
        self.half = bfloat16_pays()
        reached = {name: p for name, p in model.named_parameters() if not unused(name, model)}
        self.trained = [*reached.values(), *self.hints.parameters()]
        matrices = [p for name, p in reached.items() if is_matrix(name, p)]
        rest = [*(p for name, p in reached.items() if not is_matrix(name, p)), *self.hints.parameters()]
        self.optimizers = (
            Muon(matrices, recipe.rate, weight_decay=recipe.decay),
            torch.optim.AdamW(rest, recipe.rate, (0.9, 0.98), weight_decay=recipe.decay),
        )

    def step(self, batch: Batch, done: float, clock: float) -> tuple[float, dict[str, float]]:
        """One step; `clock`, this process' share of the time done, comes back averaged over all, with the losses."""
        attend(self.model, batch.places.shape[1])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            out = predict(self.model, batch)
            losses = {"mask": mask_loss(out.logits, batch.masks), **self.hints.losses(batch, out)}
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        weighted = [weight * losses[name] for name, weight in (("mask", 1.0), *self.recipe.hints)]
        torch.stack(weighted).sum().backward()
        clock = self._share(clock)
        self.steps += 1
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate_at(self.steps, done)
            optimizer.step()
        return clock, {name: float(value.detach()) for name, value in losses.items()}

    def _share(self, clock: float) -> float:
        """Average the gradients over the processes, and the clock with them, so that all stop at the same step."""
        grads = [p.grad for p in self.trained if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([clock])])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for grad, part in zip(grads, flat[:-1].split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
        return float(flat[-1])


def bfloat16_pays(side: int = 384, repeats: int = 20) -> bool:
    """Does this processor multiply bfloat16 faster than float32? Measured, for torch has no public name for it."""

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(side, side, dtype=dtype)
        found = []
        for _ in range(repeats):
            start = time.process_time()
            _ = matrix @ matrix
            found.append(time.process_time() - start)
        return min(found)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Is it a linear layer's weight, which Muon may make orthogonal? A table of embeddings is not."""
    return parameter.ndim == 2 and "embedding" not in name


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """One step of the exponential average of the weights."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


@torch.no_grad()
def dice_by_words(model: Library, tokenizer: Tokenizer, n: int = 32) -> dict[str, float]:
    """Mean Dice on `n` fixed scenes, by what the sentence mentions ("none": the object is not there)."""
    size = model.config.vision_config.image_size
    rng, found = np.random.default_rng([1, size]), []
    for _ in range(n):
        scene = scenes.draw(rng, size, least=2)
        traits = scene.blobs[0].traits
        phrases = [*(traits.only((name,)) for name in WORDS), traits, scenes.absent_phrase(scene, rng) or traits]
        asked = [scenes.Question(p, say(p, scene.count(p), rng), scene.mask(p)) for p in phrases]
        batch = compose([whole(scene)], [asked], tokenizer)
        mask, truth = predict(model, batch).logits > 0, batch.masks > 0.5
        both, total = (mask & truth).sum((1, 2)), mask.sum((1, 2)) + truth.sum((1, 2))
        found.append((2 * both + 1e-6) / (total + 1e-6))
    return dict(zip([*WORDS, "all", "none"], torch.stack(found).mean(0).tolist(), strict=True))


@dataclass(frozen=True)
class Job:
    """One training: where, for how many seconds, from which seed, and how often (seconds) weights are written."""

    out: Path
    budget: float
    seed: int
    recipe: Recipe
    every: float
    resume: bool
    processes: int
    meeting: str


def pretrain(
    out: Path,
    *,
    minutes: float = 180,
    seed: int = 0,
    threads: int = 2,
    recipe: Recipe | None = None,
    every: float = 240,
    resume: bool = False,
) -> None:
    """Train the base for a wall-clock time and write `out/model.safetensors` (float16) every so many seconds.

    `out` holds `tokenizer.json` and `config.json`. One process per thread, their gradients averaged at each step: on a
    busy machine that loses less than threads that wait for each other inside every operation. The scenes are a function
    of the seed; how many are seen depends on the machine. `resume` starts from the weights in `out`, not random ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        job = Job(out, 60 * minutes, seed, recipe or Recipe(), every, resume, threads, meeting)
        spawn(_work, (job,), nprocs=threads)


def _work(rank: int, job: Job) -> None:
    """One of the processes that train together; the first keeps the average, checks it and writes it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=job.meeting, rank=rank, world_size=job.processes)
    tokenizer, rng = Tokenizer.load(job.out / "tokenizer.json"), np.random.default_rng([0, job.seed, rank])
    model, average = new_model(job.out, job.seed), new_model(job.out, job.seed)
    if job.resume:
        load_weights(model, job.out / "model.safetensors")
        load_weights(average, job.out / "model.safetensors")
    learner, keeper = Learner(model, job.recipe), Keeper(average, tokenizer, job)
    size = model.config.vision_config.image_size
    start, done = time.monotonic(), 0.0
    while done < 1:
        stage = job.recipe.stage(done)
        batch = draw_batch(rng, stage, size, tokenizer)
        done, losses = learner.step(batch, done, (time.monotonic() - start) / job.budget)
        if rank == 0:
            keeper.after(learner, {"done": done, "window": stage.window, **losses})
    if rank == 0:
        keeper.check(learner.steps)
    torch.distributed.destroy_process_group()


class Keeper:
    """Keeps the average of the weights; now and then tells how it does and writes it."""

    def __init__(self, average: Library, tokenizer: Tokenizer, job: Job) -> None:
        self.average, self.tokenizer, self.job, self.checked = average, tokenizer, job, time.monotonic()

    def after(self, learner: Learner, figures: dict[str, float]) -> None:
        """Follow one step of a learner."""
        follow(self.average, learner.model, min(self.job.recipe.average, (1 + learner.steps) / (10 + learner.steps)))
        if learner.steps % 50 == 0:
            _tell("step", learner.steps, figures)
        if time.monotonic() - self.checked > self.job.every:
            self.check(learner.steps)

    def check(self, step: int) -> None:
        """Write the average and print its Dice by kind of word."""
        self.checked = time.monotonic()
        save_weights(self.average, self.job.out / "model.safetensors")
        _tell("check", step, dice_by_words(self.average, self.tokenizer))


def _tell(what: str, step: int, figures: dict[str, float]) -> None:
    print(
        time.strftime("%H:%M:%S"), what, step, *(f"{name} {value:.3f}" for name, value in figures.items()), flush=True
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Remake the weights of the embedded base.")
    parser.add_argument(
        "out", type=Path, help="folder with config.json and tokenizer.json; the weights are written there"
    )
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="start from the weights that are there")
    given = parser.parse_args()
    pretrain(given.out, minutes=given.minutes, seed=given.seed, threads=given.threads, resume=given.resume)
