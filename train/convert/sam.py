"""From the names of Segment Anything's release (Kirillov et al., arXiv 2304.02643) to those of transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

Tensors = dict[str, Tensor]

SHARED = "prompt_encoder.shared_embedding.positional_embedding"
_PLACES = {
    r"^image_encoder\.patch_embed\.proj\.": "vision_encoder.patch_embed.projection.",
    r"^image_encoder\.blocks\.(\d+)\.norm(\d)\.": r"vision_encoder.layers.\1.layer_norm\2.",
    r"^image_encoder\.blocks\.": "vision_encoder.layers.",
    r"^image_encoder\.neck\.0\.": "vision_encoder.neck.conv1.",
    r"^image_encoder\.neck\.1\.": "vision_encoder.neck.layer_norm1.",
    r"^image_encoder\.neck\.2\.": "vision_encoder.neck.conv2.",
    r"^image_encoder\.neck\.3\.": "vision_encoder.neck.layer_norm2.",
    r"^image_encoder\.": "vision_encoder.",
    r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$": SHARED,
    r"^prompt_encoder\.point_embeddings\.": "prompt_encoder.point_embed.",
    r"^prompt_encoder\.mask_downscaling\.0\.": "prompt_encoder.mask_embed.conv1.",
    r"^prompt_encoder\.mask_downscaling\.1\.": "prompt_encoder.mask_embed.layer_norm1.",
    r"^prompt_encoder\.mask_downscaling\.3\.": "prompt_encoder.mask_embed.conv2.",
    r"^prompt_encoder\.mask_downscaling\.4\.": "prompt_encoder.mask_embed.layer_norm2.",
    r"^prompt_encoder\.mask_downscaling\.6\.": "prompt_encoder.mask_embed.conv3.",
    r"^mask_decoder\.output_upscaling\.0\.": "mask_decoder.upscale_conv1.",
    r"^mask_decoder\.output_upscaling\.1\.": "mask_decoder.upscale_layer_norm.",
    r"^mask_decoder\.output_upscaling\.3\.": "mask_decoder.upscale_conv2.",
    r"^mask_decoder\.transformer\.layers\.(\d+)\.norm(\d)\.": r"mask_decoder.transformer.layers.\1.layer_norm\2.",
    r"^mask_decoder\.transformer\.norm_final_attn\.": "mask_decoder.transformer.layer_norm_final_attn.",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.0\.": r"\1.proj_in.",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.1\.": r"\1.layers.0.",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.2\.": r"\1.proj_out.",
}


def sam_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors of SAM's release, or MedSAM's, under the names of transformers' `SamModel`."""
    named = {_name(name): tensor for name, tensor in tensors.items() if name not in ("pixel_mean", "pixel_std")}
    if SHARED in named:
        named["shared_image_embedding.positional_embedding"] = named[SHARED].clone()
    return named


def _name(name: str) -> str:
    for old, new in _PLACES.items():
        name, found = re.subn(old, new, name)
        if found:
            break
    return name
