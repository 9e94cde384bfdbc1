import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.annotations import Sample
from vlseg.deploy.bench import rounds
from vlseg.deploy.bench.plan import Plan, Subject
from vlseg.deploy.bench.run import Extras, bench, measure
from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.errors import EngineError, UserError
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

KEYS = {
    "bundle",
    "adapter",
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
    "peak_gpu_mib",
    "load_ms",
    "first_mask_ms",
    "h2d_ms",
    "enqueue_ms",
    "compute_ms",
    "d2h_ms",
    "watts",
    "mj_per_image",
    "dice",
    "iou",
    "parity_dice_min",
    "parity_flipped",
    "warmup",
    "steady",
}
WARM = Extras(cold=False)


def test_the_report(toy_bundle):
    seen = []
    plan = Plan(repeats=3, warmup=1, most=2, batches=(1, 2))
    report = bench([toy_bundle], plan=plan, threads=1, progress=lambda *step: seen.append(step))
    assert set(report) == {
        *("device", "rows", "ratios", "overheads", "skipped", "sustained", "profile", "trtexec"),
    }
    assert all(set(row) == KEYS for row in report["rows"])
    assert [(row["stage"], row["batch"]) for row in report["rows"]] == [
        *[(stage, 1) for stage in ("image", "text", "decoder", "engine")],
        ("first_prompt", 1),
        ("second_prompt_new", 1),
        ("second_prompt_known", 1),
        ("end_to_end", 1),
        *[(stage, 2) for stage in ("image", "text", "decoder", "engine")],
    ]
    assert seen == [(done, 6) for done in range(1, 7)]
    for row in report["rows"]:
        assert row["bundle"] == "toy" and row["engine"] == "onnxruntime" and row["precision"] == "fp32"
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] and row["peak_rss_mib"] > 10
        assert row["images_per_s"] == pytest.approx(row["batch"] * 1000 / row["mean_ms"])
        assert row["load_ms"] > 1 and row["first_mask_ms"] > 0 and row["parity_dice_min"] == 1 and row["warmup"] == 2
    assert report["ratios"] == [] and report["device"]["threads"] == 1 and report["device"]["cpu"]
    assert len(report["overheads"]) == 1 and report["overheads"][0]["pairs"] == 3
    assert len(report["trtexec"]) == 3
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_fixed_prompts_have_no_text_stage(toy_bundle, fixed_bundle):
    report = bench([toy_bundle, fixed_bundle], plan=Plan(repeats=3, warmup=0), extras=WARM)
    stages = [row["stage"] for row in report["rows"] if row["bundle"] == "fixed"]
    assert stages == ["image", "decoder", "engine", "first_prompt", "second_prompt_known", "end_to_end"]
    assert [ratio["stage"] for ratio in report["ratios"]] == stages
    assert all(ratio["bundle"] == "fixed" and ratio["against"] == "toy" for ratio in report["ratios"])


def test_ratios_are_to_the_subject_that_is_named(toy_bundle, fixed_bundle):
    plan = Plan(repeats=1, warmup=0)
    for name in ("fixed", "fixed:onnxruntime"):
        report = bench([toy_bundle, fixed_bundle], plan=plan, against=name, extras=WARM)
        assert {(one["bundle"], one["against"]) for one in report["ratios"]} == {("toy", "fixed")}
    with pytest.raises(UserError, match="'nobody' is not measured here; known: toy:onnxruntime, fixed:onnxruntime"):
        bench([toy_bundle, fixed_bundle], plan=plan, against="nobody", extras=WARM)


def test_accuracy_stands_in_the_same_row(toy_bundle, toy_data):
    from vlseg.deploy.annotations import read_samples
    from vlseg.deploy.evaluate import evaluate

    samples = read_samples(toy_data, "test", None)
    extras = Extras(cold=False, samples=samples, prompt_key="p1")
    report = bench([toy_bundle], plan=Plan(repeats=1, warmup=0), extras=extras)
    with Segmenter.open(toy_bundle) as segmenter:
        expected = evaluate(segmenter, samples, "p1", data="x", split="test", hd95=False)["mean"]
        assert {(row["dice"], row["iou"]) for row in report["rows"]} == {(expected["dice"], expected["iou"])}
        yardstick = bench([], plan=Plan(repeats=1, warmup=0), yardsticks=[Subject("own", segmenter)], extras=extras)
        assert {row["dice"] for row in yardstick["rows"]} == {expected["dice"]}


