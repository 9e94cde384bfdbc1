"""The meanings against arithmetic done by hand, and the folds against the meanings, in float64 to 1e-12."""

import pytest
import torch
from torch import nn

from vlseg.kernels import reference
from vlseg.kernels.reference import Attention, Norm

WIDTH, INNER = 24, 12


@pytest.fixture(autouse=True)
def doubles():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def attention():
    pair = (INNER, WIDTH), (INNER,)
    return Attention(*(torch.randn(s) for s in (*pair, *pair, *pair, (WIDTH, INNER), (WIDTH,))))


def norm():
    return Norm(torch.randn(WIDTH), torch.randn(WIDTH))


def test_bottleneck_by_hand():
    x = torch.tensor([[1.0, -2.0]])
    out = reference.bottleneck(
        x, torch.tensor([[3.0, 1.0]]), torch.tensor([0.5]), torch.tensor([[2.0], [-1.0]]), torch.tensor([0.0, 1.0])
    )
    assert out.tolist() == [[1.0 + 3.0, -2.0]]  # hidden 3 - 2 + 0.5 = 1.5; update relu(3, -0.5)


def test_bottleneck_is_the_published_adapter():
    down, up = nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH)
    x, residual = torch.randn(2, 7, WIDTH), torch.randn(2, 7, WIDTH)
    expected = residual + x + 0.5 * torch.relu(up(torch.relu(down(nn.functional.layer_norm(x, (WIDTH,))))))
    plain = Norm(torch.ones(WIDTH), torch.zeros(WIDTH))
    weights = (down.weight, down.bias, up.weight, up.bias)
    out = reference.bottleneck(x, *weights, norm=plain, scale=torch.tensor([0.5]), residual=residual)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_folded_bottleneck_takes_the_hidden_of_the_widened_linear():
    before, down, up = nn.Linear(9, WIDTH), nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH)
    a = torch.randn(3, 9)
    widened = torch.cat([before.weight, down.weight @ before.weight])
    bias = torch.cat([before.bias, down.weight @ before.bias + down.bias])
    x, hidden = nn.functional.linear(a, widened, bias).split([WIDTH, 5], -1)
    folded = reference.bottleneck_hidden(x, hidden, up.weight, up.bias)
    whole = reference.bottleneck(before(a), down.weight, down.bias, up.weight, up.bias)
    torch.testing.assert_close(folded, whole, rtol=0, atol=1e-12)


def test_attention_is_that_of_pytorch():
    heads, a = 3, attention()
    queries, keys = torch.randn(2, 7, WIDTH), torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    q, k, v = (
        reference.split_heads(nn.functional.linear(x, w, b), heads)
        for x, w, b in ((queries, *a[0:2]), (keys, *a[2:4]), (keys, *a[4:6]))
    )
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    expected = nn.functional.linear(expected.transpose(1, 2).flatten(2), a.out_weight, a.out_bias)
    out = reference.cross_attention(queries, keys, a, heads, mask)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_no_real_token_leaves_the_output_bias_alone():
    a, gamma = attention(), torch.randn(WIDTH)
    vision, text = torch.randn(1, 4, WIDTH), torch.randn(1, 3, WIDTH)
    mask = torch.zeros(1, 3, dtype=torch.bool)
    out = reference.gated_cross_attention(vision, text, a, norm(), norm(), gamma, mask=mask)
    torch.testing.assert_close(out, vision + gamma * a.out_bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("heads", "tokens"), [(1, 1), (1, 4), (3, 2), (4, 9)])
def test_absorbed_keys_are_exact(heads, tokens):
    arguments = (torch.randn(2, tokens, WIDTH), 3 + torch.randn(2, 31, WIDTH), attention(), norm(), norm())
    absorbed = reference.absorbed_text_pooling(*arguments, heads=heads)
    plain = reference.text_pooling(*arguments, heads=heads)
    torch.testing.assert_close(absorbed, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("heads", "tokens"), [(1, 4), (3, 2)])
def test_the_adapter_made_from_the_text_is_exact(heads, tokens):
    vision, text, a = torch.randn(2, 7, WIDTH), torch.randn(2, tokens, WIDTH), attention()
    vision_norm, text_norm, gamma = norm(), norm(), torch.randn(WIDTH)
    mask = torch.arange(tokens)[None] < torch.tensor([[tokens], [1]])
    down, down_bias, up, up_bias = reference.text_adapter(text, a, text_norm, gamma, heads, mask)
    hidden = torch.einsum("bnw,bhkw->bnhk", reference.layer_norm(vision, vision_norm), down) + down_bias[:, None]
    out = vision + torch.einsum("bnhk,bwhk->bnw", hidden.softmax(-1), up) + up_bias
    expected = reference.gated_cross_attention(vision, text, a, vision_norm, text_norm, gamma, heads=heads, mask=mask)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_one_text_token_is_one_vector_for_each_image():
    a, gamma, text_norm = attention(), torch.randn(WIDTH), norm()
    vision, text = torch.randn(2, 7, WIDTH), torch.randn(2, 1, WIDTH)
    value = nn.functional.linear(reference.layer_norm(text, text_norm), a.value_weight, a.value_bias)
    expected = vision + gamma * nn.functional.linear(value, a.out_weight, a.out_bias)
    out = reference.gated_cross_attention(vision, text, a, norm(), text_norm, gamma, heads=2)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
