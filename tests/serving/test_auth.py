"""Users and tokens: who gets in, how long it takes to find out, and what a flood of wrong passwords does."""

from __future__ import annotations

import logging
import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from otel_llm.prometheus.web import auth
from otel_llm.prometheus.web.auth import Gate, RateLimit, Token
from otel_llm.prometheus.web.server import serve_metrics

from .clients import SITE, ask, basic, hashed, serve

bcrypt = pytest.importorskip("bcrypt")


USERS = {"ann": hashed("secret"), "bob": hashed("größer: ja").replace("$2b$", "$2y$")}


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that are being hashed."""
    seen: list[bytes] = []
    check = bcrypt.checkpw

    def checkpw(password: bytes, hash_: bytes) -> bool:
        seen.append(password)
        found: bool = check(password, hash_)
        return found

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return seen


@pytest.mark.parametrize(
    ("authorization", "admitted"),
    [
        (basic("ann", "secret"), True),
        (basic("bob", "größer: ja"), True),
        (basic("ann", "secret").replace("Basic", "BASIC"), True),
        (basic("ann", "wrong"), False),
        (basic("ann", "wrong\0"), False),
        (basic("ann", ""), False),
        (basic("bob", "secret"), False),
        (basic("eve", "secret"), False),
        (basic("", ""), False),
        ("", False),
        ("Basic", False),
        ("Basic !!!", False),
        ("Basic YW5u", False),
        ("Basic /w==", False),
        ("Bearer secret", False),
        ("Digest username=ann", False),
    ],
)
def test_users(authorization: str, admitted: bool) -> None:
    """Who has the password gets in, and nobody else."""
    gate = Gate(USERS)

    for _ in range(2):
        assert admitted is gate.admits(authorization)


def test_over_http() -> None:
    """Who may not see the page gets none of it, and is told how to ask; so on every path and by every method."""
    with serve(SITE._replace(gate=Gate(USERS, Token("t0ken")))) as page:
        for wrong in ("", basic("ann", "wrong"), "Bearer wrong"):
            for path, method in (("/metrics", "GET"), ("/metrics/none", "GET"), ("/metrics", "POST")):
                response, body = ask(page, path, method, Authorization=wrong)
                assert (401, b"Unauthorized.\n") == (response.status, body)
                assert ['Basic realm="metrics", charset="UTF-8"', 'Bearer realm="metrics"'] == response.headers.get_all(
                    "WWW-Authenticate"
                )
        assert 401 == ask(page)[0].status
        assert (401, b"") == (ask(page, method="HEAD")[0].status, ask(page, method="HEAD")[1])
        for right in (basic("ann", "secret"), "bearer t0ken"):
            assert 200 == ask(page, Authorization=right)[0].status


def test_a_password_is_hashed_once(hashing: list[bytes]) -> None:
    """A scrape every few seconds costs one hash in all; a wrong password costs one each time."""
    gate = Gate(USERS)

    for _ in range(5):
        assert gate.admits(basic("ann", "secret"))
    assert [b"secret"] == hashing
    for _ in range(2):
        assert not gate.admits(basic("ann", "wrong"))
    assert gate.admits(basic("ann", "secret"))
    assert [b"secret", b"wrong", b"wrong"] == hashing
    kept = repr(vars(gate))
    assert "secret" not in kept


def test_what_is_kept_is_bounded() -> None:
    """Whatever is asked, no more is kept than one digest of each user."""
    gate = Gate({"ann": hashed("x" * 72)})

    for count in range(72, 90):
        assert gate.admits(basic("ann", "x" * count))  # bcrypt looks at 72 bytes
        assert not gate.admits(basic(f"eve{count}", "x" * count))
    assert 1 == len(gate._admitted)


def test_unknown_users_take_as_long(hashing: list[bytes]) -> None:
    """An unknown user costs one hash, of the same cost as the dearest user's, and cannot be told by the time."""
    gate = Gate({"ann": hashed("secret", 8), "bob": hashed("secret", 4)})

    times: dict[str, list[float]] = {"ann": [], "eve": []}
    for _ in range(9):
        for user, taken in times.items():
            began = time.perf_counter()
            assert gate.admits(basic(user, "wrong")) is False
            taken.append(time.perf_counter() - began)
    assert 18 == len(hashing)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert 0.5 < known / unknown < 2


def test_costs_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is refused, and whatever their own hash costs, it comes to as many rounds as the dearest one's."""
    rounds: list[int] = []

    def checkpw(_: bytes, hash_: bytes) -> bool:
        rounds.append(2 ** int(hash_[4:6]))
        return False

    gate = Gate({f"cost{cost}": hashed("secret").replace("$04$", f"$0{cost}$") for cost in range(4, 10)})
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    for user in ("eve", *(f"cost{cost}" for cost in range(4, 10))):
        rounds.clear()
        assert gate.admits(basic(user, "wrong")) is False
        assert 2**9 == sum(rounds)


