"""The sizes a CLIPSeg comes in: published geometries, the embedded small one, and one for tests."""

from dataclasses import dataclass
from pathlib import Path

from transformers import CLIPSegConfig

from ...deploy.errors import UserError

TINY = Path(__file__).parent / "tiny"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Size:
    """A backbone geometry and the adapter widths that go with it.

    `backbone` is where weights come from by default; `image_size` is in pixels (square); `dense_rank`, `shallow_rank`
    and `condition_rank` are the hidden widths of VLSM-Adapter's dense, shallow and conditional adapters.
    """

    backbone: str
    image_size: int
    dense_rank: int
    shallow_rank: int
    condition_rank: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


SIZES = {
    "tiny": Size("vlseg/tiny-3", 176, dense_rank=16, shallow_rank=128, condition_rank=64),
    "base": Size("CIDAS/clipseg-rd64-refined", 352, dense_rank=64, shallow_rank=512, condition_rank=256),
    "rd64": Size("CIDAS/clipseg-rd64", 352, dense_rank=64, shallow_rank=512, condition_rank=256),
    "nano": Size("vlseg/nano", 32, dense_rank=4, shallow_rank=8, condition_rank=8),
}

PUBLIC_SIZES = ("tiny", "base", "rd64")


def size_of(name: str) -> Size:
    """Return the size called `name`; UserError names the known ones."""
    if name not in SIZES:
        raise UserError(f"no size {name!r}; known: {', '.join(SIZES)}")
    return SIZES[name]


def config_of(size: str) -> CLIPSegConfig:
    """Return the library configuration of a size."""
    if size in ("base", "rd64"):
        return _published(refined=size == "base")
    if size == "nano":
        return _nano()
    return CLIPSegConfig.from_json_file(TINY / "config.json")


def _published(refined: bool) -> CLIPSegConfig:
    return CLIPSegConfig(  # the library's default patch is 32; the published weights have 16
        vision_config={"patch_size": 16}, reduce_dim=64, use_complex_transposed_convolution=refined
    )


def _nano() -> CLIPSegConfig:
    narrow = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    return CLIPSegConfig(
        text_config=narrow | {"num_hidden_layers": 4, "vocab_size": 1024, "bos_token_id": 0, "eos_token_id": 2},
        vision_config=narrow | {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8},
        projection_dim=32,
        reduce_dim=16,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        use_complex_transposed_convolution=False,
    )
