"""Web-config files of the Prometheus exporters' toolkit: what they mean here, and what is wrong with the wrong ones."""

from __future__ import annotations

import re
import ssl
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import otel_llm
from otel_llm.prometheus.web import web_config
from otel_llm.prometheus.web.server import serve_metrics, start
from otel_llm.prometheus.web.web_config import read_web_config

from .clients import ask, basic, connect, hashed
from .conftest import Pki

pytest.importorskip("yaml")

Write = Callable[..., Path]
CERTIFICATES = "cert_file: server_cert.pem\nkey_file: server_key.pem\n"


@pytest.fixture
def write(pki: Pki) -> Write:
    """Writes a file next to the certificates."""

    def write(text: str, tls: str = "") -> Path:
        file = pki.folder / "web.yml"
        section = "tls_server_config:\n" + textwrap.indent(CERTIFICATES + tls, "  ") if tls else ""
        file.write_text(section + text, "utf-8")
        return file

    return write


def test_everything(pki: Pki, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file says it all: certificates relative to it, clients, versions, ciphers, headers, users."""
    file = write(
        f"""
http_server_config:
  http2: true
  headers:
    X-Frame-Options: deny
    X-XSS-Protection: 1
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    Content-Security-Policy:
basic_auth_users:
  ann: {hashed("secret")}
  123: {hashed("number")}
""",
        tls="""
client_auth_type: RequireAndVerifyClientCert
client_ca_file: ca.pem
client_allowed_sans: [scraper.example]
min_version: TLS12
max_version: TLS12
cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]
prefer_server_cipher_suites: false
curve_preferences: [CurveP384]
""",
    )
    monkeypatch.chdir(tmp_path)
    with serve_metrics("localhost", 0, web_config=file) as page:
        assert page.url.startswith("https://")
        for user, password in (("ann", "secret"), ("123", "number")):
            response, _ = ask(page, tls=pki.client("client"), Authorization=basic(user, password))
            assert 200 == response.status
            assert "deny" == response.headers["X-Frame-Options"]
            assert "1" == response.headers["X-XSS-Protection"]
            assert "max-age=31536000; includeSubDomains" == response.headers["Strict-Transport-Security"]
            assert response.headers["Content-Security-Policy"] is None
        response, _ = ask(page, tls=pki.client("client"))
        assert (401, "deny") == (response.status, response.headers["X-Frame-Options"])
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(page, tls=pki.client())
        with pki.client("client").wrap_socket(connect(page), server_hostname="localhost") as connection:
            assert ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", 256) == connection.cipher()


def test_the_variable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_LLM_WEB_CONFIG` names the file, for a page that is served by itself, too."""
    monkeypatch.setenv("OTEL_LLM_WEB_CONFIG", str(write(f"basic_auth_users: {{ann: {hashed('secret')}}}")))
    with serve_metrics(port=0, bearer_token="t0ken") as page:
        assert 401 == ask(page)[0].status
        for authorization in (basic("ann", "secret"), "Bearer t0ken"):
            assert 200 == ask(page, Authorization=authorization)[0].status
    own = start(("127.0.0.1", 0), explicit=True)
    assert own is not None
    with own as page:
        assert [401, 200] == [ask(page)[0].status, ask(page, Authorization=basic("ann", "secret"))[0].status]


