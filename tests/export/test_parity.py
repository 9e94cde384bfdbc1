from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.drawn import SMALL, Case, draw_cases, with_prompts
from vlseg.deploy.errors import UserError
from vlseg.deploy.files import write_json
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.parity import LIMITS, certify, refusal
from vlseg.export.parity import cases_from, torch_segmenter

MANIFEST = Manifest("nano", "clipseg/dense-vlc", "nano", 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


cases_ = cache(draw_cases)


class Answers:
    """A segmenter that answers with a given logit map, plus `shift` inside a corner."""

    def __init__(self, shift=0.0, side=1, level=0.0):
        self.manifest, self.shift, self.side, self.level = MANIFEST, shift, side, level

    def logits(self, image, prompt):
        y, x = np.mgrid[0:64, 0:64].astype(np.float32) / 32 - 1
        logits = 8 * (0.5 - x**2 - y**2) + self.level
        logits[: self.side, : self.side] += self.shift
        return logits.astype(np.float32)


def test_drawn_cases_are_half_small_and_always_the_same():
    cases, again = draw_cases(), draw_cases()
    shares = [case.share for case in cases]
    assert len(cases) == 16 and sum(share < SMALL for share in shares) == 8 and min(shares) > 0.001
    assert all(np.array_equal(a.image, b.image) and a.prompt == b.prompt for a, b in zip(cases, again, strict=True))
    assert len({case.image.shape for case in cases}) > 1 and all(case.image.dtype == np.uint8 for case in cases)


def test_equal_segmenters_pass():
    certificate = certify(Answers(), Answers(), cases_())
    assert certificate["passed"] and certificate["dice_min"] == 1 and certificate["nonempty"] == 16


def test_a_flipped_corner_fails_by_its_masks():
    certificate = certify(Answers(), Answers(shift=20, side=4), cases_())
    assert not certificate["passed"] and certificate["judged_by"] == "masks"
    assert certificate["flipped_share"] == pytest.approx(16 / 4096, rel=0.5)
    assert "nothing was written" in refusal(certificate, "fp32")


def test_a_shift_that_flips_nothing_passes_by_masks_and_fails_by_logits():
    cases = cases_()
    assert certify(Answers(), Answers(shift=0.1), cases)["passed"]
    certificate = certify(Answers(), Answers(shift=0.1), cases, trained=False)
    assert certificate["judged_by"] == "logits" and not certificate["passed"]
    assert "spread" in refusal(certificate, "fp32")


def test_masks_that_are_all_empty_prove_nothing():
    certificate = certify(Answers(level=-99), Answers(level=-99, shift=1), cases_())
    assert certificate["dice_min"] == 1 and certificate["judged_by"] == "logits" and not certificate["passed"]


def test_too_few_or_too_large_cases_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        certify(Answers(), Answers(), cases_()[:4])
    with pytest.raises(ValueError, match="half of them"):
        certify(Answers(), Answers(), [replace(case, share=0.5) for case in cases_()])


def test_limits_are_the_promised_ones():
    assert (LIMITS["fp32"].dice, LIMITS["fp32"].flipped) == (0.999, 1e-4)
    assert (LIMITS["fp16"].dice, LIMITS["fp16"].flipped) == (0.99, 2e-3)


def test_fixed_prompts_are_asked_in_turn():
    cases = with_prompts(draw_cases(3), ["a", "b"])
    assert [case.prompt for case in cases] == ["a", "b", "a"]
    assert with_prompts(cases, []) == cases


def folder(path, shares):
    for name in ("images", "masks", "anns"):
        (path / name).mkdir(parents=True)
    entries = []
    for i, share in enumerate(shares):
        mask = np.zeros((50, 40), np.uint8)
        mask.flat[: int(share * mask.size)] = 255
        Image.fromarray(np.full((50, 40, 3), i, np.uint8)).save(path / "images" / f"{i}.png")
        Image.fromarray(mask).save(path / "masks" / f"{i}.png")
        entries.append({"img_name": f"{i}.png", "mask_name": f"{i}.png", "prompts": {"p0": "", "p1": "a polyp"}})
    write_json(path / "anns" / "test.json", entries)
    return path


def test_real_images_take_part_and_drawn_ones_fill_up(tmp_path):
    cases = cases_from(folder(tmp_path / "data", [0.005] * 3 + [0.3] * 20))
    assert len(cases) == 16 and sum(case.share < SMALL for case in cases) == 8
    assert sum(case.prompt == "a polyp" for case in cases) == 3 + 8


def test_a_wrong_prompt_key_is_told(tmp_path):
    with pytest.raises(UserError, match="p7"):
        cases_from(folder(tmp_path / "data", [0.3] * 4), prompt="p7")


def test_torch_is_its_own_equal(nano):
    one, other = torch_segmenter(nano, MANIFEST), torch_segmenter(nano, MANIFEST)
    cases = [Case(np.full((32, 32, 3), i * 10, np.uint8), "a polyp", 0.001) for i in range(16)]
    assert certify(one, other, cases)["max_abs_logit"] == 0
