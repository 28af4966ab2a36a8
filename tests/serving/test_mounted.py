"""The pages inside somebody else's server: by ASGI and WSGI alone, and in each framework as the docs have it."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import anyio
import pytest

import otel_llm
from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.asgi import AsgiApp
from otel_llm.prometheus.web.auth import Gate, Token
from otel_llm.prometheus.web.wsgi import app_of
from tests.documentation import ROOT, blocks

from .clients import LONG, SITE, TEXT, basic, hashed, until

GUARDED = SITE._replace(gate=Gate(token=Token("t0ken")))


# ASGI


def asgi(site: Site, path: str, method: str = "GET", run: Callable[..., Any] = asyncio.run, **scope: Any) -> Any:
    """Return status, headers and body of an answer."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def ask() -> None:
        full: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [],
            **scope,
        }
        await AsgiApp(site)(full, receive, send)

    run(ask)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def _asyncio(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def _trio(main: Callable[[], Any]) -> None:
    pytest.importorskip("trio").run(main)


@pytest.mark.parametrize("run", [_asyncio, _trio])
def test_asgi(run: Callable[..., Any]) -> None:
    """Everything that is asked for reaches the page, under either event loop."""
    headers = [(b"accept", b"text/plain"), (b"Accept", b"x/y"), (b"accept-encoding", b"gzip")]
    status, answered, body = asgi(
        SITE, "/m/long", run=run, root_path="/m", query_string=b"name%5B%5D=a&name[]=b", headers=headers
    )

    assert 200 == status
    assert b"/metrics/long text/plain, x/y a,b\n" + LONG == gzip.decompress(body)
    assert (b"gzip", TEXT.encode()) == (answered[b"content-encoding"], answered[b"content-type"])
    assert str(len(body)).encode() == answered[b"content-length"]
    status, answered, body = asgi(SITE, "/metrics", "HEAD", run)
    assert (200, b"11", b"") == (status, answered[b"content-length"], body)
    assert 405 == asgi(SITE, "/metrics", "POST", run)[0]
    assert 404 == asgi(SITE, "/metrics/none", run=run)[0]
    assert 500 == asgi(SITE, "/metrics/broken", run=run)[0]
    assert 401 == asgi(GUARDED, "/metrics", run=run)[0]
    assert 200 == asgi(GUARDED, "/metrics", run=run, headers=[(b"authorization", b"Bearer t0ken")])[0]


def test_the_event_loop_goes_on() -> None:
    """While a page is made that takes long, the event loop does other things."""
    meanwhile = threading.Event()

    def slow(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        assert meanwhile.wait(10)
        return TEXT, b""

    def run(main: Callable[[], Any]) -> None:
        async def both() -> None:
            async def other() -> None:
                meanwhile.set()

            await asyncio.gather(main(), other())

        asyncio.run(both())

    assert 200 == asgi(Site(slow), "/metrics", run=run)[0]


class Hanging:
    """A page that is made when it may be, and what is seen of it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: list[threading.Thread] = []
        self.users: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.retry: set[bytes | None] = set()

    def render(self, path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        self.threads.append(threading.current_thread())
        self.users.append(user.get())
        assert self.go.wait(10)
        return TEXT, b""

    async def ask(self, site: Site, number: int = 0, **headers: str) -> None:
        user.set(f"user{number}")

        async def send(message: MutableMapping[str, Any]) -> None:
            if "status" in message:
                self.statuses[message["status"]] += 1
                self.retry.add(dict(message["headers"]).get(b"retry-after"))

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": raw}
        await AsgiApp(site)(scope, _nothing, send)


async def reached(state: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    while not state():  # noqa: ASYNC110  # threads do it
        await anyio.sleep(0.01)


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError


user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_at_once(backend: str) -> None:
    """However many ask, two pages are made and eight wait, in threads that are not the application's."""
    pytest.importorskip(backend)
    page = Hanging()
    site = Site(page.render)

    async def main() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(page.ask, site, number)
                await reached(lambda: page.statuses[503] >= 20)
                await reached(lambda: len(page.threads) >= 2)
                page.go.set()

    try:
        anyio.run(main, backend=backend)
    finally:
        page.go.set()
    assert {200: 10, 503: 20} == page.statuses
    assert {b"1", None} == page.retry
    assert {("otel_llm mounted page", True)} == {(thread.name, thread.daemon) for thread in page.threads}
    assert 10 == len(set(page.users)) == len({*page.users} - {"nobody"})
    until(lambda: not any(thread.is_alive() for thread in page.threads))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_waits_no_longer(backend: str) -> None:
    """No page is made for a request that was given up before its turn."""
    pytest.importorskip(backend)
    page = Hanging()
    site = Site(page.render)

    async def main() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(2):
                    group.start_soon(page.ask, site, number)
                await reached(lambda: len(page.threads) >= 2)
                with anyio.move_on_after(0.05):
                    await page.ask(site, 2)
                page.go.set()

    try:
        anyio.run(main, backend=backend)
    finally:
        page.go.set()
    assert {200: 2} == page.statuses
    until(lambda: not any(thread.is_alive() for thread in page.threads))
    assert ["user0", "user1"] == sorted(page.users)


def test_wrong_passwords_are_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """While passwords are being checked, whoever has been let in is answered at once."""
    bcrypt = pytest.importorskip("bcrypt")
    page = Hanging()
    page.go.set()
    gate = Gate({"ann": hashed("secret")})
    site = Site(page.render, gate=gate)
    assert gate.admits(basic("ann", "secret"))
    over = threading.Event()

    def checkpw(_: bytes, __: bytes) -> bool:
        assert over.wait(10)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    async def main() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(partial(page.ask, site, authorization=basic("ann", f"wrong{number}")))
                await reached(lambda: page.statuses[503] >= 21)
                for _ in range(3):
                    await page.ask(site, authorization=basic("ann", "secret"))
                assert 3 == page.statuses[200]
                over.set()

    try:
        anyio.run(main)
    finally:
        over.set()
    assert {200: 3, 401: 9, 503: 21} == page.statuses


ENDING = """
import asyncio, os, time
from tests.serving.test_mounted import Hanging, TEXT
from otel_llm.prometheus.web.answer import Site

page = Hanging()

async def main():
    for number in range(12):
        asyncio.create_task(page.ask(Site(lambda *_: time.sleep(60)), number))
    await asyncio.sleep(0.2)
    print(dict(page.statuses), flush=True)

asyncio.run(main())
child = os.fork()
if not child:
    asyncio.run(page.ask(Site(lambda *_: (TEXT, b""))))
    print(dict(page.statuses), flush=True)
    raise SystemExit(3)
print("the child ended:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_ending_and_forking() -> None:
    """A page that hangs keeps no process from ending, and is in no forked child's way."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ENDING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert ["{503: 2}", "{503: 2, 200: 1}", "the child ended: 3"] == done.stdout.splitlines()
    assert ("", 0) == (done.stderr, done.returncode)


def test_no_threads_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the client is told to come back, and later there is one again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert [503, 503, 503] == [asgi(SITE, "/metrics", run=_asyncio)[0] for _ in range(3)]
    assert 200 == asgi(SITE, "/metrics", run=_asyncio)[0]


async def _events(scope: dict[str, Any], *received: str) -> list[str]:
    sent: list[str] = []
    queue = iter(received)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": next(queue)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await AsgiApp(SITE)(scope, receive, send)
    return sent


async def test_other_scopes() -> None:
    """A server may start and stop the application; it speaks no websockets, and nothing that is not known yet."""
    lived = await _events({"type": "lifespan"}, "lifespan.startup", "lifespan.shutdown")

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == lived
    assert ["websocket.close"] == await _events({"type": "websocket"}, "websocket.connect")
    with pytest.raises(ValueError, match="not x"):
        await _events({"type": "x"})


# WSGI


def wsgi(site: Site, **environ: Any) -> tuple[str, dict[str, str], bytes]:
    """Return status, headers and body of an answer, all of which is held against the specification."""
    environ.setdefault("SCRIPT_NAME", "")
    environ.setdefault("PATH_INFO", "/")
    setup_testing_defaults(environ)
    environ.setdefault("QUERY_STRING", "")
    begun: list[Any] = []

    def write(_: bytes) -> None:
        raise AssertionError

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        begun.extend([status, dict(headers)])
        return write

    found = validator(app_of(site))(environ, start_response)
    try:
        body = b"".join(found)
    finally:
        found.close()  # type: ignore[attr-defined]
    return begun[0], begun[1], body


def test_wsgi() -> None:
    """Everything that is asked for reaches the page."""
    status, headers, body = wsgi(
        SITE,
        SCRIPT_NAME="/m",
        PATH_INFO="/größe".encode().decode("latin-1"),
        QUERY_STRING="name[]=a&name[]=b",
        HTTP_ACCEPT="text/plain",
    )

    assert ("200 OK", "/metrics/größe text/plain a,b\n".encode()) == (status, body)
    assert (TEXT, str(len(body))) == (headers["Content-Type"], headers["Content-Length"])
    _, headers, body = wsgi(SITE, PATH_INFO="/long", HTTP_ACCEPT_ENCODING="gzip")
    assert b"/metrics/long  \n" + LONG == gzip.decompress(body)
    status, headers, body = wsgi(SITE, PATH_INFO="", SCRIPT_NAME="/metrics", REQUEST_METHOD="HEAD")
    assert ("200 OK", "11", b"") == (status, headers["Content-Length"], body)
    assert "405 Method Not Allowed" == wsgi(SITE, REQUEST_METHOD="POST")[0]
    assert "404 Not Found" == wsgi(SITE, PATH_INFO="/metrics/none")[0]
    assert "500 Internal Server Error" == wsgi(SITE, PATH_INFO="/broken")[0]
    assert "401 Unauthorized" == wsgi(GUARDED)[0]
    assert "200 OK" == wsgi(GUARDED, HTTP_AUTHORIZATION="Bearer t0ken")[0]


@pytest.mark.parametrize("make", [otel_llm.make_asgi_app, otel_llm.make_wsgi_app])
def test_wrong_settings(make: Callable[..., Any]) -> None:
    """What is wrong is said when the application is made."""
    with pytest.raises(ValueError, match=r"basic_auth\.ann: expected a bcrypt hash"):
        make(basic_auth={"ann": "secret"})
    with pytest.raises(ValueError, match="bearer_token: expected a token"):
        make(bearer_token="")


# in frameworks, as the docs have it

EXAMPLES = [block for block in blocks("python") if block.page.name == "serving.md" and "make_" in block.text]
WSGI_SERVER = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from example import app

class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
print(f"http://127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
"""
HOMES = {
    "FastAPI": "@app.get('/')\ndef home():\n    return 'shop'\n",
    "Starlette": "async def home(scope, receive, send):\n"
    "    from starlette.responses import PlainTextResponse\n"
    "    await PlainTextResponse('shop')(scope, receive, send)\n"
    "app.mount('/', home)\n",
    "django": "from django.http import HttpResponse\n"
    "from django.urls import path\n"
    "urlpatterns.append(path('', lambda request: HttpResponse('shop')))\n",
    "Flask": "@app.get('/')\ndef home():\n    return 'shop'\n",
}
"""What the applications of the docs answer besides, which is none of the docs' business."""


@contextmanager
def served(block_text: str, folder: Path) -> Generator[str]:
    """Serve an example in a process of its own, and return where."""
    home = next(
        text for framework, text in HOMES.items() if f"import {framework}" in block_text or framework in block_text
    )
    (folder / "example.py").write_text(f"{block_text}\n{home}", "utf-8")
    asgi = ["-m", "uvicorn", "example:app", "--port", "0", "--no-access-log"]
    command = asgi if "asgi" in block_text else ["-c", WSGI_SERVER]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environ, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stderr is not None
        found = None
        lines: list[str] = []
        while found is None:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
            found = re.search(r"http://127\.0\.0\.1:\d+", lines[-1])
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=20)


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    """Return status, where it came from in the end, and body."""
    try:
        with build_opener(ProxyHandler({})).open(Request(url, headers=headers, method=method), timeout=10) as answer:
            return answer.status, answer.url, answer.read()
    except HTTPError as error:
        with error:
            return error.code, url, error.read()


@pytest.mark.parametrize("block", EXAMPLES, ids=repr)
def test_frameworks(block: Any, tmp_path: Path) -> None:
    """Each example of the docs serves the application as before, and the pages beneath it, without a redirect."""
    for package in re.findall(r"^from (fastapi|starlette|django|flask)\b", block.text, re.MULTILINE):
        pytest.importorskip(package)
    with served(block.text, tmp_path) as url:
        assert b"shop" in get(url)[2]
        for path, shows in (
            ("/metrics", b"python_info"),
            ("/metrics/genai", b"python_info"),
            ("/metrics/aegis", b"llm_requests"),
        ):
            assert (200, url + path) == get(url + path)[:2]
            assert shows in get(url + path)[2]
            assert (200, b"") == get(url + path, "HEAD")[::2]
        status, _, body = get(f"{url}/metrics/none")
        assert (404, True) == (status, b"/metrics/aegis" in body)
        assert 405 == get(f"{url}/metrics/aegis", "POST")[0]
        compressed = get(f"{url}/metrics/tinyllm", **{"Accept-Encoding": "gzip"})[2]
        assert b"tinyllm_requests" in gzip.decompress(compressed)


def test_every_framework_is_in_the_docs() -> None:
    """The docs have an example for each of them."""
    assert 5 == len(EXAMPLES)


@pytest.mark.parametrize("block", [block for block in blocks("py") if block.page.name == "serving.md"], ids=repr)
def test_examples_with_files(block: Any, pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that needs files works where they are."""
    (pki.folder / "token").write_text("t0ken")
    monkeypatch.chdir(pki.folder)
    names: dict[str, Any] = {}
    exec(block.text, names)
    names["page"].close()


def test_the_example_of_a_web_config_file(pki: Any) -> None:
    """So does the file."""
    (block,) = [block for block in blocks("yaml") if "basic_auth_users" in block.text]
    file = pki.folder / "documented.yml"
    file.write_text(block.text)
    with otel_llm.serve_metrics(port=0, web_config=file) as page:
        assert page.url.startswith("https://")


def _page_of_serving() -> str:
    return (ROOT / "docs" / "serving.md").read_text("utf-8")


def test_the_password_of_the_docs() -> None:
    """What the docs say is the password of their hash gets in, and Prometheus is told the same."""
    bcrypt = pytest.importorskip("bcrypt")
    text = _page_of_serving()
    (hashed,) = set(re.findall(r"\$2b\$10\$[\w./]{53}", text))
    (password,) = re.findall(r"The password behind this hash is `(\w+)`", text)

    assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert [password] == re.findall(r"^ +password: (.+)$", text, re.MULTILINE)


def test_the_command_of_the_docs_makes_a_hash() -> None:
    """What the docs have Python run asks for a password and prints a hash of it that a page takes."""
    bcrypt = pytest.importorskip("bcrypt")
    (code,) = re.findall(r'^python -c "(.*)"$', _page_of_serving(), re.MULTILINE)
    # Without a terminal the password is read from the standard input.
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, input=b"s3cret\n", capture_output=True, start_new_session=True, check=True)

    hashed = done.stdout.split()[-1]
    assert bcrypt.checkpw(b"s3cret", hashed)
    otel_llm.make_wsgi_app(basic_auth={"ann": hashed.decode()})
