"""The page of the papers' figures is what the models say."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def papers():
    spec = importlib.util.spec_from_file_location("papers", DOCS / "papers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_models_say(papers):
    assert papers.PAGE.read_text() == papers.page(), "run: python docs/papers.py"


def test_differences_are_at_the_digits_that_were_printed(papers):
    assert papers.difference("4.2 M", 4_201_984) == "0" and papers.difference("3 M", 2_974_464) == "0"
    assert papers.difference("4.20 M", 4_255_204) == "+0.06 M" and papers.difference("150 M", 136_177_249) == "-14 M"
    assert papers.difference(100, 99) == "-1" and papers.difference(100, 100) == "0"


def test_a_difference_without_a_sentence_is_refused(papers, monkeypatch):
    monkeypatch.setattr(papers, "FIGURES", {"A paper": [papers.Figure("a count", 2, lambda: 3)]})
    with pytest.raises(SystemExit, match="no sentence says why"):
        papers.page()
