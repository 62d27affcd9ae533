"""Fetching from real servers of this machine: what arrives, what is refused, and who is never asked."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrl.data.address import not_public
from mmrl.data.fetch import Arrived, Fetcher, FetchLimits, Kind
from mmrl.data.images import BrokenMedia
from tests.data.web import leads_to, sends, serving, trickles

BODY = b"\x89PNG" + bytes(range(256)) * 40


def only_here(number: str) -> str | None:
    """The rule of the program, but for one machine, on which the tests' public servers stand."""
    return None if number == "127.0.0.1" else not_public(number)


def fetch(
    address: str,
    folder: Path,
    *,
    hosts: Sequence[str] | None = None,
    kind: Kind = "image",
    max_bytes: int = 2**20,
    deadline_seconds: float = 20.0,
    attempts: int = 1,
    **injected: object,
) -> Arrived:
    limits = FetchLimits(
        hosts=tuple(hosts) if hosts is not None else (address.split("/")[2],),
        max_bytes=max_bytes,
        deadline_seconds=deadline_seconds,
        attempts=attempts,
    )
    options: dict[str, object] = {"refuse": only_here, "wait": lambda seconds: None, **injected}
    return Fetcher(limits, **options).fetch(address, kind, folder / "file")  # type: ignore[arg-type]


