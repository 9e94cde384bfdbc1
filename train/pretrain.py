"""The recipe that remakes the embedded base: a small CLIPSeg taught on drawn scenes alone.

Each picture is encoded once and asked several sentences. The pictures grow from 96 to 176 pixels while training goes on.
Two throw-away heads (traits per patch, traits per sentence) make words and looks meet early.
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
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from ..deploy.files import atomic_write
from . import scenes, sentences

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = Path(__file__).parent / "models" / "tiny"


@dataclass(frozen=True)
class Recipe:
    """How the base is trained. Stages: (share of the time, picture side in pixels, pictures, sentences per picture)."""

    stages: tuple[tuple[float, int, int, int], ...] = (
        (0.25, 64, 8, 6),
        (0.35, 96, 5, 6),
        (0.40, 176, 4, 4),
    )
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 150
    average: float = 0.998
    patch_hint: float = 0.5
    word_hint: float = 0.2
    match_hint: float = 0.4

    def rate_at(self, step: int, done: float) -> float:
        """Learning rate: a linear warm-up in steps, a cosine in the share of the time done."""
        return self.rate * min(1, step / self.warmup) * (0.02 + 0.98 * math.cos(math.pi / 2 * min(done, 1)) ** 2)

    def stage(self, done: float) -> tuple[int, int, int]:
        """Picture side, pictures and sentences per picture (in each process) at a share of the time done, 0 to 1."""
        for share, *now in self.stages:
            if done < share:
                return now[0], now[1], now[2]
            done -= share
        return self.stages[-1][1:]


@dataclass
class Batch:
    """Pictures f32 (B,3,S,S), sentences i64 (B*Q,L), masks f32 (B*Q,S,S), traits per patch (B,3,N) and per sentence (B*Q,4)."""

    pixels: Tensor
    ids: Tensor
    attention: Tensor
    masks: Tensor
    patches: Tensor
    words: Tensor


class Hints(nn.Module):
    """Training-time heads that read traits from a patch's last activation and from a sentence's embedding."""

    def __init__(self, vision: int, text: int, decoder: int) -> None:
        super().__init__()
        self.match = nn.ModuleList(nn.Linear(decoder, 1) for _ in range(3))
        self.sizes = [len(sentences.WORDS[name]) for name in ("colour", "shape", "size")]
        self.patch = nn.Linear(vision, sum(self.sizes) + 1)
        self.word_sizes = [len(words) + 1 for words in sentences.WORDS.values()]
        self.word = nn.Linear(text, sum(self.word_sizes))

    def patch_loss(self, activation: Tensor, traits: Tensor) -> Tensor:
        """Cross-entropy of the traits of covered patches plus that of being covered at all."""
        parts = self.patch(activation[:, 1:]).split([*self.sizes, 1], dim=-1)
        covered = (traits[:, 1] >= 0).float()
        loss = F.binary_cross_entropy_with_logits(parts[-1][..., 0], covered)
        for i, part in enumerate(parts[:-1]):
            loss = loss + F.cross_entropy(part.flatten(0, 1), traits[:, i].flatten(), ignore_index=-1)
        return loss

    def match_loss(self, tokens: list[Tensor], masks: Tensor, patch: int = 8) -> Tensor:
        """The mask's loss at the centres of patches, read from the modulated tokens and the decoder's first layers."""
        truth = masks[:, patch // 2 :: patch, patch // 2 :: patch]
        guesses = [head(state[:, 1:]).view_as(truth) for head, state in zip(self.match, tokens, strict=True)]
        return sum((mask_loss(guess, truth) for guess in guesses), truth.new_zeros(())) / len(guesses)

    def word_loss(self, sentence: Tensor, words: Tensor) -> Tensor:
        """Cross-entropy of the traits that a sentence mentions (the last class: not mentioned)."""
        parts = self.word(sentence).split(self.word_sizes, dim=-1)
        return sum((F.cross_entropy(part, words[:, i]) for i, part in enumerate(parts)), sentence.new_zeros(()))


def activations(model: CLIPSegForImageSegmentation, pixels: Tensor) -> list[Tensor]:
    """The extracted hidden states of the vision tower, with gradient; what comes after the last of them is not run."""
    vision = model.clip.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels))
    taken = []
    for index, layer in enumerate(vision.encoder.layers[: max(model.extract_layers) + 1]):
        hidden = layer(hidden, None)
        if index in model.extract_layers:
            taken.append(hidden)
    return taken


def condition(model: CLIPSegForImageSegmentation, ids: Tensor, attention: Tensor) -> Tensor:
    """The projected embedding of each sentence, with gradient, f32 (B, W)."""
    return model.clip.text_projection(model.clip.text_model(ids, attention_mask=attention).pooler_output)


def decode(model: CLIPSegForImageSegmentation, taken: list[Tensor], sentence: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (B,S,S) from activations and sentence embeddings, and the tokens after FiLM and after all layers but the last."""
    decoder, tokens, seen = model.decoder, torch.zeros(()), []
    for i, (state, reduce, layer) in enumerate(zip(taken[::-1], decoder.reduces, decoder.layers, strict=True)):
        tokens = tokens + reduce(state)
        if i == decoder.conditional_layer:
            tokens = decoder.film_mul(sentence)[:, None] * tokens + decoder.film_add(sentence)[:, None]
            seen.append(tokens)
        tokens = layer(tokens, attention_mask=None)
        seen.append(tokens)
    side = math.isqrt(tokens.shape[1] - 1)
    grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    return decoder.transposed_convolution(grid).squeeze(1), seen[:-1]