def test_a_flood_of_wrong_passwords() -> None:
    """Whoever has been let in goes on being answered at once, and the flood is told to come back."""
    gate = Gate({"ann": hashed("secret", 8), "slow": hashed("secret", 12)})
    assert gate.admits(basic("ann", "secret"))
    statuses: list[int] = []
    over = threading.Event()
    with serve(SITE._replace(gate=gate)) as page:

        def attack(number: int) -> None:
            while not over.is_set():
                statuses.append(ask(page, Authorization=basic("slow", f"wrong{number}"))[0].status)

        attackers = [threading.Thread(target=attack, args=(number,)) for number in range(20)]
        for attacker in attackers:
            attacker.start()
        try:
            while 503 not in statuses:
                time.sleep(0.01)
            began = time.perf_counter()
            for _ in range(5):
                assert 200 == ask(page, Authorization=basic("ann", "secret"))[0].status
            assert time.perf_counter() - began < 5
        finally:
            over.set()
            for attacker in attackers:
                attacker.join()
    assert {401, 503} == set(statuses)


def test_tokens() -> None:
    """Who has the token gets in, and nobody else."""
    gate = Gate(token=Token("t0ken=="))

    assert ['Bearer realm="metrics"'] == gate.challenges
    assert gate.admits("Bearer t0ken==")
    for other in ("", "Bearer", "Bearer ", "Bearer t0ken", "Bearer t0ken==x", "Basic t0ken==", "t0ken==", "Bearer ü"):
        assert gate.admits(other) is False


def test_a_token_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file is read anew; where it cannot be, the last token stays, and one line in the log says so."""
    file = tmp_path / "token"
    file.write_text("first\n")
    gate = Gate(token=Token(None, file))
    assert gate.admits("Bearer first")
    file.write_text("second")
    assert gate.admits("Bearer first") is False
    assert gate.admits("Bearer second")
    file.unlink()
    for _ in range(3):
        assert gate.admits("Bearer second")
    assert 1 == len([record for record in caplog.records if record.levelno == logging.ERROR])
    file.write_text("third")
    assert gate.admits("Bearer third")


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"basic_auth": {}}, ValueError, r"basic_auth=\{\}: expected at least one user"),
        ({"basic_auth": {"ann": "secret"}}, ValueError, "basic_auth.ann: expected a bcrypt hash"),
        ({"basic_auth": {"ann": "$2b$99$" + "a" * 53}}, ValueError, "basic_auth.ann: expected a bcrypt hash"),
        ({"basic_auth": {"a:b": USERS["ann"]}}, ValueError, "basic_auth: 'a:b': expected a user name"),
        ({"basic_auth": {"": USERS["ann"]}}, ValueError, "basic_auth: '': expected a user name"),
        ({"basic_auth": {"ann": b"x"}}, TypeError, "basic_auth must be a mapping"),
        ({"basic_auth": "ann"}, TypeError, "basic_auth must be a mapping .*, not str"),
        ({"bearer_token": ""}, ValueError, "bearer_token: expected a token"),
        ({"bearer_token": "a b"}, ValueError, "bearer_token: expected a token"),
        ({"bearer_token": b"x"}, TypeError, "bearer_token must be a string, not bytes"),
        ({"bearer_token": "x", "bearer_token_file": "y"}, ValueError, "bearer_token and bearer_token_file: expected"),
        ({"bearer_token_file": os.devnull}, ValueError, "bearer_token_file='/dev/null': expected a token"),
        ({"bearer_token_file": "/no/such"}, ValueError, "bearer_token_file='/no/such': cannot be read: No such"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], kind: type[Exception], said: str) -> None:
    """What is wrong is said at the start, by the name of the setting and without the secret."""
    with pytest.raises(kind, match=f"^{said}") as raised:
        serve_metrics(port=0, **settings)
    assert "secret" not in str(raised.value)


def test_without_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants passwords checked and has nothing to do it with is told what to install."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(auth, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'otel-llm\[serve\]'"):
        serve_metrics(port=0, basic_auth=USERS)


def test_a_rate() -> None:
    """So many at once, then one in each interval."""
    limit = RateLimit(0.2, 2)

    assert [True, True, False] == [limit.allows() for _ in range(3)]
    time.sleep(0.25)
    assert [True, False] == [limit.allows() for _ in range(2)]
    with serve(SITE._replace(rate_limit=RateLimit(60, 1))) as page:
        assert [200, 429] == [ask(page)[0].status for _ in range(2)]
