"""What a program can ask of a running page: one endpoint, with examples that the tests run."""

from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from gradio.events import api
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ..deploy.errors import UserError
from ..deploy.outputs.area import measure_area
from ..deploy.pixels import to_mask
from .files import open_picture
from .guard import uploaded
from .models import Models
from .picture import to_png
from .spoken import spoken

NAME = "mask"
PYTHON = """\
from gradio_client import Client, handle_file

client = Client("{url}")
mask, facts = client.predict(handle_file("{picture}"), "one round polyp", api_name="/mask")
print(mask, facts["area_px"])
"""
CURL = """\
file=$(curl -s -F files=@{picture} {url}/gradio_api/upload | tr -d '[]"')
event=$(curl -s {url}/gradio_api/call/mask -H 'Content-Type: application/json' \\
  -d '{{"data": [{{"path": "'$file'", "meta": {{"_type": "gradio.FileData"}}}}, "one round polyp", null, null]}}' \\
  | cut -d '"' -f 4)
curl -sN {url}/gradio_api/call/mask/$event
"""


def build(models: Models) -> None:
    """Add the endpoint `/mask` to the page that is being built, and its examples."""

    def mask(
        picture: FileData, prompt: str, bundle: str | None = None, threshold: float | None = None
    ) -> tuple[FileData, dict[str, Any]]:
        """Return the mask as a PNG, and area and times; bundle and threshold default to the page's and the bundle's."""
        return answer(models, picture, prompt, bundle, threshold)

    api(spoken(mask), api_name=NAME, concurrency_id="model")
    with gr.Accordion("Ask from a program", open=False, elem_id="api"):
        gr.Markdown(f"Python\n```python\n{PYTHON}```\nShell\n```sh\n{CURL}```")


def answer(
    models: Models, picture: Any, prompt: str, bundle: str | None, threshold: float | None
) -> tuple[FileData, dict[str, Any]]:
    """Return the mask of an uploaded picture, and what is known of it.

    Raises:
        UserError: an empty prompt, an unknown bundle, a file that is no upload or cannot be read, or as `run`.
    """
    if not prompt.strip():
        raise UserError("the prompt is empty, expected a sentence that says what to find")
    name = bundle or models.names[0]
    seen, _ = open_picture(uploaded(picture))
    result = models.run(name, seen.pixels, prompt.strip())
    level = models.manifests[name].threshold if threshold is None else threshold
    mask = to_mask(result.probability, level)
    area = measure_area(mask, seen.spacing)
    file = save_bytes_to_cache(to_png(mask.astype(np.uint8) * 255), "mask.png", get_upload_folder())
    facts = {
        "bundle": name,
        "threshold": level,
        "area_px": area.pixels,
        "share": area.share,
        "area_mm2": area.mm2,
        "ms": round(result.timings.total, 2),
    }
    return FileData(path=file, orig_name="mask.png"), facts
