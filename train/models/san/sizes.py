"""The sizes a side adapter comes in, each with the CLIP that it stands beside."""

from dataclasses import dataclass

from transformers import CLIPConfig, CLIPSegConfig

from ..sizes import IMAGENET_MEAN, IMAGENET_STD, TINY

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class SanSize:
    """A frozen CLIP and the geometry of its side adapter.

    Attributes:
        backbone: where CLIP's weights come from by default.
        image_size: side of the adapter's input in pixels; CLIP sees the image at half of it.
        features: CLIP states that are fused into the adapter, by the number of layers before them; proposals are
            recognised from the last of them on.
        width: channels of the adapter.
        depth: its layers.
        heads: attention heads of each.
        queries: mask proposals.
        channels: of the space where proposals and pixels meet.
        mean: what pixels of 0 to 1 are normalised by, each channel.
        std: see `mean`.
    """

    backbone: str
    image_size: int
    features: tuple[int, ...]
    width: int
    depth: int
    heads: int
    queries: int
    channels: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


SAN_SIZES = {
    "tiny": SanSize(
        "vlseg/tiny-3", 176, (0, 2, 4, 5), width=96, depth=4, heads=4, queries=16, channels=64,
        mean=IMAGENET_MEAN, std=IMAGENET_STD,
    ),
    "base": SanSize(
        "openai/clip-vit-base-patch16", 640, (0, 3, 6, 9), width=240, depth=8, heads=6, queries=100, channels=256
    ),
    "nano": SanSize("vlseg/nano", 32, (0, 2, 3), width=16, depth=2, heads=2, queries=3, channels=8),
}  # fmt: skip

PUBLIC_SAN_SIZES = ("tiny", "base")


def config_of(size: str) -> CLIPConfig:
    """Return the library configuration of the CLIP of a size."""
    if size == "base":
        return CLIPConfig(vision_config={"patch_size": 16})  # the library's default is 32
    if size == "nano":
        return _nano()
    segmenter = CLIPSegConfig.from_json_file(TINY / "config.json").to_dict()
    return CLIPConfig(**{key: segmenter[key] for key in ("text_config", "vision_config", "projection_dim")})


def _nano() -> CLIPConfig:
    narrow = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    return CLIPConfig(
        text_config=narrow | {"num_hidden_layers": 2, "vocab_size": 1024, "eos_token_id": 2},
        vision_config=narrow | {"num_hidden_layers": 5, "image_size": 32, "patch_size": 4},
        projection_dim=24,
    )
