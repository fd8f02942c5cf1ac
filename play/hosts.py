"""Who is served: browsers that ask for this machine by a name of its own, and only the player's own page.

A web site can have its name point at this machine (DNS rebinding), or open a WebSocket to it from its own page. What
proxies add to a request, such as X-Forwarded-Host, anybody can write, so nothing is made of it: who is behind a
proxy names it with --allow-host.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import NamedTuple

from experiment.problem import UsageProblem, one_line

PORTS = {"http": 80, "https": 443}  # which a browser leaves out
ADDRESS = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]{0,252})(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII)
SHOWN = 200  # characters of what a request says that are shown
ALLOW = "if that is yours, as behind a proxy, start the player with --allow-host"
TOLD = 100  # different lines that are told in the terminal


class Address(NamedTuple):
    """What a Host header says, and an origin after its scheme."""

    name: str  # in lower case, without a last dot; an IPv6 address without brackets
    port: int | None


class Hosts:
    """The names that this machine is known by. host: what the server listens on; allowed: of a proxy, or any other."""

    def __init__(self, host: str, allowed: Sequence[str] = ()):
        self.allowed = {name_of(text) for text in allowed}
        self.names = {"localhost", host.lower().removesuffix("."), *self.allowed}
        if not is_local(host):
            name = socket.gethostname().lower()
            self.names |= {name, socket.getfqdn().lower(), f"{name.split('.')[0]}.local"}

    def refusal(self, host: str, origin: str | None) -> str | None:
        """Why a request with these headers is refused, in one line, with what to do; None where it is not.

        An origin is sent by browsers, with every WebSocket: the address of the page that asks.
        """
        here, asked = parse_address(host), one_line(host, SHOWN) or "(empty)"
        if origin is not None:
            scheme, _, rest = origin.lower().partition("://")
            there = parse_address(rest) if scheme in PORTS else None
            if there is None:
                return f"the origin {one_line(origin, SHOWN) or '(empty)'} is not the address of a page"
            if there.name in self.allowed:
                return None
            default = PORTS[scheme]
            if here is None or (here.name, here.port or default) != (there.name, there.port or default):
                return f"a page of {one_line(origin, SHOWN)} asked for {asked}; {ALLOW} {there.name}"
            # This server speaks no HTTPS and browsers leave the usual port out: a proxy passed this on, and a name
            # that merely points here has none.
            if scheme == "https" or here.port == default:
                return None
        if here is None:
            return f"the host {asked} is not a name"
        if here.name in self.names or is_address(here.name):  # no address can be pointed elsewhere: any may be its own
            return None
        return f"{here.name} is not a name of this machine; {ALLOW} {here.name}"


class Terminal:
    """Tells each line once, and no more than TOLD: whoever is refused may try for ever."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def tell(self, line: str) -> None:
        if line in self.told or len(self.told) > TOLD:
            return
        self.told.add(line)
        with contextlib.suppress(OSError, ValueError):  # nobody reads it: the players go on
            print(f"play: {line if len(self.told) <= TOLD else 'no more of this is told'}", flush=True)


def parse_address(text: str) -> Address | None:
    """NAME, NAME:PORT, [IPv6] or [IPv6]:PORT; None where it is malformed."""
    found = ADDRESS.fullmatch(text)
    if not found or int(found[2] or 0) >= 2**16:
        return None
    name = found[1].lower().removesuffix(".")
    if name.startswith("["):
        name = name[1:-1]
        if not is_address(name):
            return None
        name = str(ipaddress.ip_address(name))
    return Address(name, int(found[2]) if found[2] else None)


def name_of(text: str) -> str:
    """The value of --allow-host. Raises UsageProblem if it is no name."""
    address = parse_address(f"[{text}]" if ":" in text and is_address(text) else text)
    if address is None or address.port is not None:
        raise UsageProblem(
            f"--allow-host {one_line(text, SHOWN)}: expected a host's name alone, such as play.example.org"
        )
    return address.name


def is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
