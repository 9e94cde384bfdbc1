"""What the tabs have in common: the bundles, one user's session, and the column with the picture and its examples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from .examples import Example
from .models import Models
from .picture import picture_input
from .session import Session, looking_at, see
from .spoken import spoken

HEIGHT = 380
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of events that answer at once and are no part of the page's API."""
Fill = tuple[Component, Callable[[Example], Any]]


@dataclass(frozen=True)
class Column:
    """A tab's picture, what opens one that browsers cannot show, and the row of examples beneath."""

    image: gr.Image
    other: gr.UploadButton
    slices: gr.Slider
    examples: gr.Dataset


@dataclass(frozen=True)
class Shared:
    """What every tab is built from.

    Attributes:
        models: the bundles.
        kept: one user's `Session`.
        bundle: the choice of a bundle.
        examples: pictures to try.
        columns: of the tabs that show the picture.
        results: what no longer holds when another picture comes.
        bound: inputs that belong to one picture, as its true mask does, and leave with it.
        fills: controls that an example sets, with what each gets of it; what is bound among them.
    """

    models: Models
    kept: gr.State
    bundle: gr.Dropdown
    examples: list[Example]
    columns: list[Column] = field(default_factory=list)
    results: list[Component] = field(default_factory=list)
    bound: list[Component] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)


def picture_column(shared: Shared, name: str, between: Callable[[], Any] | None = None) -> tuple[Column, Any]:
    """Lay out the picture, what `between` lays out, and the examples; return the column and what `between` returned."""
    start = shared.examples[0].file if shared.examples else None
    image = picture_input(value=start, elem_id=f"{name}-picture", label="Picture", height=HEIGHT)
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
    column = Column(image, other, slices, row)
    shared.columns.append(column)
    return column, made


def join(shared: Shared) -> dict[int, Dependency]:
    """Let every tab show the same picture: one that comes to a tab goes to the others, and old results go.

    Return what an example's click sets off, by the place of its column. To be called when all tabs are built.
    """
    images = [column.image for column in shared.columns]
    everywhere = [shared.kept, *images, *(column.slices for column in shared.columns), *shared.results, *shared.bound]
    for column in shared.columns:
        others = [image for image in images if image is not column.image]
        column.image.input(
            spoken(lambda kept, file: _looked(shared, kept, file)),
            [shared.kept, column.image],
            [shared.kept, *others, *everywhere[1 + len(images) :]],
            concurrency_limit=None,
            **QUIET,
        )
        column.other.upload(
            spoken(lambda file: _opened(shared, file, None)), column.other, everywhere, api_visibility="private"
        )
        column.slices.release(
            spoken(lambda kept, index: _opened(shared, str(kept.seen.picture.source), int(index))),
            [shared.kept, column.slices],
            everywhere,
            **QUIET,
        )
    filled = [*images, *(control for control, _ in shared.fills), *shared.results]
    return {
        place: column.examples.click(lambda index: _example(shared, index), column.examples, filled, **QUIET)
        for place, column in enumerate(shared.columns)
    }


def _looked(shared: Shared, kept: Session, file: str | None) -> list[Any]:
    """Read the picture that came to one tab; return the session, the picture for the others, and empty results."""
    seen = looking_at(kept, file)[0] if file else Session()
    hidden = [gr.update(visible=False)] * len(shared.columns)
    return [seen, *[file] * (len(shared.columns) - 1), *hidden, *_gone(shared)]


def _opened(shared: Shared, source: str, index: int | None) -> list[Any]:
    """Read a picture that browsers cannot show; return the session, what is shown of it, and the choice of a slice."""
    seen = see(source, index)
    for note in seen.picture.notes:
        gr.Info(escape(note, quote=False))
    slices = gr.update(minimum=0, maximum=max(1, seen.count - 1), value=seen.picture.index, visible=seen.count > 1)
    tabs = len(shared.columns)
    return [Session(seen), *[seen.shown] * tabs, *[slices] * tabs, *_gone(shared)]


def _example(shared: Shared, index: int) -> list[Any]:
    """Return an example's picture for every tab, and what it sets."""
    example = shared.examples[index]
    sets = [get(example) for _, get in shared.fills]
    return [*[example.file] * len(shared.columns), *sets, *[None] * len(shared.results)]


def _gone(shared: Shared) -> list[None]:
    return [None] * (len(shared.results) + len(shared.bound))
