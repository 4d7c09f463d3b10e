"""Where a web server may send us: no further than to itself, unless the user named the host.

An address that somebody names is asked, and its server may answer that the file lies elsewhere.
Elsewhere can be this machine, the network behind a firewall, or the service that hands out a
cloud machine's keys: whoever runs the server would ask in our name. So another host is an error
that names it, and a flag allows it; addresses that are not public are refused to who comes from
a public one all the same.
"""

import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from normcheck.errors import UnreadableError
from normcheck.wording import printable

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+")
"""What may stand in a command that a user copies."""
_NAME_IT = "name the address that it leads to, if what is there need not be secret on the way"


@cache
def session_maker(allowed: tuple[str, ...]) -> Callable[..., Awaitable[aiohttp.ClientSession]]:
    """What makes sessions for fsspec that follow redirects to the same host and to these.

    Args:
        allowed: Hosts; ``*.example.com`` stands for all below example.com.
    """

    async def made(**settings: Any) -> aiohttp.ClientSession:
        guard = _Guard(allowed, aiohttp.DefaultResolver())
        hops = aiohttp.TraceConfig()
        hops.on_request_redirect.append(guard.look)
        settings["trace_configs"] = [*(settings.get("trace_configs") or ()), hops]
        # Who configures a connector of their own has decided how hosts are found.
        settings.setdefault("connector", aiohttp.TCPConnector(resolver=guard))
        return aiohttp.ClientSession(**settings)

    return made


class _Guard(AbstractResolver):
    """Looks at each redirect before it is followed, and at the addresses behind its host."""

    def __init__(self, allowed: Sequence[str], resolver: AbstractResolver) -> None:
        self._allowed = tuple(host.lower() for host in allowed)
        self._resolver = resolver
        self._public: dict[str, bool] = {}
        """Whether a host that was asked has a public address."""
        self._led_to: set[str] = set()
        """Hosts that a public one led to."""

    async def look(self, _session: Any, _context: Any, hop: Any) -> None:
        """Refuse a redirect that may not be followed.

        Raises:
            UnreadableError: It leads to another host, or on an open way.
        """
        headers, here = hop.response.headers, hop.url
        location = headers.get("Location") or headers.get("URI") or ""
        try:
            there = here.join(type(here)(location))
            port, host = there.port, there.host or ""
        except ValueError:
            raise _refused(here.host, "what is no address", "check the address") from None
        if there.scheme not in _PORTS or (here.scheme == "https" and there.scheme != "https"):
            raise _refused(here.host, f"a {there.scheme or 'nameless'}:// address", _NAME_IT)
        usual = (here.port, port) == (_PORTS[here.scheme], _PORTS[there.scheme])
        if host == here.host and (port == here.port or usual):
            return
        if not self._allows(host):
            named = host if _HOST.fullmatch(host) else ""
            hint = f"if that is right, add --allow-redirects-to {shlex.quote(named)}"
            raise _refused(here.host, _with_port(there), hint if named else "check the address")
        if self._comes_from_public(here.host):
            if not _is_public(host):
                raise _not_public(host)
            self._led_to.add(host)

    def _allows(self, host: str) -> bool:
        return any(
            host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
            for entry in self._allowed
        )

    def _comes_from_public(self, host: str) -> bool:
        try:
            return _public(ip_address(host))
        except ValueError:
            # Of what a proxy asked nothing is known here: the strict answer.
            return self._public.get(host, True)

    async def resolve(self, host: str, port: int = 0, *words: Any, **more: Any) -> Any:
        """The addresses of a host, of one that was led to only where all are public.

        Raises:
            UnreadableError: One is not.
        """
        found = await self._resolver.resolve(host, port, *words, **more)
        public = all(_is_public(entry["host"]) for entry in found)
        self._public[host] = public
        if host in self._led_to and not public:
            raise _not_public(host)
        return found

    async def close(self) -> None:
        """As the resolver behind this one."""
        await self._resolver.close()


def _with_port(there: Any) -> str:
    usual = there.port == _PORTS[there.scheme]
    return there.host if usual else f"{there.host}:{there.port}"


def _is_public(host: str) -> bool:
    """Whether a host is a name, or an address that anybody can reach."""
    try:
        return _public(ip_address(host.partition("%")[0]))
    except ValueError:
        return True


def _public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        # An IPv4 address in the clothes of another: mapped, by 6to4, by NAT64.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) >> 32 == int(IPv6Address("64:ff9b::")) >> 32:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _public(inner)
    return address.is_global and not address.is_multicast


def _refused(here: str, there: str, hint: str) -> UnreadableError:
    return UnreadableError(f"{printable(here)} redirects to {printable(there)}", hint)


def _not_public(host: str) -> UnreadableError:
    return UnreadableError(
        f"a public server redirects to {printable(host)}, which is not on the public network",
        "name that address itself, if it is meant",
    )
