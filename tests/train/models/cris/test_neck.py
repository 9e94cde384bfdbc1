"""The neck, the decoder and the projector against torch's own layers and loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from vlseg.train.models.cris.cubic import Cubic
from vlseg.train.models.cris.decoder import Decoder, grid_waves, waves
from vlseg.train.models.cris.neck import CoordConv, Neck, SentenceNorm
from vlseg.train.models.cris.projector import CrisUpsampler, Projector
from vlseg.train.models.cris.sizes import CRIS_SIZES

NANO = CRIS_SIZES["nano"]


def test_coordinate_convolution_reads_the_place():
    layer, x = CoordConv(3, 4).double().eval(), torch.randn(2, 3, 4, 5).double()
    wide = torch.zeros(2, 5, 4, 5).double()
    wide[:, :3] = x
    for row in range(4):
        for column in range(5):
            wide[:, 3, row, column] = -1 + 2 * column / 4
            wide[:, 4, row, column] = -1 + 2 * row / 3
    want = layer.conv1[1](conv2d(wide, layer.conv1[0].weight, padding=1)).clamp(min=0)
    torch.testing.assert_close(layer(x), want, rtol=0, atol=1e-12)


def test_one_sentence_alone_is_normed_by_the_running_statistics():
    norm = SentenceNorm(6)
    norm(torch.randn(8, 6))
    x = torch.randn(1, 6)
    before = norm.running_mean.clone()
    alone = norm(x)
    assert torch.equal(norm.running_mean, before)
    torch.testing.assert_close(alone, norm.eval()(x))
    plain = nn.BatchNorm1d(6)
    rows = torch.randn(5, 6)
    torch.testing.assert_close(SentenceNorm(6)(rows), plain(rows))


def test_the_neck_in_parts_is_the_published_pyramid():
    neck = Neck(NANO).eval()
    c3, c4, c5 = torch.randn(2, 64, 8, 8), torch.randn(2, 128, 4, 4), torch.randn(2, 64, 2, 2)
    sentence = torch.randn(2, 64)
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    f5 = neck.norm_layer(neck.f1_v_proj(c5) * neck.txt_proj(sentence)[..., None, None])
    f4 = neck.f2_cat(torch.cat([neck.f2_v_proj(c4), up(f5)], 1))
    f3 = neck.f3_cat(torch.cat([nn.AvgPool2d(2)(neck.f3_v_proj(c3)), f4], 1))
    maps = torch.cat([neck.f4_proj3(f3), neck.f4_proj4(f4), up(neck.f4_proj5(f5))], 1)
    want = neck.coordconv(neck.aggr(maps))
    got = neck(*neck.image(c3, c4, c5), neck.gate(sentence))
    assert got.shape == (2, 32, 4, 4)
    torch.testing.assert_close(got, want)


def test_waves_are_the_sines_of_attention_is_all_you_need():
    got = waves(7, 10, torch.zeros(1).double())
    for place in range(7):
        for i in range(5):
            angle = place / 10_000 ** (2 * i / 10)
            assert got[place, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert got[place, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_code_of_a_grid_is_column_then_row():
    got = grid_waves(3, 4, 8, torch.zeros(1)).reshape(3, 4, 8)
    assert torch.equal(got[1, 2], torch.cat([waves(4, 4, got)[2], waves(3, 4, got)[1]]))


def test_masked_words_are_not_read():
    decoder, picture = Decoder(NANO).eval(), torch.randn(2, 32, 4, 4)
    words, mask = torch.randn(2, 6, 32), torch.tensor([[1.0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    before = decoder(picture, words, mask)
    words[0, 3:] = 9
    after = decoder(picture, words, mask)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(decoder(picture, words[:, :3], mask[:, :3])[0], before[0])
    words[1, 3:] = 9
    assert not torch.allclose(decoder(picture, words, mask)[1], before[1])


def test_the_decoder_layer_is_pre_norm_with_a_norm_behind_each_attention():
    layer = Decoder(NANO).layers[0].eval()
    n, length = 5, 3
    pixels, code = torch.randn(n, 2, 32), torch.randn(n, 1, 32)
    words, keys, pad = torch.randn(length, 2, 32), torch.randn(length, 2, 32), torch.zeros(2, length, dtype=torch.bool)
    y = layer.norm1(pixels)
    x = pixels + layer.self_attn_norm(layer.self_attn(y + code, y + code, y)[0])
    x = x + layer.cross_attn_norm(layer.multihead_attn(layer.norm2(x) + code, keys, words)[0])
    torch.testing.assert_close(layer(pixels, code, words, keys, pad), x + layer.ffn(layer.norm3(x)))


def test_the_kernel_of_a_sentence_is_a_3x3_convolution():
    projector = Projector(NANO).double().eval()
    picture, kernel = torch.randn(3, 32, 3, 5).double(), projector.kernel(torch.randn(3, 64).double())
    fine = projector.vis(picture)
    got = projector(picture, kernel)
    assert got.shape == (3, 1, 12, 20)
    for i in range(3):
        weight, bias = kernel[i, :-1].reshape(1, 16, 3, 3), kernel[i, -1:]
        torch.testing.assert_close(got[i : i + 1], conv2d(fine[i : i + 1], weight, bias, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("before", "after"), [(104, 416), (16, 64), (5, 7)])
def test_cubic_is_torchs_resize(before, after):
    x = torch.randn(2, 1, before, before)
    want = nn.functional.interpolate(x.double(), (after, after), mode="bicubic", align_corners=True)
    torch.testing.assert_close(Cubic(before, after)(x).double(), want, rtol=1e-5, atol=1e-5)


def test_the_upsampler_begins_half_and_half():
    up = CrisUpsampler(32)
    logits, picture = torch.randn(2, 1, 64, 64), torch.randn(2, 32, 4, 4)
    new = up.conv(nn.Upsample(size=(64, 64), mode="bilinear")(up.narrow(picture)))
    torch.testing.assert_close(up(logits, picture), (logits + new) / 2)
    assert sum(p.numel() for p in CrisUpsampler(512).parameters()) == 34_370
