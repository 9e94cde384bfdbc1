"""The command that people run most: segment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..deploy.errors import UserError
from .deploy import open_model
from .options import Adapter, EngineName, Json, Threads
from .speak import progress, say, show


def segment(
    bundle: Annotated[Path, typer.Argument(help="A bundle (or a run, where torch is installed).")],
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns, a video, or camera:0.")],
    prompt: Annotated[list[str], typer.Option(help="What to find, in words; repeat for a map of classes.")],
    out: Annotated[Path, typer.Option(help="File to write (.png, .json, .dcm, .nii.gz, .mp4), or a folder.")],
    form: Annotated[
        list[str] | None,
        typer.Option("--as", help="png, overlay, rle, dicom-seg or nifti; repeat for more. Default: by the file."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel counts, 0 to 1.")] = None,
    largest: Annotated[bool, typer.Option("--largest", help="Keep the largest component alone.")] = False,
    fill_holes: Annotated[bool, typer.Option("--fill-holes", help="Fill what a mask encloses.")] = False,
    tile: Annotated[int | None, typer.Option(help="Side of tiles in pixels, for pictures far too large.")] = None,
    window: Annotated[str | None, typer.Option(help="LOW,HIGH: gray values that become black and white.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How much of a video or a camera to watch.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what stands there.")] = False,
    adapter: Adapter = None,
    engine: EngineName = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write masks of what the prompt names, in pictures, DICOM, NIfTI or a video.

    A folder that was interrupted goes on when the command is given again. A file that cannot be read does not stop the
    rest: it is listed at the end, and the exit code is 1.

    Example: vlseg segment polyps.bundle image.jpg --prompt "small round polyp" --out mask.png
    """
    import warnings

    from PIL.Image import DecompressionBombWarning

    from ..deploy.clean import Clean
    from ..deploy.inputs.video import is_video
    from ..deploy.question import Question
    from ..deploy.window import parse_window

    # Pillow warns of a line of code at its guard; at twice that it refuses, which is said in words
    warnings.simplefilter("ignore", DecompressionBombWarning)
    limits, clean = parse_window(window) if window else None, Clean(largest, fill_holes)
    watched = [source for source in images if is_video(source)]
    question = Question(prompt, threshold, clean, tile, limits, None if watched else progress("tile"))
    _check_options(images, watched, form, seconds)
    with open_model(bundle, engine, threads, adapter) as segmenter:
        if watched:
            _watch(segmenter, watched[0], question, out, overwrite, seconds, as_json)
        else:
            _segment_all(segmenter, images, question, out, form or (), overwrite, as_json)


def _check_options(
    images: Sequence[str], watched: Sequence[str], form: Sequence[str] | None, seconds: float | None
) -> None:
    if watched and len(images) > 1:
        raise UserError(f"{watched[0]} is a video, which goes alone: expected one source, got {len(images)}")
    if watched and form:
        raise UserError(f"{watched[0]} is a video, which becomes an overlay video: leave out --as {form[0]}")
    if seconds is not None and not watched:
        raise UserError(f"--seconds {seconds:g} is for a video or a camera: leave it out for pictures")


def _segment_all(
    segmenter: Any,
    images: Sequence[str],
    question: Any,
    out: Path,
    form: Sequence[str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Answer about files; those that failed are listed at the end."""
    from ..deploy.masks import count_files, segment_files

    total, rows, failed = count_files(images, out, form), [], []
    try:
        answers = segment_files(segmenter, images, question, out, form, overwrite, progress("picture"))
        for number, done in enumerate(answers, 1):
            rows.append(_row(done))
            say(f"[{number}/{total}] {_sentence(done)}" if total > 1 else _sentence(done))
            failed += [done] if done.error else []
    except KeyboardInterrupt:
        said = f"interrupted after {len(rows)} of {total} files; give the command again to go on"
        raise KeyboardInterrupt(said) from None
    if as_json:
        show(rows, as_json, "")
    if failed:
        say(f"vlseg: {len(failed)} of {total} files failed:")
        for done in failed:
            say(f"  {done.error}")
        raise typer.Exit(1)


def _watch(
    segmenter: Any, source: str, question: Any, out: Path, overwrite: bool, seconds: float | None, as_json: bool
) -> None:
    from ..deploy.footage import segment_video

    tell = progress("frame")

    def follow(done: int, total: int) -> None:
        if total >= done:
            tell(done, total)

    footage = segment_video(segmenter, source, question, out, overwrite=overwrite, seconds=seconds, progress=follow)
    say(f"{footage.out}: {footage.frames} frames at {footage.rate:.1f} fps, {footage.share:.2%} of a frame in the mean")
    if footage.stated and footage.frames < footage.stated and seconds is None:
        say(f"{source} says it has {footage.stated} frames: it may have been cut off")
    if as_json:
        value = {"video": str(footage.out), "frames": footage.frames, "seconds": footage.seconds}
        show([value | {"fps": footage.rate, "share": footage.share}], as_json, "")


def _row(done: Any) -> dict[str, Any]:
    """Return what `--json` says of a file."""
    if done.error:
        return {"image": str(done.source), "error": done.error}
    files = [str(path) for path in done.files]
    row = {"image": str(done.source), "mask": files[0], "files": files, "share": done.share, "mm2": done.mm2}
    return row | {"areas": done.areas, "skipped": done.skipped}


def _sentence(done: Any) -> str:
    if done.error:
        return f"{done.source}: failed"
    area = "" if done.mm2 is None else f", {done.mm2:,.1f} mm2"
    notes = "".join(f" ({note})" for note in done.notes)
    before = " (done before)" if done.skipped else ""
    return f"{done.files[0]}: {done.share:.2%} of the image{area}{notes}{before}"


COMMANDS = (segment,)