def test_a_wrong_file_serves_nothing(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page is never served to everybody because the file that protects it is wrong."""
    monkeypatch.setenv("OTEL_LLM_WEB_CONFIG", str(write("basic_auth: {}")))
    assert start(("127.0.0.1", 0), explicit=False) is None
    (record,) = caplog.records
    assert "no Prometheus page on 127.0.0.1:0: OTEL_LLM_WEB_CONFIG=" in record.message
    with pytest.raises(ValueError, match="basic_auth: expected one of"):
        start(("127.0.0.1", 0), explicit=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("basic_auth: {}", ", line 1: basic_auth: expected one of"),
        ("basic_auth_users: {ann: x}", ": basic_auth_users.ann: expected a bcrypt hash"),
        ("tls_server_config: {cert_file: no, key_file: no}", ": tls_server_config.cert_file=.*cannot be read"),
        (None, ": cannot be read"),
    ],
)
def test_the_variable_is_named(
    text: str | None, said: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with a file that `OTEL_LLM_WEB_CONFIG` names is said by that name."""
    file = tmp_path / "none" if text is None else write(text)
    monkeypatch.setenv("OTEL_LLM_WEB_CONFIG", str(file))
    message = f"^OTEL_LLM_WEB_CONFIG='{file}'{said}"
    with pytest.raises(ValueError, match=message):
        serve_metrics(port=0)
    with pytest.raises(ValueError, match=message):
        otel_llm.instrument(serve="127.0.0.1:0")


@pytest.mark.parametrize(("missing", "text"), [("yaml", ""), ("bcrypt", "users")])
def test_what_to_install(
    missing: str,
    text: str,
    unset: None,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the extra, `instrument()` says what to install, as an error or in the log, as for a taken port."""
    file = write(f"basic_auth_users: {{ann: {hashed('secret')}}}" if text else "")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("OTEL_LLM_WEB_CONFIG", str(file))
    said = rf"OTEL_LLM_WEB_CONFIG='{file}'.* needs .*: pip install 'otel-llm\[serve\]'"
    with pytest.raises(ImportError, match=f"^{said}"):
        otel_llm.instrument(serve="127.0.0.1:0")
    assert [] == caplog.records
    assert None is otel_llm.instrument().url
    (record,) = caplog.records
    assert re.match(f"otel_llm: no Prometheus page on localhost:9464: {said}", record.message)


def test_both(pki: Pki, write: Write) -> None:
    """What a file is there for is not to be given twice."""
    doubled: dict[str, Any]
    for doubled in ({"certfile": pki.server}, {"basic_auth": {"ann": hashed("x")}}):
        with pytest.raises(ValueError, match=f"^{next(iter(doubled))}: expected in the web config file"):
            serve_metrics(port=0, web_config=write(""), **doubled)
    with pytest.raises(ValueError, match="client_auth_required: expected in the web config file"):
        serve_metrics(port=0, web_config=write(""), client_auth_required=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "tls_server_config:\n",
        "tls_server_config: {cert_file: '', key_file: ''}",
        "basic_auth_users: {}\nhttp_server_config: {http2: off}",
        "rate_limit: {interval: 0, burst: 0}",
    ],
)
def test_nothing(write: Write, text: str) -> None:
    """A file that says nothing protects nothing."""
    with serve_metrics("127.0.0.1", 0, web_config=write(text)) as page:
        assert page.url.startswith("http://")
        assert 200 == ask(page)[0].status


def test_a_rate(write: Write) -> None:
    """A rate limit holds for all requests together."""
    with serve_metrics("127.0.0.1", 0, web_config=write("rate_limit: {interval: 1h30m, burst: 2}")) as page:
        assert [200, 200, 429] == [ask(page)[0].status for _ in range(3)]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1s", 1), ('"500ms"', 0.5), ("1m30s", 90), ("1.5h", 5400), ("10us", 1e-5), ("1000000000", 1), (".5s", 0.5)],
)
def test_durations(write: Write, written: str, seconds: float) -> None:
    """Durations are spelled as Go does it."""
    limit = read_web_config(write(f"rate_limit: {{interval: {written}, burst: 1}}")).rate_limit

    assert limit is not None
    assert pytest.approx(seconds) == limit._interval


def test_text_in_the_file(pki: Pki, write: Write) -> None:
    """Certificates and keys can be in the file itself."""
    sections = {"cert": pki.server_cert, "key": pki.server_key, "client_ca": pki.ca}
    text = "tls_server_config:\n  client_auth_type: VerifyClientCertIfGiven\n"
    for name, file in sections.items():
        text += f"  {name}: |\n{textwrap.indent(file.read_text(), '    ')}"
    with serve_metrics("localhost", 0, web_config=write(text)) as page:
        assert 200 == ask(page, tls=pki.client())[0].status
        assert 200 == ask(page, tls=pki.client("client"))[0].status


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("NoClientCert", ssl.CERT_NONE),
        ("RequestClientCert", ssl.CERT_NONE),
        ("VerifyClientCertIfGiven\nclient_ca_file: ca.pem", ssl.CERT_OPTIONAL),
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert\nclient_ca_file: ca.pem", ssl.CERT_REQUIRED),
    ],
)
def test_policies(write: Write, policy: str, expected: ssl.VerifyMode) -> None:
    """Each of Go's policies that Python can keep means what it says."""
    tls = read_web_config(write("", f"client_auth_type: {policy}")).tls

    assert tls is not None
    assert expected == tls.verify


def test_unverified_clients_stay_outside(pki: Pki, write: Write) -> None:
    """Without authorities, a certificate that is shown is one of a stranger."""
    file = write("", "client_auth_type: VerifyClientCertIfGiven")
    with serve_metrics("localhost", 0, web_config=file) as page:
        assert 200 == ask(page, tls=pki.client())[0].status
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(page, tls=pki.client("client"))


def test_every_cipher_and_curve(write: Write) -> None:
    """Every suite of the toolkit's is one of OpenSSL's, every curve is taken; only suites of TLS 1.3 mean TLS 1.3."""
    for name, cipher in web_config._CIPHERS.items():
        tls = read_web_config(write("", f"cipher_suites: [{name}]")).tls
        assert tls is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(tls.ciphers or "")
        assert cipher in [known["name"] for known in context.get_ciphers()]
    tls = read_web_config(write("", f"curve_preferences: [{', '.join(web_config._CURVES)}]")).tls
    assert tls is not None
    tls = read_web_config(write("", f"cipher_suites: [{', '.join(web_config._TLS_13)}]")).tls
    assert tls is not None
    assert (ssl.TLSVersion.TLSv1_3, None) == (tls.minimum, tls.ciphers)


KNOWN = "tls_server_config, http_server_config, basic_auth_users, rate_limit"
POLICIES = "NoClientCert, RequestClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"


@pytest.mark.parametrize(
    ("text", "tls", "said"),
    [
        ("tls: {}", "", f", line 1: tls: expected one of {KNOWN}"),
        ("- a", "", ", line 1: the file: expected a mapping"),
        ("words", "", ", line 1: the file: expected a mapping"),
        ("a: [", "", ": is no YAML: "),
        ("[" * 5000, "", ": is nested too deep$"),
        ("? &a [*a]\n: x", "", ", line 1: the file: expected a mapping of strings$"),
        ("a: 1\n--- \nb: 2", "", ": is no YAML: "),
        ("rate_limit: {}\nrate_limit: {}", "", ", line 2: rate_limit: expected the key once"),
        ("", "cert_fil: x", ", line 4: tls_server_config.cert_fil: expected tls_server_config with one of cert_file, "),
        ("tls_server_config: 5", "", ", line 1: tls_server_config: expected a mapping"),
        ("tls_server_config: {cert_file: x}", "", ", line 1: tls_server_config: expected key_file"),
        ("tls_server_config: {key_file: x}", "", ", line 1: tls_server_config: expected cert_file"),
        ("tls_server_config: {client_auth_type: NoClientCert}", "", ".*tls_server_config: expected cert_file and key"),
        ("tls_server_config: {cert_file: [x]}", "", ".*tls_server_config.cert_file: expected a string"),
        ("tls_server_config: {cert_file: x, key_file: y}", "", ": tls_server_config.cert_file='.*/x': cannot be read"),
        (
            "tls_server_config: {cert_file: server_cert.pem, key_file: y}",
            "",
            ": tls_server_config.key_file='.*/y': cannot be read",
        ),
        (
            "tls_server_config: {cert_file: server_cert.pem, key_file: client_key.pem}",
            "",
            ": tls_server_config.key_file='.*client_key.pem': the key is not that of web_config=.*cert_file=",
        ),
        ("tls_server_config: {cert: x, key: y}", "", ": tls_server_config.cert: expected certificates in PEM"),
        ("", "cert: x", ", line 4: tls_server_config.cert: expected it or cert_file, not both"),
        ("", "client_auth_type: Maybe", f".*client_auth_type: expected one of {POLICIES}"),
        ("", "client_auth_type: [NoClientCert]", ".*client_auth_type: expected one of"),
        ("", "client_auth_type: RequireAnyClientCert", f".*client_auth_type: expected one of {POLICIES}; Python"),
        ("", "client_auth_type: RequireAndVerifyClientCert", ".*client_auth_type: expected client_ca_file beside"),
        ("", "client_ca_file: ca.pem", ".*client_ca_file: expected a client_auth_type beside it"),
        (
            "",
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: x",
            ": tls_server_config.client_ca_file='.*/x': cannot be read",
        ),
        ("", "client_allowed_sans: [a]", ".*client_allowed_sans: expected a client_auth_type that verifies"),
        ("", "client_allowed_sans: a", ".*client_allowed_sans: expected a"),
        ("", "min_version: TLS11", ".*min_version: expected one of TLS12, TLS13"),
        ("", "max_version: 1.2", ".*max_version: expected one of TLS12, TLS13"),
        ("", "min_version: TLS13\nmax_version: TLS12", ".*max_version: expected no less than min_version"),
        ("", "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", r".*cipher_suites\[0\]: expected one of TLS_ECDHE_ECDSA"),
        ("", "cipher_suites: TLS_AES_128_GCM_SHA256", ".*cipher_suites: expected a list"),
        (
            "",
            "max_version: TLS12\ncipher_suites: [TLS_AES_128_GCM_SHA256]",
            ".*cipher_suites: expected a suite of TLS 1.2",
        ),
        ("", "prefer_server_cipher_suites: maybe", ".*prefer_server_cipher_suites: expected true or false"),
        ("", "curve_preferences: [X25519, CurveP257]", r".*curve_preferences\[1\]: expected one of CurveP256, "),
        ("http_server_config: {http3: true}", "", ".*http_server_config.http3: expected .* one of http2, headers"),
        ("http_server_config: {http2: 2}", "", ".*http_server_config.http2: expected true or false"),
        ("http_server_config: {headers: {Server: x}}", "", ".*headers.Server: expected .* one of Content-Security"),
        ("http_server_config: {headers: {X-Frame-Options: no}}", "", ".*X-Frame-Options: expected deny or sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: x}}", "", ".*Type-Options: expected nosniff"),
        (
            'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nb: c"}}',
            "",
            ".*Content-Security-Policy: expected one line",
        ),
        ("basic_auth_users: [ann]", "", ".*basic_auth_users: expected a mapping"),
        ("basic_auth_users: {ann: secret}", "", ": basic_auth_users.ann: expected a bcrypt hash"),
        ("basic_auth_users: {ann: }", "", ".*basic_auth_users.ann: expected a string"),
        ("basic_auth_users: {ann: x, ann: y}", "", ".*basic_auth_users.ann: expected the key once"),
        ("rate_limit: {interval: fast, burst: 1}", "", ".*rate_limit.interval: expected a duration"),
        ("rate_limit: {interval: 1s, burst: -1}", "", ".*rate_limit.burst: expected a whole number"),
        ("rate_limit: {per: 1s}", "", ".*rate_limit.per: expected rate_limit with one of interval, burst"),
    ],
)
def test_wrong_files(write: Write, text: str, tls: str, said: str) -> None:
    """What is wrong is said at the start: the file, the line, the key, and what is accepted; never a secret."""
    file = write(text, tls)

    with pytest.raises(ValueError, match=f"^web_config='{file}'{said}") as raised:
        serve_metrics(port=0, web_config=file)
    assert "secret" not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, or is none, is said to be so."""
    for file, said in ((tmp_path / "x.yml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ValueError, match=f"web_config='{file}': cannot be read: {said}"):
            serve_metrics(port=0, web_config=file)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no YAML"):
        serve_metrics(port=0, web_config=tmp_path / "binary")


def test_without_yaml(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no YAML parser is told what to install."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(web_config, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'otel-llm\[serve\]'"):
        serve_metrics(port=0, web_config=write(""))
