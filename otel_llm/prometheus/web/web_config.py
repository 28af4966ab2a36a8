"""The web-config file of the Prometheus exporters' toolkit.

Source: https://github.com/prometheus/exporter-toolkit, docs/web-configuration.md.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from otel_llm.prometheus.web.auth import RateLimit
from otel_llm.prometheus.web.tls import Pem, Tls

T = TypeVar("T")

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    # Python cannot ask for a certificate without verifying it; nobody would look at this one.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequireAnyClientCert", "RequireClientCert")
_CURVES = ("CurveP256", "CurveP384", "CurveP521", "X25519")
_TLS_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_CIPHERS = {
    f"TLS_ECDHE_{signed}_WITH_{go}": f"ECDHE-{signed}-{openssl}"
    for signed in ("ECDSA", "RSA")
    for go, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE, _FALSE = ("true", "yes", "on", "y"), ("false", "no", "off", "n")


class WebConfig(NamedTuple):
    """What a file says."""

    tls: Tls | None
    users: Mapping[str, str]
    users_setting: str
    headers: Sequence[tuple[str, str]]
    rate_limit: RateLimit | None


def read_web_config(file: str | os.PathLike[str], setting: str = "web_config") -> WebConfig:
    """Read a web-config file; paths in it are relative to it.

    Args:
        file: its path.
        setting: what named it; messages begin with it.

    Raises:
        ValueError: the file cannot be read, or something in it is not accepted; the message names the file, the line,
            the key and what is accepted.
        ImportError: `PyYAML`, of the extra ``serve``, is not installed.
    """
    path = Path(file)
    source = f"{setting}={str(path)!r}"
    try:
        yaml: Any = import_module("yaml")
    except ModuleNotFoundError as error:
        raise ImportError(f"{source} needs PyYAML: pip install 'otel-llm[serve]'") from error
    try:
        root = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{source}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{source}: is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{source}: is nested too deep") from None
    top = _Entry(source, "", root).section(*_SECTIONS)
    return WebConfig(
        tls=_tls(path, top["tls_server_config"]) if "tls_server_config" in top else None,
        users=top["basic_auth_users"].texts() if "basic_auth_users" in top else {},
        users_setting=f"{source}: basic_auth_users",
        headers=_headers(top["http_server_config"]) if "http_server_config" in top else (),
        rate_limit=_rate_limit(top["rate_limit"]) if "rate_limit" in top else None,
    )


_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")


class _Entry(NamedTuple):
    """A value in the file, and the way to it."""

    source: str
    key: str
    node: Any

    def wrong(self, expected: str) -> ValueError:
        line = f", line {self.node.start_mark.line + 1}" if self.node is not None else ""
        return ValueError(f"{self.source}{line}: {self.key or 'the file'}: expected {expected}")

    @property
    def empty(self) -> bool:
        return self.node is None or (self.node.id == "scalar" and self.node.tag == "tag:yaml.org,2002:null")

    def entries(self) -> dict[str, _Entry]:
        """Return what is in a mapping, each key of which may be there once."""
        if self.empty:
            return {}
        if self.node.id != "mapping":
            raise self.wrong("a mapping")
        found: dict[str, _Entry] = {}
        for key, value in self.node.value:
            if key.id != "scalar":
                raise self.wrong("a mapping of strings")
            name = str(key.value)
            entry = _Entry(self.source, f"{self.key}.{name}" if self.key else name, value)
            if name in found:
                raise entry.wrong("the key once")
            found[name] = entry
        return found

    def section(self, *known: str) -> dict[str, _Entry]:
        """Return what is in a mapping that has these keys; one without a value is not there."""
        entries = self.entries()
        for name, entry in entries.items():
            if name not in known:
                where = f"{self.key} with one of" if self.key else "one of"
                raise entry.wrong(f"{where} {', '.join(known)}")
        return {name: entry for name, entry in entries.items() if not entry.empty}

    def text(self) -> str:
        """Return a scalar as it is written."""
        if self.empty or self.node.id != "scalar":
            raise self.wrong("a string")
        return str(self.node.value)

    def one_of(self, choices: Mapping[str, T]) -> T:
        """Return what a scalar stands for."""
        if self.node.id != "scalar" or self.node.value not in choices:
            raise self.wrong(f"one of {', '.join(choices)}")
        return choices[self.node.value]

    def switch(self) -> bool:
        """Return a boolean."""
        written = self.node.value.lower() if self.node.id == "scalar" else ""
        if written not in _TRUE + _FALSE:
            raise self.wrong("true or false")
        return written in _TRUE

    def items(self, read: Callable[[_Entry], T]) -> list[T]:
        """Return what is in a list."""
        if self.node.id != "sequence":
            raise self.wrong("a list")
        return [read(_Entry(self.source, f"{self.key}[{at}]", node)) for at, node in enumerate(self.node.value)]

    def texts(self) -> dict[str, str]:
        """Return a mapping of strings."""
        return {name: entry.text() for name, entry in self.entries().items()}


def _tls(path: Path, entry: _Entry) -> Tls | None:
    given = entry.section(
        *("cert_file", "key_file", "client_ca_file", "cert", "key", "client_ca", "client_auth_type"),
        *("client_allowed_sans", "min_version", "max_version", "cipher_suites"),
        *("prefer_server_cipher_suites", "curve_preferences"),
    )
    given = {name: one for name, one in given.items() if one.node.id != "scalar" or one.node.value}
    certificate, key, clients = (_pem(path, given, name) for name in ("cert", "key", "client_ca"))
    verify = _verify(given, clients)
    names = given["client_allowed_sans"].items(_Entry.text) if "client_allowed_sans" in given else []
    if names and verify == ssl.CERT_NONE:
        raise given["client_allowed_sans"].wrong("a client_auth_type that verifies certificates")
    minimum = given["min_version"].one_of(_VERSIONS) if "min_version" in given else ssl.TLSVersion.TLSv1_2
    maximum = given["max_version"].one_of(_VERSIONS) if "max_version" in given else ssl.TLSVersion.TLSv1_3
    if maximum < minimum:
        raise given["max_version"].wrong("no less than min_version")
    suites = given["cipher_suites"].items(_suite) if "cipher_suites" in given else []
    ciphers = ":".join(filter(None, suites))
    if suites and not ciphers:
        # Those of TLS 1.3 are always there: what is left out is TLS 1.2.
        minimum = ssl.TLSVersion.TLSv1_3
        if maximum < minimum:
            raise given["cipher_suites"].wrong("a suite of TLS 1.2, as max_version is TLS12")
    preferred = given.get("prefer_server_cipher_suites")
    if "curve_preferences" in given:
        # Python can set one curve only, and OpenSSL then takes no certificate of another: its own choice has them all.
        given["curve_preferences"].items(lambda one: one.one_of(dict.fromkeys(_CURVES)))
    if certificate is None and not {*given} & {"key_file", "key", "client_ca_file", "client_ca", "client_auth_type"}:
        return None
    if certificate is None or key is None:
        raise entry.wrong(
            "cert_file and key_file" if certificate is key else "key_file" if key is None else "cert_file"
        )
    return Tls(
        certificate,
        key,
        clients,
        verify,
        minimum,
        maximum,
        ciphers or None,
        preferred is None or preferred.switch(),
        names,
    )


def _pem(path: Path, given: Mapping[str, _Entry], name: str) -> Pem | None:
    inline, file = given.get(name), given.get(f"{name}_file")
    if inline is not None and file is not None:
        raise inline.wrong(f"it or {name}_file, not both")
    if inline is not None:
        return Pem(f"{inline.source}: {inline.key}", None, inline.text())
    if file is not None:
        return Pem(f"{file.source}: {file.key}", path.parent / file.text())
    return None


def _verify(given: Mapping[str, _Entry], clients: Pem | None) -> ssl.VerifyMode:
    policy = given.get("client_auth_type")
    if policy is not None and policy.node.value in _UNVERIFIED:
        raise policy.wrong(f"one of {', '.join(_CLIENTS)}; Python cannot require a certificate without verifying it")
    verify = policy.one_of(_CLIENTS) if policy is not None else ssl.CERT_NONE
    if clients is not None and (policy is None or policy.node.value == "NoClientCert"):
        asked = given.get("client_ca_file") or given["client_ca"]
        raise asked.wrong("a client_auth_type beside it, such as RequireAndVerifyClientCert")
    if clients is None and verify == ssl.CERT_REQUIRED and policy is not None:
        raise policy.wrong("client_ca_file beside it")
    return verify


def _suite(entry: _Entry) -> str:
    """Return OpenSSL's name, and nothing for a suite of TLS 1.3, which nobody can switch off."""
    return entry.one_of({**_CIPHERS, **dict.fromkeys(_TLS_13, "")})


