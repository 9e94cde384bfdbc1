import pytest

from vlseg.deploy.bench.cold import cold, measure
from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.errors import UserError


def test_a_process_of_its_own_tells_load_first_mask_and_memory(toy_bundle, tmp_path):
    found = cold(toy_bundle, "onnxruntime", 1, draw_image(tmp_path / "x.png"), "red", [2, 1])
    assert set(found) == {"read_ms", "load_ms", "first_ms", "rss_mib", "gpu_mib"}
    # numpy and ONNX Runtime have to be imported there, which no process does in a few milliseconds
    assert found["load_ms"] > 10 and found["first_ms"] > 0
    assert list(found["rss_mib"]) == ["1", "2"] and 20 < found["rss_mib"]["1"] <= found["rss_mib"]["2"]


def test_what_fails_there_is_said_here(toy_bundle, tmp_path):
    with pytest.raises(UserError, match=r"did not start in a process of its own, which said: no image file"):
        cold(toy_bundle, "onnxruntime", 1, tmp_path / "none.png", "red", [1])


def test_a_batch_that_the_engine_lacks_has_no_memory(fixed_bundle, tmp_path, monkeypatch):
    from vlseg.deploy.errors import EngineError
    from vlseg.deploy.segmenter import Segmenter

    inner = Segmenter.inputs_of_parts

    def at_most_two(self, image, prompt, batch=1):
        if batch > 2:
            raise EngineError("no such batch")
        return inner(self, image, prompt, batch)

    monkeypatch.setattr(Segmenter, "inputs_of_parts", at_most_two)
    asked = {"folder": str(fixed_bundle), "engine": "onnxruntime", "threads": 1, "prompt": "red", "batches": [1, 2, 4]}
    asked["adapter"] = ""
    found = measure({**asked, "image": str(draw_image(tmp_path / "x.png"))})
    assert list(found["rss_mib"]) == ["1", "2"]


def test_it_starts_with_the_adapter_that_was_asked_for(adapters, tmp_path):
    image = draw_image(tmp_path / "x.png")
    assert cold(adapters, "onnxruntime", 1, image, "red", [1], "swapped")["first_ms"] > 0
    with pytest.raises(UserError, match=r"which said: .* has no adapter 'polyp'; it has plain, swapped"):
        cold(adapters, "onnxruntime", 1, image, "red", [1], "polyp")
