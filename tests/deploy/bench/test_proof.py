"""No speed is printed for what draws something else."""

from dataclasses import replace

import numpy as np
import pytest

from vlseg.deploy.bench import proof
from vlseg.deploy.bench.plan import Plan
from vlseg.deploy.bench.proof import check_certificate, prove
from vlseg.deploy.bench.run import Extras, bench
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter


class Shifted:
    """An engine beside ONNX Runtime whose logits are off by `shift`."""

    def __init__(self, inner, shift):
        self.inner, self.name, self.shift = inner, "other", shift

    def run(self, inputs):
        out = self.inner.run(inputs)
        return {name: array + self.shift if name == "logits" else array for name, array in out.items()}

    def close(self):
        self.inner.close()


def other(bundle, shift=0.0):
    segmenter = Segmenter.open(bundle, threads=1)
    segmenter._engines["decoder"] = Shifted(segmenter._engines["decoder"], np.float32(shift))
    segmenter.engine = "other"
    return segmenter


@pytest.mark.parametrize(("parity", "says"), [({}, "has no certificate of"), ({"passed": False}, "did not pass")])
def test_a_bundle_without_its_exports_proof_is_refused(toy_bundle, parity, says):
    replace(Manifest.load(toy_bundle), parity=parity).save(toy_bundle)
    with pytest.raises(UserError, match=f"{says} the parity of its export"):
        bench([toy_bundle], plan=Plan(repeats=1, warmup=0), extras=Extras(cold=False))


def test_a_certificate_must_say_yes_and_nothing_else(toy_bundle):
    manifest = Manifest.load(toy_bundle)
    check_certificate(toy_bundle, manifest)
    for passed in (1, "yes", None):
        with pytest.raises(UserError, match="parity"):
            check_certificate(toy_bundle, replace(manifest, parity={"passed": passed}))


def test_another_engine_must_draw_the_same(toy_bundle):
    with Segmenter.open(toy_bundle, threads=1) as one, other(toy_bundle) as two:
        certificates = prove(toy_bundle, [one, two], 1)
    assert certificates[0]["judged_by"] == "masks" and certificates[1]["flipped_share"] == 0
    assert certificates[1]["images"] == 16 and certificates[1]["nonempty"] > 0


def test_another_engine_that_does_not_is_refused_and_named(toy_bundle):
    with other(toy_bundle, shift=3) as wrong, pytest.raises(UserError, match=r"toy on other is not timed.*least Dice"):
        prove(toy_bundle, [wrong], 1)


def test_without_onnx_runtime_the_builders_word_is_taken(toy_bundle, monkeypatch):
    monkeypatch.setattr(proof.ort, "missing", lambda: "not here")
    with other(toy_bundle, shift=3) as engine:
        assert prove(toy_bundle, [engine]) == [Manifest.load(toy_bundle).parity]


def test_fixed_prompts_are_proved_on_their_own_words(fixed_bundle):
    with other(fixed_bundle) as engine:
        (certificate,) = prove(fixed_bundle, [engine], 1)
    assert certificate["passed"]