@dataclass
class Prediction:
    """Logits f32 (B*Q,S,S), activations (B,N,D), sentence embeddings (B*Q,W) and decoder tokens (B*Q,N,R)."""

    logits: Tensor
    taken: list[Tensor]
    sentence: Tensor
    tokens: list[Tensor]


def predict(model: CLIPSegForImageSegmentation, batch: Batch) -> Prediction:
    """Run a batch; each picture is encoded once for its Q sentences."""
    taken, sentence = activations(model, batch.pixels), condition(model, batch.ids, batch.attention)
    questions = len(batch.ids) // len(batch.pixels)
    logits, tokens = decode(model, [state.repeat_interleave(questions, 0) for state in taken], sentence)
    return Prediction(logits, taken, sentence, tokens)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1.5 x soft Dice + binary cross-entropy; the smoothing (1 % of the area) lets empty masks count."""
    probability, smooth = logits.sigmoid(), 0.01 * masks[0].numel()
    both, total = (probability * masks).sum((1, 2)), probability.sum((1, 2)) + masks.sum((1, 2))
    dice = 1 - (2 * both + smooth) / (total + smooth)
    return 1.5 * dice.mean() + F.binary_cross_entropy_with_logits(logits, masks)


def word_ids(phrase: sentences.Phrase) -> list[int]:
    """Index of each trait's word; the number of words where the trait is not mentioned."""
    said = {name: getattr(phrase, name) for name in sentences.WORDS}
    return [words.index(said[name]) if said[name] else len(words) for name, words in sentences.WORDS.items()]


def patch_traits(scene: scenes.Scene, patch: int = 8) -> np.ndarray:
    """Indices of colour, shape and size at the centre of each patch, i64 (3, N); -1 where there is none."""
    middle = slice(patch // 2, None, patch)
    grid = np.full((3, *scene.image[middle, middle, 0].shape), -1, np.int64)
    for blob in scene.blobs:
        for i, name in enumerate(("colour", "shape", "size")):
            word = getattr(blob.traits, name)
            grid[i][blob.mask[middle, middle]] = sentences.WORDS[name].index(word) if word else -1
    return grid.reshape(3, -1)


def compose(drawn: list[scenes.Scene], asked: list[list[scenes.Question]], tokenizer: Tokenizer) -> Batch:
    """Put scenes and equally many questions about each into one batch of tensors."""
    flat = [question for questions in asked for question in questions]
    pixels = (np.stack([scene.image for scene in drawn]) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    codes = tokenizer.encode_batch([question.sentence for question in flat])
    return Batch(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)),
        torch.tensor([code.ids for code in codes]),
        torch.tensor([code.attention_mask for code in codes]),
        torch.from_numpy(np.stack([question.mask for question in flat]).astype(np.float32)),
        torch.from_numpy(np.stack([patch_traits(scene) for scene in drawn])),
        torch.tensor([word_ids(question.phrase) for question in flat]),
    )


