"""A real Prometheus scrapes the page through everything that protects it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.auth import Gate, Token
from otel_llm.prometheus.web.server import Page
from otel_llm.prometheus.web.tls import Contexts, simple
from tests.backends.fixtures import StartPrometheus
from tests.backends.servers import wait_until

from .clients import TEXT, hashed, place
from .conftest import Pki


def render(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
    """Show one sample, with the path as its label."""
    return TEXT, f'shown{{path="{path}"}} 1\n'.encode()


def test_prometheus(pki: Pki, prometheus_server: StartPrometheus, tmp_path: Path) -> None:
    """Who has certificate and password, or the token, gets the pages of its paths; who has not is down."""
    gate = Gate({"ann": hashed("secret", 10)}, Token("t0ken"))
    settings = simple({"certfile": pki.server, "client_ca": pki.ca}, None)
    assert settings is not None
    tls = {
        "ca_file": str(pki.ca),
        "cert_file": str(pki.client_cert),
        "key_file": str(pki.client_key),
        "server_name": "localhost",
    }
    with Page("127.0.0.1", 0, site=Site(render, gate=gate), contexts=Contexts(settings)) as page:
        target: dict[str, Any] = {"target": ":".join(map(str, place(page))), "scheme": "https", "tls_config": tls}
        user = {"basic_auth": {"username": "ann", "password": "secret"}}
        server = prometheus_server(
            {**target, **user, "job_name": "user"},
            {
                **target,
                "authorization": {"credentials": "t0ken"},
                "job_name": "token",
                "metrics_path": "/metrics/aegis",
            },
            {**target, "job_name": "nobody"},
            {**target, **user, "job_name": "stranger", "tls_config": {**tls, "cert_file": "", "key_file": ""}},
        )
        wait_until(lambda: len(server.query("count_over_time(up[1m]) >= 3")) == 4)
        shown = {labels["job"]: labels["path"] for labels, _ in server.query("shown")}
        up = {labels["job"]: value for labels, value in server.query("up")}

    assert {"user": "/metrics", "token": "/metrics/aegis"} == shown
    assert {"user": 1.0, "token": 1.0, "nobody": 0.0, "stranger": 0.0} == up
    assert {"ann"} == set(gate._admitted)
