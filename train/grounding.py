"""CLIPSeg with gradient through every part, each picture encoded once for several sentences, and what it is taught by.

Beside the mask's own loss there are throw-away heads ("hints") that make words and looks meet early: they read traits
from patches, traits from sentences, and the mask from the decoder's inner tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .drawn_batch import LOOKS, PATCH, Batch
from .sentences import WORDS

FORMS = 5
Library = Any  # transformers' CLIPSegForImageSegmentation: its sub-modules are unknown to type checkers


@dataclass
class Prediction:
    """What a batch gives: B pictures, Q sentences about each.

    Attributes:
        logits: float32 (B * Q, S, S).
        taken: extracted activations of the vision tower, float32 (B, N, D) each.
        sentence: projected sentence vectors, float32 (B * Q, W).
        tokens: decoder tokens after the sentence's modulation and after each layer but the last, (B * Q, N, R) each.
    """

    logits: Tensor
    taken: list[Tensor]
    sentence: Tensor
    tokens: list[Tensor]


def predict(model: Library, batch: Batch) -> Prediction:
    """Run a batch through the library's parts, with gradient (the library's own forward has none)."""
    taken, sentence = activations(model, batch.pixels, batch.places), condition(model, batch.ids, batch.attention)
    logits, tokens = decode(model, [state.repeat_interleave(batch.questions, 0) for state in taken], sentence)
    return Prediction(logits, taken, sentence, tokens)


def activations(model: Library, pixels: Tensor, places: Tensor) -> list[Tensor]:
    """The extracted hidden states of the vision tower, (B, N + 1, D) each, from views and the places of their patches.

    What comes after the last of them is not run.
    """
    vision = model.clip.vision_model
    hidden, taken = vision.pre_layrnorm(_embed(vision.embeddings, pixels, places)), []
    for index, layer in enumerate(vision.encoder.layers[: depth(model)]):
        hidden = layer(hidden, None)
        if index in model.extract_layers:
            taken.append(hidden)
    return taken


def _embed(embeddings: Library, pixels: Tensor, places: Tensor) -> Tensor:
    """Patches, each with the position it has in the whole picture, behind the class token: (B, N + 1, D)."""
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    first = embeddings.class_embedding + embeddings.position_embedding.weight[0]
    return torch.cat([first.expand(len(pixels), 1, -1), patches + embeddings.position_embedding(places + 1)], dim=1)


def condition(model: Library, ids: Tensor, attention: Tensor) -> Tensor:
    """The projected embedding of each sentence, (B, W), from int64 (B, L)."""
    return model.clip.text_projection(model.clip.text_model(ids, attention_mask=attention).pooler_output)


def decode(model: Library, taken: list[Tensor], sentence: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (B, S, S) from activations and sentences, and the decoder's inner tokens as in `Prediction`."""
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


def depth(model: Library) -> int:
    """How many layers of the vision tower reach the mask."""
    return max(model.extract_layers) + 1


def attend(model: Library, tokens: int) -> None:
    """Choose how attention is computed on a CPU: torch's fused form has a backward that is slow for short sequences.

    The vision tower's few sequences are faster as plain products, the decoder's many up to some 200 tokens.
    """
    model.clip.vision_model.config._attn_implementation = "eager"
    for layer in model.decoder.layers:
        layer.self_attn.config._attn_implementation = "eager" if tokens <= 200 else "sdpa"


def unused(name: str, model: Library) -> bool:
    """Does the parameter of this name never reach the mask: late layers, the image's own embedding, the scale?"""
    late = range(depth(model), len(model.clip.vision_model.encoder.layers))
    dead = [f"vision_model.encoder.layers.{i}." for i in late]
    return any(part in name for part in [*dead, "post_layernorm", "visual_projection", "logit_scale"])


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1.5 x soft Dice + binary cross-entropy of (B, S, S); the smoothing (1 % of the area) lets empty masks count."""
    logits = logits.float()
    probability, smooth = logits.sigmoid(), 0.01 * masks[0].numel()
    both, total = (probability * masks).sum((1, 2)), probability.sum((1, 2)) + masks.sum((1, 2))
    dice = 1 - (2 * both + smooth) / (total + smooth)
    return 1.5 * dice.mean() + F.binary_cross_entropy_with_logits(logits, masks)


class Hints(nn.Module):
    """Heads for training only."""

    def __init__(self, model: Library) -> None:
        super().__init__()
        config = model.config
        self.weights = (1.0, 3.0, 1.0)  # shapes are the hardest to see
        self.looks = [len(WORDS[name]) for name in LOOKS]
        self.said = [len(words) + 1 for words in WORDS.values()]
        self.patch = nn.Linear(config.vision_config.hidden_size, sum(self.looks) + 1 + FORMS)
        self.word = nn.Linear(config.projection_dim, sum(self.said))
        matches = [nn.Linear(config.reduce_dim, 1) for _ in config.extract_layers]
        self.match = nn.ModuleList(matches)
        for head in (self.patch, self.word, *matches):
            nn.init.zeros_(head.weight)  # no word of theirs reaches the model before they know something

    def losses(self, batch: Batch, out: Prediction) -> dict[str, Tensor]:
        """The hints' losses by name."""
        return {
            "match": self._match(out.tokens, batch.masks),
            "patch": self._patch(out.taken[-1], batch),
            "word": self._word(out.sentence, batch.words),
        }

    def _patch(self, activation: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the traits of covered patches and of being covered at all, distance to the object's form."""
        *looks, covered, forms = self.patch(activation[:, 1:]).float().split([*self.looks, 1, FORMS], dim=-1)
        traits, truth = batch.patches, batch.forms.transpose(1, 2)
        loss = F.binary_cross_entropy_with_logits(covered[..., 0], (traits[:, 1] >= 0).float())
        for i, part in enumerate(looks):
            known = traits[:, i] >= 0
            if known.any():
                loss = loss + self.weights[i] * F.cross_entropy(part[known], traits[:, i][known])
        known = ~truth.isnan()
        return loss + 5 * F.smooth_l1_loss(forms[known], truth[known], beta=0.1) if known.any() else loss

    def _word(self, sentence: Tensor, words: Tensor) -> Tensor:
        """Cross-entropy of the traits that a sentence mentions (the last class: not mentioned)."""
        parts = self.word(sentence).float().split(self.said, dim=-1)
        return torch.stack([F.cross_entropy(part, words[:, i]) for i, part in enumerate(parts)]).sum()

    def _match(self, tokens: list[Tensor], masks: Tensor) -> Tensor:
        """The mask's loss at the centres of patches, read from the decoder's inner tokens."""
        truth = masks[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        guesses = [head(state[:, 1:]).view_as(truth) for head, state in zip(self.match, tokens, strict=True)]
        return torch.stack([mask_loss(guess, truth) for guess in guesses]).mean()
