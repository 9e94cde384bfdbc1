"""What the tabs have in common: the bundles, one user's session, and the column with the picture and its examples."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from .examples import Example
from .models import Models
from .picture import picture_input
from .session import Session, looking_at, see
from .spoken import spoken

HEIGHT = 380
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of events that answer at once and are no part of the page's API."""


@dataclass(frozen=True)
class Shared:
    """What every tab is built from."""

    models: Models
    kept: gr.State
    bundle: gr.Dropdown
    examples: list[Example]


@dataclass(frozen=True)
class Column:
    """A tab's picture, what opens one that browsers cannot show, and the row of examples beneath."""

    image: gr.Image
    other: gr.UploadButton
    slices: gr.Slider
    examples: gr.Dataset


def picture_column(shared: Shared, name: str, between: Callable[[], Any] | None = None) -> tuple[Column, Any]:
    """Lay out the picture, what `between` lays out, and the examples; return the column and what `between` returned."""
    start = shared.examples[0].file if shared.examples else None
    image = picture_input(value=start, elem_id=f"{name}-picture", elem_classes="asked", label="Picture", height=HEIGHT)
    slices = gr.Slider(0, 1, 0, step=1, label="Slice or frame", visible=False, elem_id=f"{name}-slices")
    made = between() if between else None
    # the input itself as the component: gradio then keeps these files when it removes uploads
    row = gr.Dataset(
        label="Examples",
        components=[image],
        samples=[[example.file] for example in shared.examples],
        type="index",
        layout="gallery",
        elem_id=f"{name}-examples",
    )
    other = gr.UploadButton("Open DICOM, NIfTI or TIFF", size="sm", elem_id=f"{name}-other", elem_classes="other")
    return Column(image, other, slices, row), made


def follow(shared: Shared, tab: gr.Tab, column: Column, *blank: Component) -> None:
    """Show the session's picture when the tab opens; read a new one when it comes, and empty the results in `blank`."""
    tab.select(_shown, [shared.kept, column.image], column.image, **QUIET)
    nothing = [None] * len(blank)
    column.image.input(
        spoken(lambda kept, file: (look(kept, file), gr.update(visible=False), *nothing)),
        [shared.kept, column.image],
        [shared.kept, column.slices, *blank],
        concurrency_limit=None,
        **QUIET,
    )
    column.other.upload(
        spoken(lambda file: (*_opened(file, None), *nothing)),
        column.other,
        [shared.kept, column.image, column.slices, *blank],
        api_visibility="private",
    )
    column.slices.release(
        spoken(lambda kept, index: (*_opened(str(kept.seen.picture.source), int(index)), *nothing)),
        [shared.kept, column.slices],
        [shared.kept, column.image, column.slices, *blank],
        **QUIET,
    )


def look(kept: Session, file: str | None) -> Session:
    """Return the session with a picture; without one, an empty session."""
    return looking_at(kept, file)[0] if file else Session()


def _opened(source: str, index: int | None) -> tuple[Session, str, gr.Slider]:
    """Read a picture that browsers cannot show; return the session, what is shown of it, and the choice of a slice."""
    seen = see(source, index)
    for note in seen.picture.notes:
        gr.Info(escape(note, quote=False))
    return Session(seen), seen.shown, gr.Slider(0, max(1, seen.count - 1), seen.picture.index, visible=seen.count > 1)


def _shown(kept: Session, file: str | None) -> str | None:
    # the file itself rather than gradio's "no change", which would build the input anew, as gradio's own
    return kept.shown or file
