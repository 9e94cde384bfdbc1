"""How much a build may take: workspace and effort, sized to the device and what is free on it."""

from dataclasses import dataclass

from ..errors import UserError

MIB = 1 << 20
LEVELS = range(6)
# memory of the device in MiB, below which: workspace in MiB, optimisation level; an Orin Nano has 8 GB for both sides
_BY_MEMORY = ((9_000, 256, 2), (20_000, 512, 3), (70_000, 2_048, 3), (None, 4_096, 4))


@dataclass(frozen=True)
class Budget:
    """Bytes of scratch memory that a tactic may use, and TensorRT's optimisation level 0 to 5."""

    workspace: int
    level: int


def budget(memory: int, free: int, workspace_mib: int | None = None, level: int | None = None) -> Budget:
    """Return what a device of `memory` bytes, `free` of them free, can afford; what is given stands.

    Raises:
        UserError: a level that does not exist, or a workspace that is not positive.
    """
    if level is not None and level not in LEVELS:
        raise UserError(f"--level {level} does not exist: choose 0 (fast build) to {LEVELS[-1]} (fast engine)")
    if workspace_mib is not None and workspace_mib < 1:
        raise UserError(f"--workspace {workspace_mib} is no memory: give MiB, for example 512")
    _, usual, effort = next(row for row in _BY_MEMORY if row[0] is None or memory < row[0] * MIB)
    # the kernel library and the weights need the other half
    space = min(usual * MIB, max(free // 2, 64 * MIB)) if workspace_mib is None else workspace_mib * MIB
    return Budget(space, effort if level is None else level)


def out_of_memory(what: str, free: int, used: Budget) -> str:
    """Return the sentence for a build that ran out of memory: how much was free, and what to lower."""
    lower = f"--workspace {max(used.workspace // MIB // 2, 64)}"
    more = f" and --level {used.level - 1}" if used.level else ""
    return (
        f"TensorRT ran out of memory building {what}: {free // MIB} MiB were free before, the workspace was "
        f"{used.workspace // MIB} MiB; close other programs, or build with {lower}{more} (on a Jetson, add swap)"
    )