class OneAtATime:
    """An engine that was built for a batch of one."""

    def __init__(self, inner):
        self.inner, self.name = inner, inner.name

    def run(self, inputs):
        if len(next(iter(inputs.values()))) != 1:
            raise EngineError("this engine was built for batch 1")
        return self.inner.run(inputs)

    def close(self):
        self.inner.close()


def test_a_batch_that_an_engine_lacks_is_named_not_hidden(toy_bundle, tmp_path):
    segmenter = Segmenter.open(toy_bundle, threads=1)
    segmenter._engines["image"] = OneAtATime(segmenter._engines["image"])
    plan = Plan(repeats=1, warmup=0, batches=(1, 2))
    report = measure([Subject("toy", segmenter)], plan, draw_image(tmp_path / "x.png"))
    assert {row["batch"] for row in report["rows"]} == {1}
    (skipped,) = report["skipped"]
    assert skipped["batch"] == 2 and skipped["why"] == "this engine was built for batch 1"


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
    monkeypatch.setattr(rounds, "perf_counter", made)
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
            "engine": 111,
            "first_prompt": 111,
            "second_prompt_new": 11,
            "second_prompt_known": 1,
            "end_to_end": 111,
        },
        rel=2e-3,
    )


def test_a_given_image_and_prompt(toy_bundle, tmp_path):
    picture = draw_image(tmp_path / "own.png", 64, 48)
    plan = Plan(repeats=1, warmup=0, prompt="red")
    report = bench([toy_bundle], ["onnxruntime", "auto"], plan, image=picture, extras=WARM)
    assert len(report["rows"]) == 8


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
            bench([toy_bundle], plan=Plan(**options))
    with pytest.raises(UserError, match="no image file"):
        bench([toy_bundle], image=tmp_path / "none.png", extras=WARM)
    with pytest.raises(UserError, match="not a bundle"):
        bench([tmp_path])


def test_equal_names_are_kept_apart_by_their_folder(toy_bundle, tmp_path):
    shutil.copytree(toy_bundle, tmp_path / "other" / "toy")
    report = bench([toy_bundle, tmp_path / "other" / "toy"], plan=Plan(repeats=1, warmup=0), extras=WARM)
    names = {row["bundle"] for row in report["rows"]}
    assert len(names) == 2


def test_the_row_names_the_adapter_that_answered(adapters, fixed_bundle, colours, tmp_path, monkeypatch):
    """The toy's swapped adapter calls red what is green: the accuracy in the row is that of the adapter it names."""
    heard = []
    monkeypatch.setattr("vlseg.deploy.bench.run.cold", lambda *words: heard.append(words[-1]) or {})
    plan, found = Plan(repeats=1, warmup=0, prompt="red"), {}
    Image.fromarray(colours[1]["green"].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    Image.fromarray(colours[0]).save(tmp_path / "image.png")
    sample = Sample(tmp_path / "image.png", tmp_path / "mask.png", {"p1": "red"}, "one")
    for adapter in (None, "swapped"):
        report = bench([adapters, fixed_bundle], plan=plan, adapter=adapter, extras=Extras(samples=[sample]), threads=1)
        found |= {row["adapter"]: row["dice"] for row in report["rows"] if row["bundle"] == adapters.name}
        assert {row["adapter"] for row in report["rows"] if row["bundle"] == fixed_bundle.name} == {None}
    assert list(found) == ["plain", "swapped"] and found["plain"] < 0.1 and found["swapped"] > 0.85
    assert heard == ["plain", "", "swapped", ""]


def test_another_engine_is_held_against_the_same_adapter(adapters, monkeypatch):
    used = []
    inner = Segmenter.use
    monkeypatch.setattr(Segmenter, "use", lambda self, name: used.append(name) or inner(self, name))
    monkeypatch.setattr("vlseg.deploy.bench.proof.REFERENCE", "another")
    monkeypatch.setattr("vlseg.deploy.bench.proof.Segmenter", Renamed)
    bench([adapters], plan=Plan(repeats=1, warmup=0), adapter="swapped", extras=WARM, threads=1)
    assert used == ["swapped", "swapped"]


class Renamed(Segmenter):
    """ONNX Runtime, whatever it is called."""

    @classmethod
    def open(cls, bundle, engine="auto", threads=None):
        return super().open(bundle, "onnxruntime", threads)


def test_an_adapter_that_nothing_has_is_refused(adapters, fixed_bundle):
    with pytest.raises(UserError, match=r"no bundle here has several adapters: leave --adapter swapped out"):
        bench([fixed_bundle], adapter="swapped")
    with pytest.raises(UserError, match=r"has no adapter 'polyp'; it has plain, swapped"):
        bench([fixed_bundle, adapters], adapter="polyp", extras=WARM)
