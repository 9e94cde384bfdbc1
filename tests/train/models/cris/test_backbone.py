"""CLIP RN50's parts against torch's own layers and the formulas of its release, in float64."""

import torch
from torch.nn.functional import interpolate, multi_head_attention_forward, scaled_dot_product_attention

from vlseg.train.models.cris.backbone import Bottleneck, ClipBackbone, DensePool, ImageEncoder, TextBlock
from vlseg.train.models.cris.sizes import CRIS_SIZES

NANO = CRIS_SIZES["nano"]


def attention_of_torch(pool, tokens):
    """Return torch's own multi-head attention with the pool's weights: tokens (N, B, C) to (N, B, out)."""
    bias = torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias])
    out, _ = multi_head_attention_forward(
        tokens,
        tokens,
        tokens,
        tokens.shape[-1],
        pool.heads,
        None,
        bias,
        None,
        None,
        False,
        0.0,
        pool.c_proj.weight,
        pool.c_proj.bias,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return out


def test_dense_pool_is_torchs_attention_over_the_pixels():
    pool, x = DensePool(3, 32, 4, 24).double(), torch.randn(2, 32, 5, 4).double()
    table = pool.positional_embedding[1:].T.reshape(1, 32, 3, 3)
    place = interpolate(table, (5, 4), mode="bicubic", align_corners=False).flatten(2).permute(2, 0, 1)
    want = attention_of_torch(pool, x.flatten(2).permute(2, 0, 1) + place).permute(1, 2, 0).reshape(2, 24, 5, 4)
    torch.testing.assert_close(pool.attend(x), want, rtol=0, atol=1e-12)


def test_dense_pool_answers_a_pixel_as_clip_answers_its_class_token():
    """CLIP's pool has one query, the mean token at place 0; a pixel here is that query among the pixels alone."""
    pool, x = DensePool(3, 32, 4, 24).double(), torch.randn(1, 32, 3, 3).double()
    tokens = x.flatten(2).transpose(1, 2) + pool.positional_embedding[1:]
    q, k, v = (part(tokens).reshape(9, 4, 8) for part in (pool.q_proj, pool.k_proj, pool.v_proj))
    for pixel in range(9):
        weight = torch.einsum("hd,nhd->nh", q[pixel], k).div(8**0.5).softmax(0)
        want = pool.c_proj(torch.einsum("nh,nhd->hd", weight, v).flatten())
        torch.testing.assert_close(pool.attend(x)[0, :, pixel // 3, pixel % 3], want, rtol=0, atol=1e-12)


def test_the_pool_does_not_read_the_class_row_and_adds_the_residual_path():
    pool, x = DensePool(3, 32, 4, 24).eval(), torch.randn(2, 32, 3, 3)
    before = pool(x)
    with torch.no_grad():
        pool.positional_embedding[0] += 1
    assert torch.equal(pool(x), before)
    torch.testing.assert_close(before, (pool.attend(x) + pool.connect(x)).clamp(min=0))
    assert pool.positions(3, 3).shape == (1, 9, 32)


def test_bottleneck_halves_by_averaging():
    block = Bottleneck(8, 4, 2).eval()
    assert block(torch.randn(1, 8, 6, 6)).shape == (1, 16, 3, 3)
    assert [type(m).__name__ for m in block.downsample] == ["AvgPool2d", "Conv2d", "BatchNorm2d"]
    assert all(conv.stride == (1, 1) for conv in (block.conv1, block.conv2, block.conv3))
    assert isinstance(Bottleneck(16, 4, 1).downsample, torch.nn.Identity)


def test_the_image_encoder_has_three_taps():
    taps = ImageEncoder(NANO).eval()(torch.randn(2, 3, 96, 64))
    assert [tuple(tap.shape) for tap in taps] == [(2, 64, 12, 8), (2, 128, 6, 4), (2, 64, 3, 2)]


def test_text_block_is_causal_attention_and_quick_gelu():
    block, x = TextBlock(32, 2).double(), torch.randn(3, 5, 32).double()
    q, k, v = (block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
    heads = [part.reshape(3, 5, 2, 16).transpose(1, 2) for part in (q, k, v)]
    mixed = scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)
    y = x + block.attn.out_proj(mixed)
    hidden = block.mlp.c_fc(block.ln_2(y))
    want = y + block.mlp.c_proj(hidden / (1 + torch.exp(-1.702 * hidden)))
    torch.testing.assert_close(block(x), want, rtol=0, atol=1e-12)


def test_the_sentence_is_the_first_end_token_and_padding_does_not_reach_it():
    clip = ClipBackbone(NANO, 77).eval()
    end = NANO.vocabulary - 1
    short, long = torch.tensor([[5, 9, 3, end]]), torch.tensor([[5, 9, 3, end, end, end]])
    words, sentence = clip.words(short)
    more, again = clip.words(long)
    torch.testing.assert_close(again, sentence)
    torch.testing.assert_close(more[:, :4], words)
    torch.testing.assert_close(sentence, words[:, 3] @ clip.text_projection)