def _headers(entry: _Entry) -> list[tuple[str, str]]:
    given = entry.section("http2", "headers")
    if "http2" in given:  # there is none, but it is no mistake to want it
        given["http2"].switch()
    found: list[tuple[str, str]] = []
    for name, header in (given["headers"].section(*_HEADERS) if "headers" in given else {}).items():
        value = header.text()
        if _HEADERS[name] and value not in _HEADERS[name]:
            raise header.wrong(" or ".join(_HEADERS[name]))
        if not re.fullmatch(r"[\t -~]*", value):
            raise header.wrong("one line of ASCII characters")
        if value:
            found.append((name, value))
    return found


def _rate_limit(entry: _Entry) -> RateLimit | None:
    given = entry.section("interval", "burst")
    interval = _seconds(given["interval"]) if "interval" in given else 0.0
    written = given["burst"].text() if "burst" in given else "0"
    if not re.fullmatch(r"\d{1,9}", written, re.ASCII):
        raise given["burst"].wrong("a whole number from 0")
    return RateLimit(interval, int(written)) if interval else None


def _seconds(entry: _Entry) -> float:
    """Return a duration as Go writes it; a bare number is nanoseconds."""
    written = entry.text()
    if re.fullmatch(r"\d+", written, re.ASCII):
        return int(written) * 1e-9
    part = rf"(\d+(?:\.\d*)?|\.\d+)({'|'.join(_UNITS)})"
    if not re.fullmatch(rf"(?:{part})+", written, re.ASCII):
        raise entry.wrong('a duration such as "1s", "500ms" or "1m30s"')
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(part, written, re.ASCII))
