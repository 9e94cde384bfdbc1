"""Series put into rows: what `vlseg bench` reports of each stage, and of pairs of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ..facts import peak_rss_mib
from ..stats import paired_ratio, summary
from .plan import Subject
from .rounds import Series
from .tasks import END_TO_END, ENGINE, Stage

Row = dict[str, Any]
SUSTAINED = "sustained"
SPLITS = ("h2d", "enqueue", "compute", "d2h")
AllSeries = Mapping[tuple[int, Stage], Series]
"""Series by the place of their subject and by stage."""


@dataclass(frozen=True)
class Known:
    """What is known of a subject beside its times, all of it optional.

    Attributes:
        folder: the bundle's, None for a run in torch.
        cold: what a fresh process measured, see `cold.cold`.
        parity: the certificate.
        accuracy: dice and iou on real images.
    """

    folder: Path | None = None
    cold: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)


def row_of(subject: Subject, known: Known, stage: Stage, series: Series) -> Row:
    """Return one row; what is not known is None."""
    figures, batch = summary(series.times), stage[1]
    rss, gpu = (known.cold.get(name, {}).get(str(batch)) for name in ("rss_mib", "gpu_mib"))
    return {
        "bundle": subject.bundle,
        "adapter": subject.adapter or None,
        "engine": subject.segmenter.engine,
        "precision": subject.segmenter.manifest.precision,
        "batch": batch,
        "stage": stage[0],
        **figures,
        "images_per_s": batch * 1000 / figures["mean_ms"],
        "peak_rss_mib": peak_rss_mib() if rss is None else rss,
        "peak_gpu_mib": gpu,
        "load_ms": known.cold.get("load_ms"),
        "first_mask_ms": known.cold.get("first_ms"),
        **{f"{name}_ms": None for name in SPLITS},
        "watts": None,
        "mj_per_image": None,
        "dice": known.accuracy.get("dice"),
        "iou": known.accuracy.get("iou"),
        "parity_dice_min": known.parity.get("dice_min"),
        "parity_flipped": known.parity.get("flipped_share"),
        "warmup": len(series.warming),
        "steady": series.steady,
    }


def sustained_rows(report: dict[str, Any]) -> list[Row]:
    """Return a row of stage `sustained` for each load of a report, beside that of `end_to_end`, for a CSV.

    All runs count; `steady` is False where something was flagged, memory is the highest that the load saw.
    """
    short = {_key(row): row for row in report["rows"] if (row["stage"], row["batch"]) == (END_TO_END, 1)}
    return [{**short[_key(load)], **_sustained(load)} for load in report["sustained"]]


def _sustained(load: dict[str, Any]) -> Row:
    watts = [bucket["watts"] for bucket in load["buckets"] if bucket["watts"] is not None]
    power, per_second = (mean(watts) if watts else None), 1000 / load["mean_ms"]
    return {
        "stage": SUSTAINED,
        **{name: load[name] for name in ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "cv")},
        "images_per_s": per_second,
        "peak_rss_mib": max((bucket["rss_mib"] for bucket in load["buckets"] if bucket["rss_mib"]), default=None),
        "watts": power,
        "mj_per_image": None if power is None else 1000 * power / per_second,
        "warmup": 0,
        "steady": not load["flags"],
    }


def _key(row: Row) -> tuple[Any, ...]:
    return row["bundle"], row["adapter"], row["engine"]


def ratios(subjects: Sequence[Subject], series: AllSeries) -> list[Row]:
    """Return the ratio of each later subject to the first, stage by stage."""
    return [
        {
            **whose(subjects[i]),
            "against": subjects[0].bundle,
            "against_engine": subjects[0].segmenter.engine,
            "batch": stage[1],
            "stage": stage[0],
            **paired_ratio(one.times, series[0, stage].times)._asdict(),
        }
        for (i, stage), one in series.items()
        if i and (0, stage) in series
    ]


def overheads(subjects: Sequence[Subject], series: AllSeries) -> list[Row]:
    """Return what decoding, resizing and the mask cost: file to mask over the engine alone, batch 1, round by round."""
    return [
        {**whose(subject), **paired_ratio(series[i, (END_TO_END, 1)].times, series[i, (ENGINE, 1)].times)._asdict()}
        for i, subject in enumerate(subjects)
        if (i, (ENGINE, 1)) in series
    ]


def skip(subject: Subject, batch: int, why: str) -> Row:
    """Return why a batch was not measured."""
    return {**whose(subject), "batch": batch, "why": why}


def whose(subject: Subject) -> Row:
    """Return by which names a subject goes."""
    return {"bundle": subject.bundle, "engine": subject.segmenter.engine}
