"""Who may call: names in the Host header, API keys, files of keys, types of bodies."""

from __future__ import annotations

import hmac
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.api.routes import ROUTES, open_paths
from sheily_server.keys import parse_keys, read_keys
from sheily_server.web.errors import HttpError
from sheily_server.web.guard import GivenKeys, Guard, check_body_type

METHODS = ["GET", "POST", "HEAD", "OPTIONS", "DELETE"]


def refusal(
    guard: Guard,
    host: str | None = "localhost",
    authorization: str | None = None,
    *,
    api_key: str | None = None,
    method: str = "POST",
    path: str = "/chat",
) -> tuple[int, str | None] | None:
    """Status and code; None for a caller who may come in."""
    try:
        guard.check(method, path, host, GivenKeys(authorization, api_key))
    except HttpError as error:
        return error.status, error.code
    return None


FOREIGN = (403, "host_not_allowed")
NO_KEY = (401, "invalid_api_key")


# --- names ----------------------------------------------------------------------------------------

LOOPBACK = [
    "localhost",
    "LocalHost:8005",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.8.9.1:65535",
    "[::1]",
    "[::1]:8005",
    "[0:0::0:1]",
]
OTHERS = [
    "",
    " ",
    "evil.example",
    "evil.example:8005",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
    "127.1",
    "2130706433",
    "0.0.0.0",
    "192.168.1.5:8005",
    "[::]",
    "[2001:db8::1]",
    "::1",
    "[::1",
    "localhost:",
    "localhost:x",
    "localhost:123456",
    "localhost:80:80",
    "localhost, evil.example",
    "evil.example@localhost",
    "localhost@evil.example",
    "http://localhost",
    "localhost/",
    "localhost\n",
    "*",
    "löcalhost",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/chat", "/health", "/nowhere"])
def test_loopback_names_and_no_others(method: str, path: str) -> None:
    ours = Guard("127.0.0.1", (), ())
    for host in LOOPBACK:
        assert refusal(ours, host, method=method, path=path) is None, host
    for other in [None, *OTHERS]:
        assert refusal(ours, other, method=method, path=path) == FOREIGN, other


@pytest.mark.parametrize(
    ("configured", "header"),
    [
        ("machine.lan", "MACHINE.lan:8005"),
        ("Machine.LAN", "machine.lan"),
        ("192.168.1.5", "192.168.1.5:8005"),
        ("2001:db8::1", "[2001:DB8:0::1]:8005"),
    ],
)
def test_the_configured_host(configured: str, header: str) -> None:
    ours = Guard(configured, (), ())
    assert refusal(ours, header) is None
    assert refusal(ours, "localhost") is None
    assert refusal(ours, "other.lan") == FOREIGN


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::", "*"])
def test_listening_on_all_addresses_every_address_is_ours_and_no_name_of_others(
    everywhere: str,
) -> None:
    ours = Guard(everywhere, (), ())
    for header in ("192.168.1.5:8005", "[2001:db8::1]", "localhost"):
        assert refusal(ours, header) is None
    for other in ("evil.example", "machine.lan:8005", "local", ".local", None):
        assert refusal(ours, other) == FOREIGN


OWN = ["Box.lan", "box.lan:8005", "box", "BOX:8005", "box.local:1"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.lan"])
def test_a_server_that_others_can_reach_has_its_machines_own_names(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.lan")
    ours = Guard(host, (), ())
    for header in OWN:
        assert refusal(ours, header) is None, header
    for other in ("evil.example", "box.evil.example", "box.lan.evil.example", "lan", "x.box.lan"):
        assert refusal(ours, other) == FOREIGN, other


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_of_the_loopback_alone_does_not(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.lan")
    for header in OWN:
        assert refusal(Guard(host, (), ()), header) == FOREIGN


@pytest.mark.parametrize("name", ["", "a b", "böx", "-", "*"])
def test_a_machine_whose_name_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    ours = Guard("0.0.0.0", (), ())
    assert refusal(ours, "localhost") is None
    for other in ("", "*", "a", "evil.example", ".local", None):
        assert refusal(ours, other) == FOREIGN


def test_an_allowed_name_with_a_port_is_allowed_with_that_port() -> None:
    ours = Guard("127.0.0.1", ("vm:8222", "[2001:db8::1]:90", "web:80"), ())
    for header in ("vm:8222", "VM.:8222", "[2001:DB8:0::1]:90", "web", "web:80"):
        assert refusal(ours, header) is None, header
    for header in ("vm", "vm:80", "vm:8223", "[2001:db8::1]", "web:81", "x.vm:8222"):
        assert refusal(ours, header) == FOREIGN, header


def test_allowed_names() -> None:
    ours = Guard("127.0.0.1", ("llm.example.org", "[2001:db8::1]", "10.0.0.1"), ())
    for header in ("llm.example.org", "LLM.example.org.:443", "[2001:db8::1]:80", "10.0.0.1"):
        assert refusal(ours, header) is None
    for header in ("example.org", "x.llm.example.org", "[2001:db8::2]", "10.0.0.2"):
        assert refusal(ours, header) == FOREIGN


def test_a_star_allows_every_name() -> None:
    ours = Guard("127.0.0.1", ("a", "*"), ())
    for header in (*LOOPBACK, *OTHERS, None):
        assert refusal(ours, header) is None


@given(st.text())
def test_any_host_is_judged(host: str) -> None:
    assert refusal(Guard("127.0.0.1", (), ()), host) in (None, FOREIGN)


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(HttpError) as caught:
        Guard("127.0.0.1", (), ()).check("GET", "/", "x" * 10_000, GivenKeys())
    assert len(caught.value.message) < 300


# --- keys -----------------------------------------------------------------------------------------

KEYS = ("first-key", "second-key")
WRONG = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer first-ke",
    "Bearer first-key2",
    "Bearer FIRST-KEY",
    "Bearer first-key second-key",
    "Bearer first-key, Bearer second-key",
    "first-key",
    "Basic first-key",
    "Basic Zmlyc3Qta2V5",
    "Bearer\tfirst-key",
    "Bearer clé",
    "Bearer \xff\xfe",
    "Bearer \u20ac",
    "Bearer \ud800",
    "Bearer " + "x" * 10_000,
]


@pytest.mark.parametrize(
    "path", ["/chat", "/v1/models", "/metrics", "/openapi.json", "/", "/livez/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_keys(method: str, path: str) -> None:
    ours = Guard("127.0.0.1", (), KEYS)
    for key in KEYS:
        for given_key in (f"Bearer {key}", f"bearer  {key} ", f"BEARER {key}"):
            assert refusal(ours, authorization=given_key, method=method, path=path) is None
    for wrong in WRONG:
        found = refusal(ours, authorization=wrong, method=method, path=path)
        assert found == NO_KEY, wrong


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/models", "/nowhere"])
def test_the_key_in_the_header_of_anthropic_s_clients(path: str) -> None:
    ours = Guard("127.0.0.1", (), KEYS)
    for key in KEYS:
        for given_key in (key, f" {key} "):
            assert refusal(ours, api_key=given_key, path=path) is None
    for wrong in ("", " ", "x", "Bearer first-key", "first-key, first-key", "clé", "\ud800"):
        assert refusal(ours, api_key=wrong, path=path) == NO_KEY, wrong


@pytest.mark.parametrize(
    ("authorization", "api_key", "comes_in"),
    [
        ("Bearer first-key", "second-key", True),
        ("Bearer wrong", "first-key", True),
        ("Bearer first-key", "wrong", False),
        ("Bearer first-key", "", True),
        ("Bearer first-key", " ", True),
        ("Bearer wrong", "", False),
        ("Bearer wrong", "wrong", False),
    ],
)
def test_of_two_headers_one_decides(authorization: str, api_key: str, comes_in: bool) -> None:
    ours = Guard("127.0.0.1", (), KEYS)
    found = refusal(ours, authorization=authorization, api_key=api_key)
    assert found == (None if comes_in else NO_KEY)


@pytest.mark.parametrize("path", ["/health", "/livez", "/health/", "/", "/favicon.ico"])
def test_whether_the_server_lives_may_be_asked_without_a_key(path: str) -> None:
    ours = Guard("127.0.0.1", (), KEYS, open_paths(ROUTES))
    for wrong in WRONG:
        assert refusal(ours, authorization=wrong, method="GET", path=path) is None
    assert refusal(ours, "evil.example", path=path) == FOREIGN


def test_a_preflight_needs_no_key() -> None:
    assert refusal(Guard("127.0.0.1", (), KEYS), method="OPTIONS") is None


def test_without_keys_any_will_do() -> None:
    for wrong in WRONG:
        assert refusal(Guard("127.0.0.1", (), ()), authorization=wrong) is None


def test_every_key_is_compared_and_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare_digest(a, b)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert refusal(Guard("127.0.0.1", (), KEYS), authorization="Bearer first-key") is None
    assert compared == [(b"first-key", b"first-key"), (b"first-key", b"second-key")]


def test_a_refusal_has_no_key_in_it() -> None:
    with pytest.raises(HttpError) as caught:
        Guard("127.0.0.1", (), KEYS).check("GET", "/", "localhost", GivenKeys("Bearer given-key"))
    assert "-key" not in caught.value.message


@given(st.text())
def test_any_authorization_is_judged(text: str) -> None:
    ours = Guard("127.0.0.1", (), ["k\u007e"])
    assert refusal(ours, authorization=text) in (NO_KEY, None)
    assert refusal(ours, api_key=text) in (NO_KEY, None)


@pytest.mark.parametrize(
    ("text", "keys"),
    [("a", ("a",)), (" a , b ", ("a", "b")), ("a,,b,", ("a", "b")), ("sk-!~_=", ("sk-!~_=",))],
)
def test_keys_of_a_variable(text: str, keys: tuple[str, ...]) -> None:
    assert parse_keys(text) == keys


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbf# who\r\nfirst,key\r\n\r\n  second#key")
    file.chmod(0o600)
    found = read_keys(file)
    assert found.keys == ("first,key", "second#key")
    assert "second" not in repr(found)
    assert not found.open_to_others


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no key in it"),
        (b"# only\n\n", "has no key in it"),
        (b"fine-key\nno key\n", "in line 2"),
        ("\nclé".encode(), "in line 2"),
        (b"a\0b", "in line 1"),
        (b"key\n" + b"#" * 65_536, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_keys(file)
    assert str(file) in str(caught.value)
    assert "fine-key" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for missing in (tmp_path / "none", tmp_path, Path("/dev/null")):
        with pytest.raises(ValueError, match="which is not a file"):
            read_keys(missing)
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(tmp_path / ("x" * 300))
    file = tmp_path / "keys"
    file.write_text("k\n")
    file.chmod(0)
    if not os.access(file, os.R_OK):  # root may read everything
        with pytest.raises(ValueError, match="cannot be read"):
            read_keys(file)


# --- types of bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        " application/json ",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=utf8; profile=x",
        "application/json;",
    ],
)
@pytest.mark.parametrize("content_encoding", [None, "", "identity", "Identity "])
def test_json_is_taken(content_type: str, content_encoding: str | None) -> None:
    check_body_type(content_type, content_encoding)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/jsonx",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json; charset=",
        "application/json; charset=" + "x" * 9000,
    ],
)
def test_what_a_form_could_send_is_not(content_type: str | None) -> None:
    with pytest.raises(HttpError) as caught:
        check_body_type(content_type, None)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("content_encoding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_compressed_bodies_are_not_taken(content_encoding: str) -> None:
    with pytest.raises(HttpError) as caught:
        check_body_type("application/json", content_encoding)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")


# --- whose a request is ---------------------------------------------------------------------------


def test_each_key_has_a_scope_of_its_own_that_does_not_tell_it() -> None:
    guard = Guard("127.0.0.1", (), ("first-key", "second-key"))
    first, second = (guard.scope(GivenKeys(f"Bearer {key}-key")) for key in ("first", "second"))
    assert first == guard.scope(GivenKeys("bearer  first-key")) != second
    assert first == guard.scope(GivenKeys(api_key="first-key"))
    assert second == guard.scope(GivenKeys("Bearer first-key", "second-key"))
    assert "" not in (first, second)
    assert "first" not in first
    assert first == Guard("127.0.0.1", (), ("first-key",)).scope(GivenKeys("Bearer first-key"))


def test_without_keys_all_callers_are_one() -> None:
    guard = Guard("127.0.0.1", (), ())
    assert guard.scope(GivenKeys()) == guard.scope(GivenKeys("Bearer anything")) == ""
