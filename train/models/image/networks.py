"""The image-only networks, all of them monai's: what a segmenter without words reaches with as many pictures.

The library is imported by what is built from it alone: it takes seconds, and no other model reads it.
"""

from typing import Any

import torch
from torch import nn

from .picture_model import PictureModel
from .sizes import ImageSize

LEVELS, DEEPEST = 5, 512


def unet(model: PictureModel, size: ImageSize, options: Any) -> None:
    """Five levels, two residual units each (Ronneberger et al., arXiv 1505.04597, with residual units)."""
    from monai.networks.nets.unet import UNet

    channels = _channels(size.width, LEVELS)
    _equip(model, UNet(2, in_channels=3, out_channels=1, channels=channels, strides=(2,) * 4, num_res_units=2), 16)


def unet_plus_plus(model: PictureModel, size: ImageSize, options: Any) -> None:
    """Nested skip connections (Zhou et al., arXiv 1807.10165), five levels, without deep supervision."""
    from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus

    first, *rest = _channels(size.width, LEVELS - 1)
    net = BasicUNetPlusPlus(spatial_dims=2, in_channels=3, out_channels=1, features=(first, first, *rest, first))
    # heads of deep supervision, which the answer does not read
    net.final_conv_0_1 = net.final_conv_0_2 = net.final_conv_0_3 = nn.Identity()  # type: ignore[assignment]
    _equip(model, net, 16)


def nnunet(model: PictureModel, size: ImageSize, options: Any) -> None:
    """The architecture that nnU-Net (Isensee et al., arXiv 1809.10486) plans, without its schedule and augmentation."""
    from monai.networks.nets.dynunet import DynUNet

    levels = LEVELS if size.image_size < 256 else LEVELS + 1
    steps = [2] * (levels - 1)
    net = DynUNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=[1, *steps],
        upsample_kernel_size=steps,
        filters=_channels(size.width, levels),
    )
    _equip(model, net, 2 ** (levels - 1))


def swin_unetr(model: PictureModel, size: ImageSize, options: Any) -> None:
    """A Swin transformer as the encoder of a U-Net (Hatamizadeh et al., arXiv 2201.01266), in two dimensions."""
    from monai.networks.nets.swin_unetr import SwinUNETR

    with torch.device("cpu"):  # it reads numbers from tensors while it is built, which `meta` has none of
        net = SwinUNETR(in_channels=3, out_channels=1, feature_size=size.swin, spatial_dims=2)
    _equip(model, net, 32)


def _channels(width: int, levels: int) -> list[int]:
    return [min(width * 2**level, DEEPEST) for level in range(levels)]


def _equip(model: PictureModel, net: Any, stride: int) -> None:
    model.equip(net, stride)
    model.requires_grad_(True)
