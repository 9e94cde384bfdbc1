"""What stands behind a figure: the protocol, said for one row. docs/benchmark.md is the same in general."""

from typing import Any

from .plan import Plan
from .rounds import TOLERANCE

STAGES = {
    "image": "the image part alone, from a normalised tensor in host memory to its outputs in host memory",
    "text": "the text part alone, from token numbers to its outputs, both in host memory",
    "decoder": "the decoder alone, from what the encoders made to logits, both in host memory",
    "engine": "the parts one after the other, tensors in host memory at every seam: no decoding, no resizing, no mask",
    "first_prompt": "a picture in memory, never seen, and a sentence, never seen, to a mask of the picture's size",
    "second_prompt_new": "a picture that was asked before, and a new sentence, to a mask of the picture's size",
    "second_prompt_known": "a picture and a sentence that both were asked before, to a mask of the picture's size",
    "end_to_end": "from the file on disk, decoded anew each time, and a sentence to a mask, nothing remembered",
}


def explain(row: dict[str, Any], report: dict[str, Any], plan: Plan) -> str:
    """Return the protocol of one row of a report in plain sentences."""
    return "\n".join(
        [
            f"{_who(row)} on {row['engine']}, {row['precision']}, {row['stage']}, batch {row['batch']}:",
            f"  what: {STAGES[row['stage']]}.",
            f"  where: {_where(report['device'])}.",
            f"  warm-up: {_warmup(row, plan)}.",
            f"  timed: {_timed(report, plan)}.",
            f"  figures: p50, p90 and p99 are percentiles of {plan.repeats} times, cv is their standard deviation over "
            "their mean, images per second is batch over mean.",
            f"  proof: {_proof(row)}.",
            f"  memory: {_memory(row)}.",
            f"  power: {_power(row)}.",
        ]
    )


def _who(row: dict[str, Any]) -> str:
    return f"{row['bundle']} with adapter {row['adapter']}" if row["adapter"] else row["bundle"]


def _where(device: dict[str, Any]) -> str:
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver'] or 'unknown'})" for gpu in device["gpus"]) or "no GPU"
    state = device["state"]
    clock = f"{state['cpu_mhz']:.0f} MHz" if state["cpu_mhz"] else "clock not told"
    mode = f", power mode {state['power_mode']}" if state["power_mode"] else ""
    governor = f"governor {state['governor']}" if state["governor"] else "governor not told"
    load = f", load {state['load']:.1f} before" if state["load"] is not None else ""
    return (
        f"{device['cpu']}, {device['cores']} cores, {device['threads'] or 'the engine chooses its'} threads, {clock}, "
        f"{governor}{load}; {gpus}{mode}"
    )


def _warmup(row: dict[str, Any], plan: Plan) -> str:
    if not plan.warmup:
        return "none, the first calls are in the figures"
    verdict = "steady" if row["steady"] else f"NOT steady after {row['warmup']} rounds, read it with care"
    return (
        f"{row['warmup']} rounds, until the medians of the last two windows of {plan.warmup} differ by less than "
        f"{TOLERANCE:.0%}: {verdict}"
    )


def _timed(report: dict[str, Any], plan: Plan) -> str:
    others = sorted({f"{row['bundle']} on {row['engine']}" for row in report["rows"]})
    beside = f"; {len(others)} subjects side by side: {', '.join(others)}" if len(others) > 1 else ""
    return (
        f"{plan.repeats} rounds, each running every stage of this batch once, in an order drawn anew{beside}; ratios "
        "are medians of pairs of one round with a bootstrap 95 % interval"
    )


def _proof(row: dict[str, Any]) -> str:
    if row["parity_dice_min"] is None:
        return "none needed, it is the model in torch itself"
    return (
        f"least Dice {row['parity_dice_min']:.4f} and {row['parity_flipped']:.3%} of the pixels flipped on drawn "
        "pictures, against ONNX Runtime's CPU provider, or for that one against torch when it was exported"
    )


def _memory(row: dict[str, Any]) -> str:
    if row["load_ms"] is None:
        return "the most that this process has held, everything measured here included"
    return (
        "the most that a process of its own has held after one call of this batch; there it loaded in "
        f"{row['load_ms']:.0f} ms and drew its first mask {row['first_mask_ms']:.0f} ms later"
    )


def _power(row: dict[str, Any]) -> str:
    if row["watts"] is None:
        return "not told by this device"
    return f"{row['watts']:.1f} W while this stage ran alone, without a pause, for at least two seconds"
