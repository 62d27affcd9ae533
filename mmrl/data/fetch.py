"""One address on the web → one file on this disk, within bounds, from a public machine only; or a reason why not.

* Only hosts on the user's list are asked, over http and https.
* The name is looked up once. Every IP address that it means must be public, and the connection goes to one of those
  that were checked, not to what the name means a moment later (DNS rebinding). TLS still checks the name.
* Every redirect is an address like the first one: listed, looked up, checked. https does not lead to http.
* One clock runs over the look-up, connections, redirects and the body: a server that trickles is cut off.
* Bodies are counted while they come; compressed ones are refused, because their size is not what was counted.
* What arrives is not opened here: it is decoded where files are (`images.py`, and `video.py` in a process of its own).

Nothing of the environment is followed: no proxies, cookies, user names or passwords. requests and httpx, which are
installed beside other libraries, look names up by themselves while they connect, so what they reach cannot be checked
before; `http.client` connects to what it is given.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urljoin

from mmrl.data.address import Address, host_is_listed, not_public, parse_address
from mmrl.data.images import BrokenMedia

Kind = Literal["image", "video"]
Resolve = Callable[[str, int], Sequence[str]]  # host name, port → IP addresses

# What can be wrong with an address: slug → what to do about it.
REASONS: Mapping[str, str] = {
    "address not allowed": "correct it, or add its host to data.urls.hosts (--host) if you trust it",
    "address not public": "machines of the own network are never asked: copy the file and give its path",
    "address not reachable": "check the name and the network",
    "address refused": "open it in a browser; correct it, or remove its rows",
    "too many redirects": "give the address that they lead to",
    "fetching timed out": "fetch it by hand, or raise data.urls.deadline_seconds (--seconds)",
    "file too large": "scale it down, or raise data.urls.max_mib (--max-mib)",
    "wrong content type": "give the address of the picture or clip itself, not of a page about it",
    "incomplete transfer": "fetch it by hand",
    "changed at its address": "bring the old file back, or start anew under another run.name",
}
# A server that does not know what it sends says one of these.
UNKNOWN_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-download")
VIDEO_TYPES = ("application/mp4", "application/x-matroska", "application/vnd.rn-realmedia", "application/ogg")

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # may be gone in a moment
_PIECE = 2**16
_WAIT_SECONDS = 0.5  # before the second attempt; twice as long before each further one
_NETWORK = (OSError, http.client.HTTPException, ValueError)  # what a server, or what is between, can make happen


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What fetching may reach and take."""

    hosts: tuple[str, ...]  # as `address.host_is_listed` reads them
    max_bytes: int = 64 * 2**20  # of one file
    deadline_seconds: float = 60.0  # of one attempt: look-up, connections, redirects and body
    max_redirects: int = 5
    attempts: int = 3  # where the trouble may be a passing one


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A file that came whole."""

    sha256: str  # of its content
    bytes: int
    content_type: str  # as the server said it, in lower case and without parameters
    final: str  # the address that it came from, after redirects


class _Passing(Exception):
    """Trouble that may be gone in a moment."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def resolve(host: str, port: int) -> list[str]:
    """Every IP address that a name means, as the system looks it up."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Fetcher:
    """Fetches files. Any number of threads may use one."""

    def __init__(
        self,
        limits: FetchLimits,
        *,
        resolve: Resolve = resolve,
        refuse: Callable[[str], str | None] = not_public,
        tls: ssl.SSLContext | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`resolve`, `refuse` (IP address → why it may not be asked, or None), `tls` and `wait` are for tests: no
        config reaches them.
        """
        self._limits = limits
        self._resolve = resolve
        self._refuse = refuse
        self._tls = tls or ssl.create_default_context()
        self._sleep = wait

    def fetch(self, text: str, kind: Kind, into: Path) -> Arrived:
        """Writes what lies at an address into a file. Raises BrokenMedia where it cannot be had."""
        for attempt in range(self._limits.attempts):
            try:
                with _Clock(self._limits.deadline_seconds) as clock:
                    return self._follow(text, kind, into, clock)
            except _Passing as error:
                trouble = error
                if attempt + 1 < self._limits.attempts:
                    self._sleep(_WAIT_SECONDS * 2**attempt)
        again = f" (tried {self._limits.attempts} times)" if self._limits.attempts > 1 else ""
        raise unfetched(text, trouble.reason, f"{trouble}{again}") from trouble

    def _follow(self, text: str, kind: Kind, into: Path, clock: _Clock) -> Arrived:
        address = self._listed(text, text)
        for _ in range(self._limits.max_redirects + 1):
            connection = self._connected(address, text, clock)
            try:
                try:
                    connection.request(
                        "GET",
                        address.target,
                        headers={
                            "Host": address.host_and_port,
                            "User-Agent": "mmrl",
                            "Accept": "image/*, video/*",
                            "Accept-Encoding": "identity",
                            "Connection": "close",
                        },
                    )
                    response = connection.getresponse()
                except _NETWORK as error:
                    raise clock.passing(error, "address not reachable", f"{address.host} gave no answer") from error
                with response:
                    if response.status not in _REDIRECTS:
                        return self._received(response, address, text, kind, into, clock)
                    address = self._redirected(response, address, text)
            finally:
                connection.close()
        raise unfetched(text, "too many redirects", f"leads on more than {self._limits.max_redirects} times")

    def _listed(self, text: str, origin: str) -> Address:
        """An address that may be looked up. `origin`: the manifest's, for messages."""
        through = "" if text == origin else f"leads to {text}, which "
        try:
            address = parse_address(text)
        except ValueError as error:
            raise unfetched(origin, "address not allowed", f"{through}{error}") from None
        if not host_is_listed(address, self._limits.hosts):
            what = f"{through}has the host {address.host} (port {address.port}), which is not on the list"
            raise unfetched(origin, "address not allowed", what)
        return address

    def _redirected(self, response: http.client.HTTPResponse, address: Address, origin: str) -> Address:
        where = response.getheader("Location")
        if where is None:
            raise unfetched(origin, "address refused", f"answered {response.status} without saying where to go")
        try:
            target = self._listed(urljoin(address.text, where), origin)
        except ValueError as error:
            if isinstance(error, BrokenMedia):
                raise
            raise unfetched(origin, "address not allowed", f"leads to {where[:200]!r}, which is no address") from None
        if address.scheme == "https" and target.scheme == "http":
            raise unfetched(origin, "address not allowed", f"leads from https to {target.text} without encryption")
        return target

    def _connected(self, address: Address, origin: str, clock: _Clock) -> http.client.HTTPConnection:
        """A connection to one of the host's machines, all of which are public."""
        numbers = self._looked_up(address, clock)
        for number in numbers:
            kind = self._refuse(number)
            if kind is not None:
                what = f"leads to {address.host}, which is {number} ({kind})"
                raise unfetched(origin, "address not public", what)
        failed: Exception | None = None
        for number in numbers:
            sock = None
            try:
                sock = socket.create_connection((number, address.port), timeout=clock.left())
                clock.watch(sock)
                if address.scheme == "https":
                    sock = self._tls.wrap_socket(sock, server_hostname=address.host, do_handshake_on_connect=False)
                    clock.watch(sock)
                    sock.do_handshake()
            except (*_NETWORK, _Passing) as error:  # ssl's errors are OSErrors
                failed = error
                if sock is not None:
                    sock.close()
                continue
            connection = http.client.HTTPConnection(address.host, address.port)
            connection.sock = sock
            connection.auto_open = 0  # never connects by itself
            return connection
        raise clock.passing(failed, "address not reachable", f"{address.host} cannot be reached") from failed

    def _looked_up(self, address: Address, clock: _Clock) -> Sequence[str]:
        """The system's look-up cannot be interrupted: it gets a thread, which is left behind where it is late."""
        found: Future[Sequence[str]] = Future()

        def look() -> None:
            try:
                found.set_result(self._resolve(address.host, address.port))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=look, name="look-up", daemon=True).start()
        try:
            numbers = found.result(timeout=clock.left())
        except TimeoutError:
            raise clock.late() from None
        except (OSError, ValueError) as error:
            raise clock.passing(error, "address not reachable", f"{address.host} cannot be looked up") from error
        if not numbers:
            raise _Passing("address not reachable", f"{address.host} has no IP address")
        return numbers

    def _received(
        self, response: http.client.HTTPResponse, address: Address, origin: str, kind: Kind, into: Path, clock: _Clock
    ) -> Arrived:
        if response.status != 200:
            what = f"was answered {response.status} {response.reason[:60]}"
            if response.status in _PASSING:
                raise _Passing("address refused", what)
            raise unfetched(origin, "address refused", what)
        type_ = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        known = type_.startswith(f"{kind}/") or (kind == "video" and type_ in VIDEO_TYPES)
        if not known and type_ not in UNKNOWN_TYPES:
            raise unfetched(origin, "wrong content type", f"is {type_[:80]!r}, not {kind}/…")
        coded = (response.getheader("Content-Encoding") or "identity").strip().lower()
        if coded != "identity":
            raise unfetched(origin, "wrong content type", f"comes compressed ({coded[:40]!r}), which was not asked for")
        most = self._limits.max_bytes
        if response.length is not None and response.length > most:
            raise unfetched(origin, "file too large", f"has {response.length:,} bytes; the limit is {most:,}")
        announced = response.length
        with open(into, "wb") as file:
            digest, count = self._copied(response, file, origin, clock)
        if announced is not None and count < announced:
            raise clock.passing(None, "incomplete transfer", f"ended after {count:,} of {announced:,} bytes")
        return Arrived(sha256=digest, bytes=count, content_type=type_, final=address.text)

    def _copied(
        self, response: http.client.HTTPResponse, file: IO[bytes], origin: str, clock: _Clock
    ) -> tuple[str, int]:
        digest, count = hashlib.sha256(), 0
        while True:
            try:
                piece = response.read1(_PIECE)
            except _NETWORK as error:
                raise clock.passing(error, "incomplete transfer", f"broke off after {count:,} bytes") from error
            clock.left()
            if not piece:
                return digest.hexdigest(), count
            count += len(piece)
            if count > self._limits.max_bytes:
                what = f"has more than {self._limits.max_bytes:,} bytes, which is the limit"
                raise unfetched(origin, "file too large", what)
            digest.update(piece)
            file.write(piece)  # a full disk is this machine's trouble, not the address's: its OSError goes up