def draw_batch(rng: np.random.Generator, size: int, pictures: int, questions: int, tokenizer: Tokenizer) -> Batch:
    """A fresh training batch."""
    drawn = [scenes.draw(rng, size) for _ in range(pictures)]
    return compose(drawn, [[scenes.ask(scene, rng) for _ in range(questions)] for scene in drawn], tokenizer)


def new_model(folder: Path = TINY, seed: int = 0) -> CLIPSegForImageSegmentation:
    """The base with random weights, its vision positions started as smooth waves so that they survive resizing."""
    torch.manual_seed(seed)
    model = CLIPSegForImageSegmentation(CLIPSegConfig.from_json_file(folder / "config.json"))
    table = model.clip.vision_model.embeddings.position_embedding.weight
    side = math.isqrt(len(table) - 1)
    with torch.no_grad():
        table[1:] = 0.3 * _waves(side, table.shape[1])
    return model


def _waves(side: int, width: int) -> Tensor:
    place = (torch.arange(side) + 0.5) / side
    rates = math.pi * 2 ** torch.linspace(0, 3, width // 4)
    angles = place[:, None] * rates
    row = torch.cat([angles.sin(), angles.cos()], -1)
    grid = torch.cat([row[:, None].expand(side, side, -1), row[None].expand(side, side, -1)], -1)
    return grid.reshape(side * side, width)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """One step of the exponential average of the weights."""
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def save_base(model: nn.Module, path: Path) -> None:
    """Write all weights in float16, whole or not at all."""
    atomic_write(path, save({name: value.half().contiguous() for name, value in model.state_dict().items()}))


@torch.no_grad()
def dice_by_words(
    model: CLIPSegForImageSegmentation, tokenizer: Tokenizer, size: int, scenes_n: int = 48
) -> dict[str, float]:
    """Mean Dice on fixed validation scenes, by what the sentence mentions ("none": the object is not there)."""
    rng, found = np.random.default_rng([1, size]), {}
    for _ in range(scenes_n):
        scene = scenes.draw(rng, size, least=2)
        traits = scene.blobs[0].traits
        phrases = [traits.only((name,)) for name in sentences.WORDS] + [
            traits,
            scenes.absent_phrase(scene, rng) or traits,
        ]
        questions = [
            scenes.Question(phrase, sentences.say(phrase, scene.count(phrase), rng), scene.mask(phrase))
            for phrase in phrases
        ]
        batch = compose([scene], [questions], tokenizer)
        predicted = predict(model, batch).logits > 0
        truth = batch.masks > 0.5
        dice = (2 * (predicted & truth).sum((1, 2)) + 1e-6) / (predicted.sum((1, 2)) + truth.sum((1, 2)) + 1e-6)
        for name, value in zip([*sentences.WORDS, "all", "none"], dice.tolist(), strict=True):
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def pretrain(
    out: Path, *, minutes: float = 95, seed: int = 0, threads: int = 2, recipe: Recipe | None = None, every: float = 240, resume: bool = False
) -> None:
    """Train the base for a wall-clock time and write `out/model.safetensors` (float16) at every checkpoint.

    `out` holds `tokenizer.json` and `config.json`. One process per thread, their gradients averaged at each step: on a busy
    machine that loses less than threads that wait for each other inside every operation. The scenes are a function of the
    seed; how many are seen depends on the machine. `every`: seconds between checkpoints.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = (threads, f"file://{folder}/rendezvous", out, 60 * minutes, seed, recipe or Recipe(), every, resume)
        torch.multiprocessing.spawn(_worker, job, nprocs=threads)


def _worker(
    rank: int, world: int, meeting: str, out: Path, budget: float, seed: int, recipe: Recipe, every: float, resume: bool
) -> None:
    """One of the processes that train together; the first keeps the average, checks it and writes it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    tokenizer, rng = Tokenizer.from_file(str(out / "tokenizer.json")), np.random.default_rng([0, seed, rank])
    model, average = new_model(out, seed), new_model(out, seed)
    if resume:
        saved = {name: value.float() for name, value in load_file(out / "model.safetensors").items()}
        model.load_state_dict(saved)
        average.load_state_dict(saved)
    hints = Hints(model.config.vision_config.hidden_size, model.config.projection_dim, model.config.reduce_dim)
    learner = Learner(model, hints, recipe)
    start = checked = time.monotonic()
    step, done = 0, 0.0
    while done < 1:
        size, pictures, questions = recipe.stage(done)
        batch = draw_batch(rng, size, pictures, questions, tokenizer)
        done, loss = learner.step(batch, done, (time.monotonic() - start) / budget)
        step += 1
        if rank:
            continue
        follow(average, model, min(recipe.average, (1 + step) / (10 + step)))
        if step % 50 == 0:
            _tell("step", step, {"done": done, "size": size, **loss})
        if time.monotonic() - checked > every:
            checked = time.monotonic()
            save_base(average, out / "model.safetensors")
            _tell("check", step, dice_by_words(average, tokenizer, size))
    if rank == 0:
        save_base(average, out / "model.safetensors")
        _tell("end", step, dice_by_words(average, tokenizer, 176))
    torch.distributed.destroy_process_group()


class Learner:
    """Takes training steps together with the other processes."""

    def __init__(self, model: CLIPSegForImageSegmentation, hints: Hints, recipe: Recipe) -> None:
        self.model, self.hints, self.recipe, self.steps = model, hints, recipe, 0
        self.trained = [
            p for name, p in [*model.named_parameters(), *hints.named_parameters()] if not unused(name, model)
        ]
        self.optimizer = torch.optim.AdamW(self.trained, recipe.rate, (0.9, 0.98), weight_decay=recipe.decay)

    def step(self, batch: Batch, done: float, clock: float) -> tuple[float, dict[str, float]]:
        """One step; `clock`, this process' share of the time done, comes back averaged over all, with the losses."""
        out, recipe = predict(self.model, batch), self.recipe
        parts = {
            "mask": mask_loss(out.logits, batch.masks),
            "match": self.hints.match_loss(out.tokens, batch.masks),
            "patch": self.hints.patch_loss(out.taken[-1], batch.patches),
            "word": self.hints.word_loss(out.sentence, batch.words),
        }
        self.optimizer.zero_grad(set_to_none=True)
        hints = {"match": recipe.match_hint, "patch": recipe.patch_hint, "word": recipe.word_hint}
        (parts["mask"] + sum(weight * parts[name] for name, weight in hints.items())).backward()
        clock = self._share(clock)
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.steps, done)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        return clock, {name: float(value.detach()) for name, value in parts.items()}

    def _share(self, clock: float) -> float:
        """Average the gradients over the processes, and the clock with them, so that all stop at the same step."""
        grads = [p.grad for p in self.trained if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([clock])])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for grad, part in zip(grads, flat[:-1].split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
        return float(flat[-1])


def unused(name: str, model: CLIPSegForImageSegmentation) -> bool:
    """Does a parameter never reach the mask (dead layers, the image's own embedding, the contrastive scale)?"""
    dead = [
        f"vision_model.encoder.layers.{i}."
        for i in range(max(model.extract_layers) + 1, len(model.clip.vision_model.encoder.layers))
    ]
    return any(part in name for part in [*dead, "post_layernorm", "visual_projection", "logit_scale"])


def _tell(what: str, step: int, figures: dict[str, float]) -> None:
    print(
        time.strftime("%H:%M:%S"), what, step, *(f"{name} {value:.3f}" for name, value in figures.items()), flush=True
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Remake the weights of the embedded base.")
    parser.add_argument(
        "out", type=Path, help="folder with config.json and tokenizer.json; model.safetensors is written there"
    )
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    pretrain(given.out, minutes=given.minutes, seed=given.seed, threads=given.threads)
