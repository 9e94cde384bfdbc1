"""The sizes the image-only yardsticks come in: the pictures of CLIPSeg's sizes, and widths to go with them."""

from dataclasses import dataclass

from ..sizes import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class ImageSize:
    """The geometry of a network of pictures alone.

    Attributes:
        backbone: whose architecture it is; nothing in it was trained before.
        image_size: side of the square input in pixels.
        width: channels of a convolutional network at full resolution; each level below has twice as many.
        swin: channels of the first level of Swin UNETR, a multiple of 12.
        mean: what pixels of 0 to 1 are normalised by, each channel.
        std: see `mean`.
    """

    backbone: str
    image_size: int
    width: int
    swin: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


IMAGE_SIZES = {
    "tiny": ImageSize("monai", 176, width=16, swin=12),
    "base": ImageSize("monai", 352, width=32, swin=48),
    "nano": ImageSize("monai", 64, width=4, swin=12),
}

PUBLIC_IMAGE_SIZES = ("tiny", "base")