def refused(address: str, folder: Path, **options: object) -> BrokenMedia:
    with pytest.raises(BrokenMedia) as caught:
        fetch(address, folder, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(address)
    return caught.value


@pytest.mark.parametrize(
    "answer",
    [
        sends(BODY),
        sends(BODY, type_="application/octet-stream"),
        sends(BODY, type_="IMAGE/PNG; charset=binary"),
        sends(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked"),
    ],
)
def test_a_file_arrives_as_it_is(answer, tmp_path: Path) -> None:
    with serving({"/a.png?size=1": answer}) as web:
        arrived = fetch(web.at("/a.png?size=1"), tmp_path)
        assert (tmp_path / "file").read_bytes() == BODY
        assert (arrived.sha256, arrived.bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
        assert arrived.final == web.at("/a.png?size=1")
        [request] = web.requests
        assert f"Host: 127.0.0.1:{web.port}\r\n".encode() in request
        assert b"identity" in request
        assert b"Cookie" not in request
        assert b"Authorization" not in request


def test_a_clip_arrives(tmp_path: Path) -> None:
    with serving({"/a.mp4": sends(BODY, type_="video/mp4")}) as web:
        assert fetch(web.at("/a.mp4"), tmp_path, kind="video").content_type == "video/mp4"
        assert refused(web.at("/a.mp4"), tmp_path, kind="image").reason == "wrong content type"


def test_a_host_that_is_not_listed_is_not_even_looked_up(tmp_path: Path) -> None:
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    with serving({"/a.png": sends(BODY)}) as web:
        error = refused(web.at("/a.png", "other.test"), tmp_path, hosts=["pictures.test"], resolve=resolve)
        assert (error.reason, looked_up, web.asked) == ("address not allowed", [], [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "0x7f.1", "2130706433", "127.1"])
def test_this_machine_is_not_asked_under_any_name(host: str, tmp_path: Path) -> None:
    """With the program's own rule and look-up, as a config builds them."""
    with serving({"/a.png": sends(BODY)}) as web:
        limits = FetchLimits(hosts=(f"{host}:{web.port}",), attempts=1)
        with pytest.raises(BrokenMedia) as caught:
            Fetcher(limits).fetch(web.at("/a.png", host), "image", tmp_path / "file")
        assert caught.value.reason == "address not public"
        assert web.asked == []


@pytest.mark.parametrize("other", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize("first", [True, False])
def test_one_private_machine_among_the_answers_refuses_all(other: str, first: bool, tmp_path: Path) -> None:
    numbers = [other, "127.0.0.1"] if first else ["127.0.0.1", other]
    with serving({"/a.png": sends(BODY)}) as web:
        error = refused(web.at("/a.png", "pictures.test"), tmp_path, resolve=lambda host, port: numbers)
        assert error.reason == "address not public"
        assert other in str(error)
        assert web.asked == []


def test_the_connection_goes_to_the_machine_that_was_checked(tmp_path: Path) -> None:
    """The name means a public machine when it is checked, and another one from then on."""
    answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]]
    with serving({"/a.png": sends(BODY)}) as public, socket.create_server(("127.0.0.2", public.port)) as private:
        private.settimeout(0.2)
        fetch(public.at("/a.png", "pictures.test"), tmp_path, resolve=lambda host, port: answers.pop(0))
        assert len(answers) == 2, "looked up once"
        assert public.asked == ["/a.png"]
        with pytest.raises(TimeoutError):
            private.accept()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_to_listed_public_hosts(status: int, tmp_path: Path) -> None:
    near_pages = {"/old": leads_to("/new", status)}
    with serving({"/a.png": sends(BODY)}) as far, serving(near_pages) as near:
        near_pages["/new"] = leads_to(far.at("/a.png"), status)
        hosts = [f"127.0.0.1:{near.port}", f"127.0.0.1:{far.port}"]
        assert fetch(near.at("/old"), tmp_path, hosts=hosts).final == far.at("/a.png")
        assert near.asked == ["/old", "/new"]
        error = refused(near.at("/old"), tmp_path, hosts=hosts[:1])
        assert error.reason == "address not allowed"
        assert len(far.asked) == 1


def test_a_redirect_to_a_private_machine_is_not_followed(tmp_path: Path) -> None:
    with serving({"/a.png": sends(BODY)}, "127.0.0.2") as private:
        pages = {
            "/by-number": leads_to(private.at("/a.png", "127.0.0.2")),
            "/by-name": leads_to(private.at("/a.png", "inside.test")),
            "/metadata": leads_to("http://169.254.169.254/latest/meta-data/"),
            "/file": leads_to("file:///etc/passwd"),
            "/odd": leads_to("http://[::1"),
            "/nowhere": sends(b"", status="302 Found"),
        }

        def resolve(host: str, port: int) -> list[str]:
            return [{"inside.test": "127.0.0.2"}.get(host, host)]

        with serving(pages) as web:
            hosts = [f"127.0.0.1:{web.port}", f"127.0.0.2:{private.port}", f"inside.test:{private.port}", "*"]
            reasons = {path: refused(web.at(path), tmp_path, hosts=hosts, resolve=resolve).reason for path in web.pages}
        assert reasons == {
            "/by-number": "address not public",
            "/by-name": "address not public",
            "/metadata": "address not public",
            "/file": "address not allowed",
            "/odd": "address not allowed",
            "/nowhere": "address refused",
        }
        assert private.asked == []
        assert not (tmp_path / "file").exists()


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    with serving({"/a": leads_to("/b"), "/b": leads_to("/a")}) as web:
        assert refused(web.at("/a"), tmp_path).reason == "too many redirects"
        assert len(web.asked) == 6


@pytest.mark.parametrize(
    "answer",
    [
        trickles(b""),
        trickles(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        trickles(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05),
        trickles(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"),
        trickles(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"),
        lambda connection: time.sleep(4),
    ],
    ids=["status line", "header", "headers", "body", "body without end", "silence"],
)
def test_a_server_that_trickles_is_cut_off(answer, tmp_path: Path) -> None:
    with serving({"/a.png": answer}) as web:
        began = time.monotonic()
        error = refused(web.at("/a.png"), tmp_path, deadline_seconds=0.4)
        assert error.reason == "fetching timed out"
        assert time.monotonic() - began < 3


def test_a_look_up_that_hangs_is_left_behind(tmp_path: Path) -> None:
    def resolve(host: str, port: int) -> list[str]:
        time.sleep(4)
        return []

    began = time.monotonic()
    error = refused("http://pictures.test/a.png", tmp_path, deadline_seconds=0.3, resolve=resolve)
    assert error.reason == "fetching timed out"
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "answer",
    [
        sends(b"x" * 2000),
        sends(b"", "Content-Length: 999999999999"),
        trickles(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", b"x" * 900, 0.001),
        trickles(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"384\r\n" + b"x" * 900 + b"\r\n", 0.001),
    ],
    ids=["honest", "announced", "without end", "chunks without end"],
)
def test_a_file_that_is_too_large_is_not_taken(answer, tmp_path: Path) -> None:
    with serving({"/a.png": answer}) as web:
        assert refused(web.at("/a.png"), tmp_path, max_bytes=1999).reason == "file too large"
    written = tmp_path / "file"
    assert not written.exists() or written.stat().st_size <= 1999


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sends(b"<html>", type_="text/html"), "wrong content type"),
        (sends(BODY, type_="video/mp4"), "wrong content type"),
        (sends(BODY, "Content-Encoding: gzip"), "wrong content type"),
        (sends(b"", status="404 Not Found"), "address refused"),
        (sends(BODY, status="206 Partial Content"), "address refused"),
        (sends(BODY[:-5], f"Content-Length: {len(BODY)}"), "incomplete transfer"),
        (sends(b"ffff\r\nabc", "Transfer-Encoding: chunked"), "incomplete transfer"),
        (sends(b"no number\r\n", "Transfer-Encoding: chunked"), "incomplete transfer"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), "address not reachable"),
        (lambda connection: None, "address not reachable"),
    ],
)
def test_what_is_no_whole_picture_is_refused_with_its_reason(answer, reason: str, tmp_path: Path) -> None:
    with serving({"/a.png": answer}) as web:
        assert refused(web.at("/a.png"), tmp_path).reason == reason


def test_a_machine_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/a.png", tmp_path).reason == "address not reachable"


def test_a_name_that_means_nothing_is_named(tmp_path: Path) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    error = refused("http://pictures.test/a.png", tmp_path, resolve=resolve)
    assert error.reason == "address not reachable"
    assert "pictures.test cannot be looked up" in str(error)
    assert refused("http://a.test/", tmp_path, resolve=lambda host, port: []).reason == "address not reachable"


def test_passing_trouble_is_tried_again_and_lasting_trouble_is_not(tmp_path: Path) -> None:
    waited: list[float] = []
    with serving({"/a.png": sends(b"", status="503 Busy"), "/b.png": sends(b"", status="404 Not Found")}) as web:

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 2:
                web.pages["/a.png"] = sends(BODY)

        assert fetch(web.at("/a.png"), tmp_path, attempts=3, wait=wait).bytes == len(BODY)
        assert waited == [0.5, 1.0]
        assert refused(web.at("/b.png"), tmp_path, attempts=3, wait=wait).reason == "address refused"
        assert web.asked.count("/b.png") == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For pictures.test, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pictures.test"]
    names = ["-addext", "subjectAltName=DNS:pictures.test"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def test_encryption_is_checked_against_the_name_and_kept(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    tls = ssl.create_default_context(cafile=str(certificate[0]))
    here = {"resolve": lambda host, port: ["127.0.0.1"], "hosts": ["*", "*.test"]}
    pages = {
        "/a.png": sends(BODY),
        "/open": leads_to("http://pictures.test/a.png"),
        "/slow": trickles(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"),
    }
    with serving(pages, wrap=lambda s: server.wrap_socket(s, server_side=True)) as web:
        base = f"https://pictures.test:{web.port}"
        here["hosts"] = [f"*:{web.port}", "*"]
        assert fetch(f"{base}/a.png", tmp_path, tls=tls, **here).bytes == len(BODY)  # type: ignore[arg-type]
        assert refused(f"{base}/a.png", tmp_path, **here).reason == "address not reachable", "an unknown signer"
        error = refused(f"https://other.test:{web.port}/a.png", tmp_path, tls=tls, **here)
        assert error.reason == "address not reachable"
        assert "other.test" in str(error)
        error = refused(f"{base}/open", tmp_path, tls=tls, **here)
        assert error.reason == "address not allowed"
        assert "without encryption" in str(error)
        began = time.monotonic()
        assert refused(f"{base}/slow", tmp_path, tls=tls, deadline_seconds=0.5, **here).reason == "fetching timed out"
        assert time.monotonic() - began < 3
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        port = silent.getsockname()[1]
        here["hosts"] = [f"*:{port}"]
        error = refused(f"https://pictures.test:{port}/", tmp_path, tls=tls, deadline_seconds=0.4, **here)
        assert error.reason == "fetching timed out"
