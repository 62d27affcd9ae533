"""Which addresses may be asked, and which machines they may lead to."""

from __future__ import annotations

import pytest

from mmrl.data.address import check_hosts, host_is_listed, not_public, parse_address
from mmrl.errors import ConfigError

PUBLIC = ["8.8.8.8", "151.101.1.69", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
OTHERS = {
    "127.0.0.1": "loopback",
    "127.8.9.1": "loopback",
    "::1": "loopback",
    "0.0.0.0": "unspecified",
    "::": "unspecified",
    "10.0.0.1": "private",
    "172.16.3.4": "private",
    "192.168.1.1": "private",
    "fd00:ec2::254": "private",  # metadata of a cloud
    "100.64.0.1": "reserved",  # shared between a provider's customers
    "100.100.100.200": "reserved",  # metadata of a cloud
    "169.254.169.254": "link-local",  # metadata of most clouds
    "fe80::1": "link-local",
    "192.0.0.192": "reserved",  # metadata of a cloud; `ipaddress` calls it global
    "168.63.129.16": "reserved",  # as above, with a public number
    "192.0.2.1": "private",
    "198.18.0.1": "private",
    "192.88.99.1": "reserved",
    "224.0.0.1": "multicast",
    "239.1.2.3": "multicast",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::ffff:127.0.0.1": "loopback",  # IPv4 in IPv6 clothes, five kinds
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "::7f00:1": "reserved",
    "2002:7f00:1::": "reserved",
    "2001:0:53aa:64c:0:0:80ff:fffe": "private",
    "64:ff9b:1::1": "reserved",
    "2001:db8::1": "private",
    "3fff::1": "reserved",
    "fec0::1": "reserved",
    "2606:4700::1111%eth0": "reserved",
    "example.org": "no IP address",
    "": "no IP address",
}


@pytest.mark.parametrize("number", PUBLIC)
def test_public_machines_may_be_asked(number: str) -> None:
    assert not_public(number) is None


@pytest.mark.parametrize("number", OTHERS)
def test_no_other_machine_may_be_asked(number: str) -> None:
    assert not_public(number) == OTHERS[number]


def test_an_address_is_taken_apart() -> None:
    address = parse_address("HTTP://Pictures.Example.ORG:8080/a/b ü.png?size=2#top".replace(" ", "%20"))
    assert (address.scheme, address.host, address.port) == ("http", "pictures.example.org", 8080)
    assert address.target == "/a/b%20%C3%BC.png?size=2"
    assert address.host_and_port == "pictures.example.org:8080"
    assert parse_address("https://bücher.example").host == "xn--bcher-kva.example"
    assert parse_address("https://example.org").target == "/"
    assert parse_address("https://[2606:4700::1]/a").host_and_port == "[2606:4700::1]"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ftp://example.org/a.png", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("gopher://example.org/", "only http and https"),
        ("http://user:secret@example.org/a.png", "user name or password"),
        ("http://example.org@127.0.0.1/a.png", "user name or password"),
        ("http:///a.png", "no host name"),
        ("http://exa mple.org/a.png", "space"),
        ("http://example.org/a\r\nHost: other", "control character"),
        ("http://example.org\\@127.0.0.1/", "backslash"),
        ("http://example.org:99999/", "no address"),
        ("http://example.org:0/", "no host name"),
        ("http://[::1", "no address"),
        ("http://exam$ple.org/", "no host name"),
    ],
)
def test_what_is_no_plain_web_address_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "hosts", "listed"),
    [
        ("http://a.org/x", ["a.org"], True),
        ("https://A.ORG/x", ["a.Org"], True),
        ("http://b.a.org/x", ["a.org"], False),
        ("http://b.a.org/x", ["*.a.org"], True),
        ("http://a.org/x", ["*.a.org"], False),
        ("http://evil-a.org/x", ["*.a.org"], False),
        ("http://a.org.evil.net/x", ["a.org", "*.a.org"], False),
        ("http://a.org:8080/x", ["a.org"], False),  # services stand at other ports
        ("http://a.org:8080/x", ["a.org:8080"], True),
        ("http://a.org/x", ["a.org:8080"], False),
        ("http://whatever.net/x", ["*"], True),
        ("http://whatever.net:22/x", ["*"], False),
        ("http://a.org/x", [], False),
    ],
)
def test_hosts_are_those_of_the_list(text: str, hosts: list[str], listed: bool) -> None:
    assert host_is_listed(parse_address(text), hosts) is listed


@pytest.mark.parametrize("entry", ["http://a.org", "a.org/x", "a.*", "", "a.org:port", "*a.org"])
def test_an_entry_that_names_no_host_is_refused(entry: str) -> None:
    check_hosts(["a.org", "*.a.org", "a.org:8080", "*"])
    with pytest.raises(ConfigError, match="names no host"):
        check_hosts([entry])