class _Clock:
    """The time of one attempt. When it is over, the connection of the moment is shut down, whatever waits for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Clock:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._sock = None

    def left(self) -> float:
        """Seconds. Raises _Passing where there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise self.late()
        return seconds

    def watch(self, sock: socket.socket) -> None:
        """From now on this is the connection to cut."""
        sock.settimeout(self.left())
        with self._lock:
            self._sock = sock

    def passing(self, error: Exception | None, reason: str, what: str) -> _Passing:
        """What an error of the network means: that time was over, or something else."""
        if time.monotonic() >= self._end:
            return self.late()
        said = f" ({error})" if error is not None and str(error) else ""
        return _Passing(reason, f"{what}{said}")

    def late(self) -> _Passing:
        """The error that says so."""
        return _Passing("fetching timed out", f"was not there after {self._seconds:g} s")

    def _cut(self) -> None:
        with self._lock:
            if self._sock is not None:
                try:  # not SSLSocket's own: it would take the encryption away under a thread that reads
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                except OSError:
                    return  # closed already


def unfetched(address: str, reason: str, what: str) -> BrokenMedia:
    """The error for an address whose file cannot be had."""
    return BrokenMedia(f"{address} {what}. Its samples are dropped; {REASONS[reason]}.", reason=reason)
