import numpy as np
import pytest

from vlseg.train.datasets.leaks import Fact, explained, find_leaks


def facts(count=60, **prompts):
    """Make masks whose size, number and place are drawn; a prompt is a function of the fact's index and measures."""
    rng, made = np.random.default_rng(0), []
    for i in range(count):
        share, objects, x = float(rng.uniform(0.01, 0.5)), int(rng.integers(1, 4)), float(rng.uniform())
        if i % 10 == 9:
            share, objects = 0.0, 0
        split = "test" if i % 4 == 0 else "train"
        told = {key: make(i, share, objects, x) for key, make in prompts.items()}
        made.append(Fact(split, str(i), told, share, objects, (x, 0.5)))
    return made


def found(**prompts):
    return [(leak["key"], leak["what"]) for leak in find_leaks(facts(**prompts))]


def size(i, share, objects, x):
    return "small polyp" if share < 0.2 else "Large polyp"


def test_words_that_follow_the_mask_are_found():
    assert found(p1=lambda *_: "polyp", p4=size) == [("p4", "size")]
    assert found(p2=lambda i, s, objects, x: ["no", "one", "two", "three"][objects] + " polyp") == [
        ("p2", "number"),
        ("p2", "empty mask"),
    ]
    assert found(p3=lambda i, s, o, x: ["polyp on the left", "left-sided polyp"] if x < 0.5 else "on the right") == [
        ("p3", "place")
    ]


def test_words_that_do_not_follow_it_are_no_leak():
    assert found(p1=lambda i, *_: "small polyp" if i % 2 else "large polyp") == []
    assert found(p1=lambda *_: "the left lung") == []


def test_texts_that_tie_two_splits():
    report = "Bilateral pulmonary infection, two infected areas, seen in patient number {}"
    tied = find_leaks(facts(40, p2=lambda i, *_: report.format(i - i % 4 if i % 4 == 1 else i)))
    assert [(leak["what"], leak["share"]) for leak in tied if "text" in leak["what"]] == [
        ("same text in two splits", 1.0)
    ]
    assert not [x for x in found(p2=lambda i, *_: report.format(i)) if x[1] == "same text in two splits"]
    # few different sentences are a vocabulary, not a report
    assert not [x for x in found(p2=lambda i, *_: report.format(i % 5)) if x[1] == "same text in two splits"]


def test_empty_masks_that_a_sentence_tells():
    leaks = find_leaks(facts(p1=lambda i, share, *_: "Tumor." if share else "No tumor."))
    assert leaks == [{"key": "p1", "what": "empty mask", "share": 1.0, "example": "No tumor."}]


def test_the_share_of_variance():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 3000).tolist()
    values = np.asarray(labels) * 2.0 + rng.standard_normal(3000)
    between = np.var(np.asarray(labels) * 2.0)
    assert explained(values, labels) == pytest.approx(between / (between + 1), abs=0.03)
    assert explained(rng.standard_normal(3000), labels) < 0.01
    assert explained(np.ones(5), [1, 2, 1, 2, 1]) == 0 == explained(np.arange(3.0), [1, 2, 3])
