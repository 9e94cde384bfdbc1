"""By what name a request may ask for the page: its `Host` must be this machine.

A page of another site can let its own name lead here (DNS rebinding), and is then no other site to the browser. What it
cannot forge is the name itself: it is none of this machine's, and no address in digits.
"""

import ipaddress
import platform
from urllib.parse import urlsplit


def own_names(host: str) -> frozenset[str]:
    """Return localhost, this machine's name (whole, its first word, and that with `.local`), and where it listens."""
    machine = platform.node().lower().rstrip(".")
    first = machine.partition(".")[0]
    return frozenset({"localhost", machine, first, f"{first}.local" if first else "", name_of(host)} - {""})


def name_of(host: str) -> str:
    """Return the name in a `Host` header without its port, in small letters; empty where there is none."""
    try:
        return (urlsplit(f"//{host.strip()}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_own(host: str, names: frozenset[str]) -> bool:
    """Is a `Host` header an address in digits, or one of these names?"""
    name = name_of(host)
    return name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
