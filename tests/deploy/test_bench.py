import json
import shutil

import numpy as np
import pytest

from vlseg.deploy import bench as module
from vlseg.deploy.bench import Plan, Subject, Task, bench, draw_image, measure
from vlseg.deploy.errors import EngineError, UserError
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

KEYS = {
    "bundle",
    "engine",
    "precision",
    "batch",
    "stage",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "mean_ms",
    "cv",
    "images_per_s",
    "peak_rss_mib",
}


def test_the_report(toy_bundle):
    seen = []
    report = bench(
        [toy_bundle], repeats=3, warmup=1, batches=(1, 2), threads=1, progress=lambda *step: seen.append(step)
    )
    assert set(report) == {"device", "rows", "ratios"}
    assert all(set(row) == KEYS for row in report["rows"])
    assert [(row["stage"], row["batch"]) for row in report["rows"]] == [
        *[(stage, batch) for batch in (1, 2) for stage in ("image", "text", "decoder")],
        ("first_prompt", 1),
        ("second_prompt_new", 1),
        ("second_prompt_known", 1),
        ("end_to_end", 1),
    ]
    assert seen == [(i, 10) for i in range(1, 11)]
    for row in report["rows"]:
        assert row["bundle"] == "toy" and row["engine"] == "onnxruntime" and row["precision"] == "fp32"
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] and row["peak_rss_mib"] > 10
        assert row["images_per_s"] == pytest.approx(row["batch"] * 1000 / row["mean_ms"])
    assert report["ratios"] == [] and report["device"]["threads"] == 1 and report["device"]["cpu"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_fixed_prompts_have_no_text_stage(toy_bundle, fixed_bundle):
    report = bench([toy_bundle, fixed_bundle], repeats=3, warmup=0)
    stages = [row["stage"] for row in report["rows"] if row["bundle"] == "fixed"]
    assert stages == ["image", "decoder", "first_prompt", "second_prompt_known", "end_to_end"]
    assert [ratio["stage"] for ratio in report["ratios"]] == stages
    assert all(ratio["bundle"] == "fixed" and ratio["against"] == "toy" for ratio in report["ratios"])


class Clock:
    """A clock that only slow engines move, so that no test hangs on how busy the machine is."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "perf_counter", made)
    return made


class Slow:
    """An engine that takes `seconds` of the clock."""

    def __init__(self, inner, clock, seconds):
        self.inner, self.name, self.clock, self.seconds = inner, inner.name, clock, seconds

    def run(self, inputs):
        self.clock.now += self.seconds
        return self.inner.run(inputs)

    def close(self):
        self.inner.close()


def slowed(bundle, clock, **seconds):
    segmenter = Segmenter.open(bundle, threads=1)
    for part, longer in seconds.items():
        segmenter._engines[part] = Slow(segmenter._engines[part], clock, longer)
    return segmenter


def test_ratios_see_a_known_difference(toy_bundle, tmp_path, clock):
    subjects = [
        Subject("fast", slowed(toy_bundle, clock, image=0.002, decoder=0.001)),
        Subject("slow", slowed(toy_bundle, clock, image=0.004, decoder=0.001)),
    ]
    report = measure(subjects, Plan(repeats=9, warmup=1), draw_image(tmp_path / "x.png"))
    ratios = {ratio["stage"]: ratio for ratio in report["ratios"]}
    assert ratios["image"]["median"] == pytest.approx(2, rel=1e-2) and ratios["image"]["pairs"] == 9
    assert ratios["first_prompt"]["median"] == pytest.approx(5 / 3, rel=1e-2)
    for stage in ("text", "decoder", "second_prompt_new", "second_prompt_known"):
        assert ratios[stage]["median"] == pytest.approx(1, rel=1e-2)
    assert ratios["image"]["low"] <= ratios["image"]["median"] <= ratios["image"]["high"]
    assert (ratios["image"]["bundle"], ratios["image"]["against"]) == ("slow", "fast")


def test_stages_hold_what_they_say(toy_bundle, tmp_path, clock):
    subject = Subject("slow", slowed(toy_bundle, clock, image=0.1, text=0.01, decoder=0.001))
    report = measure([subject], Plan(repeats=3, warmup=1), draw_image(tmp_path / "x.png"))
    assert {row["stage"]: row["p50_ms"] for row in report["rows"]} == pytest.approx(
        {
            "image": 100,
            "text": 10,
            "decoder": 1,
            "first_prompt": 111,
            "second_prompt_new": 11,
            "second_prompt_known": 1,
            "end_to_end": 111,
        },
        rel=2e-3,
    )


def test_rounds_are_interleaved_in_changing_order():
    log = []
    tasks = [Task(lambda: None, lambda i=i: log.append(i)) for i in range(3)]
    times = module._interleave(tasks, Plan(repeats=20, warmup=2))
    assert [len(series) for series in times] == [20, 20, 20]
    rounds = [tuple(log[i : i + 3]) for i in range(0, 66, 3)]
    assert all(sorted(one) == [0, 1, 2] for one in rounds) and len(set(rounds)) > 3


def test_preparation_is_not_timed(clock):
    def prepare():
        clock.now += 1

    (times,) = module._interleave([Task(prepare, lambda: None)], Plan(repeats=3, warmup=0))
    assert max(times) < 1


def test_a_given_image_and_prompt(toy_bundle, tmp_path):
    picture = draw_image(tmp_path / "own.png", 64, 48)
    report = bench([toy_bundle], ["onnxruntime", "auto"], repeats=1, warmup=0, image=picture, prompt="red")
    assert len(report["rows"]) == 7


def test_the_drawn_image_is_always_the_same(tmp_path):
    one, two = (read_image(draw_image(tmp_path / f"{i}.png")) for i in range(2))
    assert np.array_equal(one, two) and one.shape == (384, 512, 3) and one.std() > 10


def test_bad_input(toy_bundle, tmp_path):
    with pytest.raises(UserError, match="nothing to bench"):
        bench([])
    with pytest.raises(EngineError, match="no engine 'nope'; known"):
        bench([toy_bundle], ["nope"])
    for options in ({"repeats": 0}, {"batches": (1, 0)}, {"warmup": -1}):
        with pytest.raises(UserError, match="below 1"):
            bench([toy_bundle], **options)
    with pytest.raises(UserError, match="no image file"):
        bench([toy_bundle], image=tmp_path / "none.png")
    with pytest.raises(UserError, match="not a bundle"):
        bench([tmp_path])


def test_equal_names_are_kept_apart_by_their_folder(toy_bundle, tmp_path):
    shutil.copytree(toy_bundle, tmp_path / "other" / "toy")
    report = bench([toy_bundle, tmp_path / "other" / "toy"], repeats=1, warmup=0)
    names = {row["bundle"] for row in report["rows"]}
    assert len(names) == 2
