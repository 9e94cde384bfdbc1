"""The sizes a SAM comes in, each with the text encoder that reads reports for it."""

from dataclasses import dataclass
from typing import Any

from transformers import BertConfig, SamConfig

from ....deploy.errors import UserError
from ..sizes import IMAGENET_MEAN, IMAGENET_STD

PATCH = 16


@dataclass(frozen=True)
class SamSize:
    """A geometry of SAM (arXiv 2304.02643) and of a BERT beside it; the defaults are ViT-B and BERT-base uncased.

    Attributes:
        backbone: where SAM's weights come from by default; the small sizes are drawn at random.
        text: where BERT's come from.
        image_size: side of the square input in pixels, a multiple of 16.
        width: of the image encoder; its MLP is four times as wide.
        depth: its layers.
        heads: its attention heads.
        window: side of an attention window, in patches.
        global_layers: layers that attend to the whole image.
        channels: of the image embedding and the mask decoder.
        decoder_heads: attention heads of the mask decoder.
        decoder_mlp: hidden width of its MLPs.
        text_width: of BERT; its MLP is four times as wide.
        text_depth: its layers.
        text_heads: its attention heads.
        vocabulary: words that have an embedding; None is BERT's own.
        spread: standard deviation of random weights; SAM's 0.02 lets hardly anything through at a small width.
        mean: what pixels of 0 to 1 are normalised by, each channel.
        std: see `mean`.
    """

    backbone: str
    text: str = "google-bert/bert-base-uncased"
    image_size: int = 1024
    width: int = 768
    depth: int = 12
    heads: int = 12
    window: int = 14
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    channels: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    text_width: int = 768
    text_depth: int = 12
    text_heads: int = 12
    vocabulary: int | None = None
    spread: float = 0.02
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def drawn(self) -> bool:
        """Has it no published weights, so that it starts from random ones?"""
        return self.vocabulary is not None


SAM_SIZES = {
    # four windows of 8 x 8 patches: no padding, as SAM's 14 x 14 would need on a grid of 16 x 16
    "tiny": SamSize(
        "vlseg/sam-tiny-random", "vlseg/bert-tiny-random", 256, width=128, heads=4, window=8, channels=64,
        decoder_heads=4, decoder_mlp=256, text_width=128, text_depth=4, text_heads=4, vocabulary=1024, spread=0.08,
    ),
    "base": SamSize("facebook/sam-vit-base"),
    "vit-l": SamSize("facebook/sam-vit-large", width=1024, depth=24, heads=16, global_layers=(5, 11, 17, 23)),
    "vit-h": SamSize("facebook/sam-vit-huge", width=1280, depth=32, heads=16, global_layers=(7, 15, 23, 31)),
    "nano": SamSize(
        "vlseg/sam-nano-random", "vlseg/bert-nano-random", 64, width=32, depth=4, heads=2, window=3,
        global_layers=(1, 3), channels=16, decoder_heads=2, decoder_mlp=32, text_width=32, text_depth=2, text_heads=2,
        vocabulary=1024, spread=0.15,
    ),
}  # fmt: skip

PUBLIC_SAM_SIZES = ("tiny", "base", "vit-l", "vit-h")


def sam_size_of(name: str) -> SamSize:
    """Return the size called `name`; UserError names the known ones."""
    if name not in SAM_SIZES:
        raise UserError(f"no size {name!r}; known: {', '.join(SAM_SIZES)}")
    return SAM_SIZES[name]


def sam_config(size: str) -> SamConfig:
    """Return the library configuration of a SAM."""
    one = sam_size_of(size)
    vision = {
        "hidden_size": one.width,
        "mlp_dim": 4 * one.width,
        "num_hidden_layers": one.depth,
        "num_attention_heads": one.heads,
        "image_size": one.image_size,
        "patch_size": PATCH,
        "window_size": one.window,
        "global_attn_indexes": list(one.global_layers),
        "output_channels": one.channels,
        "num_pos_feats": one.channels // 2,
        "initializer_range": one.spread,
    }
    prompts = {"hidden_size": one.channels, "image_size": one.image_size, "patch_size": PATCH}
    decoder = {
        "hidden_size": one.channels,
        "mlp_dim": one.decoder_mlp,
        "num_attention_heads": one.decoder_heads,
        "iou_head_hidden_dim": one.channels,
    }
    configs: dict[str, Any] = {
        "vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder
    }  # fmt: skip
    return SamConfig(**configs, initializer_range=one.spread)


def bert_config(one: SamSize) -> BertConfig:
    """Return the library configuration of the BERT of a size."""
    return BertConfig(
        vocab_size=one.vocabulary or 30522,
        hidden_size=one.text_width,
        intermediate_size=4 * one.text_width,
        num_hidden_layers=one.text_depth,
        num_attention_heads=one.text_heads,
        initializer_range=one.spread,
    )
