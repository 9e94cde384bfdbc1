import pytest

from vlseg.demo.prompts import STEPS, Said, ladder

SAID = Said("polyp", "round", "yellow", "medium", "one", "right", "which is a projecting growth of tissue")
# as the published annotations of Kvasir-SEG have them
PUBLISHED = {
    "p0": "",
    "p1": "polyp",
    "p2": "round polyp",
    "p3": "yellow round polyp",
    "p4": "medium yellow round polyp",
    "p5": "one medium yellow round polyp",
    "p6": "one medium yellow round polyp, located in right of the image",
    "p7": "polyp which is a projecting growth of tissue",
    "p8": "one medium yellow round polyp which is a projecting growth of tissue",
    "p9": "one medium yellow round polyp which is a projecting growth of tissue located in right of the image",
}


def test_the_ladder_is_the_published_one():
    assert ladder(SAID) == PUBLISHED
    assert tuple(ladder(SAID)) == STEPS


def test_what_is_not_said_leaves_no_trace():
    assert set(ladder(Said(" nuclei ")).values()) == {"", "nuclei"}
    assert ladder(Said("nuclei", colour="purple"))["p6"] == "purple nuclei"


@pytest.mark.parametrize(("trait", "first"), [("shape", 2), ("colour", 3), ("size", 4), ("count", 5), ("place", 6)])
def test_each_step_says_one_thing_more(trait, first):
    rungs = ladder(Said("polyp", **{trait: "X"}))
    assert [step for step in STEPS[:7] if "X" in rungs[step]] == list(STEPS[first:7])
