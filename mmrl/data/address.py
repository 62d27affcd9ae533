"""Addresses of pictures and clips on the web: which may be asked, and which machines they may lead to.

A manifest comes from somebody else; the machine that trains stands in a network where other machines trust it. An
address in the one must not reach into the other (server-side request forgery). So an address is asked only where its
host is on the user's list, and only if every machine that its name means is a public one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mmrl.errors import ConfigError

PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"^(\*|(\*\.)?[A-Za-z0-9._-]+)(:[0-9]{1,5})?$")  # an entry of the user's list

_WEB = re.compile(r"^https?://", re.IGNORECASE)
_BAD = re.compile(r"[\x00-\x20\x7f\\]")  # would be read in one way here and in another there
_NAME = re.compile(r"^[A-Za-z0-9._:-]+$")

# What `ipaddress` calls global and is not an ordinary host of the internet. IANA special-purpose registries, RFC 6890.
_SPECIAL = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments; Oracle's metadata service
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's wire server: metadata behind a public number
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is given to ordinary hosts, but for …
_SPECIAL_6 = (
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.IPv6Network("2002::/16"),  # 6to4: an IPv4 address inside
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address inside, which the network translates to


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A web address, taken apart."""

    text: str  # as it was written, without a fragment
    scheme: str  # http or https
    host: str  # in ASCII and lower case; IPv6 without brackets
    port: int
    target: str  # path and query, percent-encoded

    @property
    def host_and_port(self) -> str:
        """As the `Host` header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def is_web_address(text: str) -> bool:
    """Whether it begins like one; `parse_address` says whether it is one."""
    return _WEB.match(text) is not None


def parse_address(text: str) -> Address:
    """Raises ValueError, with what is wrong, for all but plain http and https addresses."""
    if _BAD.search(text):
        raise ValueError("holds a space, a backslash or a control character; percent-encode it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no address ({error})") from None
    if parts.scheme not in PORTS:
        raise ValueError(f"has the scheme {parts.scheme!r}; only http and https are fetched")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password, which do not belong into a manifest")
    try:
        host = (parts.hostname or "").encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        raise ValueError("has no host name that can be looked up") from None
    if not host or not _NAME.match(host) or port == 0:
        raise ValueError("has no host name that can be looked up")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(
        text=text.partition("#")[0],
        scheme=parts.scheme,
        host=host,
        port=port or PORTS[parts.scheme],
        target="".join(c if c < "\x7f" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target),
    )


def check_hosts(hosts: Sequence[str]) -> None:
    """Raises ConfigError where an entry is none that `host_is_listed` could read."""
    for entry in hosts:
        if not HOST.match(entry):
            raise ConfigError(f"{entry!r} names no host; write images.org, *.images.org, images.org:8080, or * for all")


def host_is_listed(address: Address, hosts: Sequence[str]) -> bool:
    """Whether one of `hosts` means the address's host.

    "example.org": that host, ports 80 and 443; "example.org:8080": that port; "*.example.org": every host below it;
    "*": every host.
    """
    for entry in hosts:
        name, _, port = entry.lower().partition(":")
        if address.port not in ({int(port)} if port else set(PORTS.values())):
            continue
        if name in ("*", address.host) or (name.startswith("*.") and address.host.endswith(name[1:])):
            return True
    return False


def not_public(number: str) -> str | None:
    """What kind of machine an IP address means, if it is no public one; None where it is."""
    try:
        ip = ipaddress.ip_address(number)
    except ValueError:
        return "no IP address"
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is not None:
            return not_public(str(inner))
        if ip.scope_id is not None or ip not in _UNICAST or any(ip in special for special in _SPECIAL_6):
            return _kind(ip)
    elif any(ip in special for special in _SPECIAL):
        return "reserved"
    return None if ip.is_global and not (ip.is_multicast or ip.is_reserved) else _kind(ip)


def _kind(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    for kind in ("loopback", "link_local", "multicast", "unspecified", "reserved", "private"):
        if getattr(ip, f"is_{kind}"):
            return kind.replace("_", "-")
    return "reserved"
