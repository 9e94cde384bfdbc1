import asyncio

import pytest

from vlseg.deploy.errors import UserError

gr = pytest.importorskip("gradio")

from vlseg.demo import page  # noqa: E402 - needs gradio


def built(models, scratch):
    """The page's blocks, built within an event loop, since gradio makes loops that it never closes outside of one."""

    async def build():
        return page.build(models, scratch)

    return asyncio.run(build())


@pytest.fixture
def blocks(models, tmp_path):
    return built(models, tmp_path)


def test_it_has_the_five_tabs(blocks):
    tabs = [block.label for block in blocks.blocks.values() if isinstance(block, gr.Tab)]
    assert tabs == ["Segment", "Ask the model", "Adapters", "Latency", "Stream"]


def test_every_control_has_a_label(blocks):
    kinds = (gr.Image, gr.Textbox, gr.Slider, gr.Dropdown, gr.Radio, gr.Checkbox, gr.CheckboxGroup)
    controls = [block for block in blocks.blocks.values() if isinstance(block, kinds)]
    assert len(controls) > 25 and all(control.label for control in controls)


def test_programs_see_one_endpoint(blocks):
    assert list(blocks.get_api_info()["named_endpoints"]) == ["/mask"]


def test_no_state_is_shared_and_none_outlives_its_user(blocks):
    states = [block for block in blocks.blocks.values() if isinstance(block, gr.State)]
    assert all(state.value in (None, page.Session()) for state in states)
    assert blocks.delete_cache == (page.LOOK_S, page.FORGET_S) and page.FORGET_S <= 3600


def test_without_bundles_it_shows_the_packages_own_or_says_that_they_are_missing(monkeypatch, tmp_path):
    from vlseg.demo import shipped

    monkeypatch.setattr(shipped, "ARCHIVE", tmp_path / "none.tar.xz")
    with pytest.raises(UserError, match=r"none\.tar\.xz is missing"):
        page.launch([])


@pytest.mark.parametrize(("certificate", "scheme"), [(None, "http"), (("a", "b"), "https")])
def test_a_place_has_an_address(certificate, scheme):
    assert page.Place("0.0.0.0", 80, certificate=certificate).url == f"{scheme}://0.0.0.0:80"
