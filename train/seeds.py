"""Seeds that are functions of what they are for, so that a resumed run draws what an uninterrupted one would."""

import hashlib


def derive(*parts: int | str) -> int:
    """Return a seed, 0 to 2**32 - 1, that depends on every part and on nothing else."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")
