"""Are these the tensors of this architecture?"""

from collections.abc import Mapping

from torch import Tensor

from ...deploy.errors import UserError

SHOWN = 3
FILLED = "num_batches_tracked"
"""A count that batch norms of today keep and those of old checkpoints lack; torch sets it."""


def check_names(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, optional: tuple[str, ...] = ()
) -> None:
    """Refuse tensors of other names or shapes than expected; UserError lists the first ones.

    Names that begin with one of `optional` may be absent, and so may the counts of batch norms.
    """
    shapes, wanted = ({name: tuple(t.shape) for name, t in side.items()} for side in (found, expected))
    wrong = [
        f"{name} is {shapes.get(name, 'absent')}, expected {wanted.get(name, 'no such tensor')}"
        for name in sorted(shapes.keys() | wanted.keys())
        if shapes.get(name) != wanted.get(name)
        and not (name not in shapes and (name.startswith(optional) or name.endswith(FILLED)))
    ]
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{source} is of another architecture: {'; '.join(wrong[:SHOWN])}{more}")
