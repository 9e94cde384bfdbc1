import pytest

from vlseg.kernels.forms import ADAPTER_LIMIT, adapter_layout, fusion_form, pooling_form, power_of_two


def test_powers_of_two():
    assert [power_of_two(n) for n in (1, 2, 3, 48, 64, 485)] == [1, 2, 4, 64, 64, 512]
    assert power_of_two(3, at_least=16) == 16


@pytest.mark.parametrize(("heads", "tokens"), [(1, 2), (3, 5), (8, 77), (16, 2)])
def test_the_adapter_layout_holds_every_head_and_token(heads, tokens):
    slots = adapter_layout(heads, tokens)
    assert slots[0] >= heads and slots[1] >= tokens and slots[0] * slots[1] >= 16
    assert all(n & (n - 1) == 0 for n in slots)


@pytest.mark.parametrize(
    ("heads", "tokens", "inner", "form"),
    [(8, 1, 96, "closed"), (1, 2, 96, "adapter"), (1, 77, 96, "adapter"), (1, 97, 96, "flash"), (8, 16, 96, "flash")],
)
def test_fusion_forms(heads, tokens, inner, form):
    assert fusion_form(heads, tokens, inner) == form


def test_no_adapter_is_larger_than_its_limit():
    for heads in (1, 2, 3, 8):
        for tokens in range(2, 78):
            if fusion_form(heads, tokens, 512) == "adapter":
                slots = adapter_layout(heads, tokens)
                assert slots[0] * slots[1] <= ADAPTER_LIMIT


def test_pooling_is_absorbed_below_half_the_inner_size():
    assert pooling_form(1, 47, 96) == "absorbed"
    assert pooling_form(1, 48, 96) == "plain"
    assert pooling_form(8, 6, 96) == "plain"
