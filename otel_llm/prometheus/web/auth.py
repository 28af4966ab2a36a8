"""Who may read a page: users with a password, bearers of a token, and how often."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any
from weakref import WeakSet

from otel_llm import forked

logger = logging.getLogger("otel_llm")

_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_TOKEN = re.compile(r"[!-~]+")
_REALM = 'realm="metrics"'
_QUEUE = 8
"""Most passwords that are being checked or wait for it: bcrypt is slow, and whoever has been let in does not wait."""

_gates: WeakSet[Gate] = WeakSet()


class Gate:
    """Lets in users by their password, and bearers of a token.

    Which users there are cannot be told from how long an answer takes. A password that was right is not hashed again:
    a keyed digest of it is kept, under a key that never leaves the process.

    Args:
        users: bcrypt hashes by name.
        token: a token, or the file that has it, which is read anew when it changes.
        setting: what the user calls *users*.

    Raises:
        ValueError: a hash is none; the message names the user.
        ImportError: there are users and `bcrypt` is not installed.
        TypeError: *users* is no mapping of strings.
    """

    def __init__(
        self, users: Mapping[str, str] | None = None, token: Token | None = None, setting: str = "basic_auth"
    ) -> None:
        self._token = token
        self._hashes = _hashes(users, setting)
        self._dearest = max(map(_cost, self._hashes.values()), default=10)
        self._key = secrets.token_bytes(32)
        self._admitted: dict[str, bytes] = {}
        self.challenges = [f'Basic {_REALM}, charset="UTF-8"'] if self._hashes else []
        if token is not None:
            self.challenges.append(f"Bearer {_REALM}")
        self.renew()
        _gates.add(self)

    def renew(self) -> None:
        """Forget who held the locks: in a forked child, that thread is not there to let go of them."""
        self._one = Lock()
        self._queue = Semaphore(_QUEUE)

    def admits(self, authorization: str) -> bool | None:
        """Whether an ``Authorization`` header is that of somebody who may; None if too many are asking."""
        scheme, _, credentials = authorization.partition(" ")
        match scheme.lower():
            case "bearer" if self._token is not None:
                given = credentials.strip().encode("utf-8", "surrogateescape")
                return hmac.compare_digest(given, self._token.current())
            case "basic" if self._hashes:
                found = _user(credentials.strip())
                return False if found is None else self._knows(*found)
            case _:
                return False

    def hashes(self, authorization: str) -> bool:
        """Whether it takes long to find out: somebody has a password who has not been let in with it before."""
        scheme, _, credentials = authorization.partition(" ")
        found = _user(credentials.strip()) if self._hashes and scheme.lower() == "basic" else None
        return found is not None and not self._remembers(found[0], self._digest(*found))

    def _digest(self, user: str, secret: bytes) -> bytes:
        return hmac.digest(self._key, user.encode() + b"\0" + secret, hashlib.sha256)

    def _remembers(self, user: str, digest: bytes) -> bool:
        return hmac.compare_digest(digest, self._admitted.get(user, b""))

    def _knows(self, user: str, secret: bytes) -> bool | None:
        digest = self._digest(user, secret)
        if self._remembers(user, digest):
            return True
        if not self._queue.acquire(blocking=False):
            return None
        try:
            # One at a time: a flood of wrong passwords takes one core and no more.
            with self._one:
                right = self._right(user, secret)
        except ValueError:  # no password of anybody's, such as one with a zero byte
            return False
        finally:
            self._queue.release()
        if right:
            self._admitted[user] = digest
        return right

    def _right(self, user: str, secret: bytes) -> bool:
        check = _bcrypt().checkpw
        hashed = self._hashes.get(user)
        if hashed is None:
            check(secret, _nobody(self._dearest))
            return False
        if check(secret, hashed):
            return True
        # Each cost takes twice as long as the one below: once more its own and all above come to the dearest.
        for cost in range(_cost(hashed), self._dearest):
            check(secret, _nobody(cost))
        return False


class Token:
    """A bearer token.

    Args:
        token: the token itself, or None.
        file: the path of the file that has it, read anew for each request, so that it can be replaced.

    Raises:
        ValueError: both are given; the file cannot be read; a token has other than visible ASCII characters, or none.
        TypeError: *token* is no string.
    """

    def __init__(self, token: str | None, file: str | os.PathLike[str] | None = None) -> None:
        if token is not None and file is not None:
            raise ValueError("bearer_token and bearer_token_file: expected one of them")
        if token is not None and not isinstance(token, str):
            raise TypeError(f"bearer_token must be a string, not {type(token).__name__}")
        self._file = None if file is None else Path(file)
        self._told = False
        self._token = _checked(token or "", "bearer_token") if self._file is None else self._read(self._file)

    def current(self) -> bytes:
        """Return the token; the last one that could be read, if the file can no longer be."""
        if self._file is not None:
            try:
                self._token, self._told = self._read(self._file), False
            except ValueError as error:
                if not self._told:
                    self._told = True
                    logger.error("otel_llm: %s; the one before it stays", error)
        return self._token

    def _read(self, file: Path) -> bytes:
        try:
            return _checked(file.read_text("utf-8").strip(), f"bearer_token_file={str(file)!r}")
        except OSError as error:
            raise ValueError(f"bearer_token_file={str(file)!r}: cannot be read: {error.strerror}") from error


class RateLimit:
    """A bucket of tokens, as the exporters' toolkit has it: one more each *interval*, *burst* at most.

    Args:
        interval: seconds.
        burst: how many requests may come at once.
    """

    def __init__(self, interval: float, burst: int) -> None:
        self._interval = interval
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Whether one more request may be answered now; that one counts."""
        now = time.monotonic()
        tokens = min(self._burst, self._tokens + (now - self._at) / self._interval)
        allowed = tokens >= 1
        self._tokens, self._at = tokens - allowed, now
        return allowed


def gate(
    basic_auth: Mapping[str, str] | None,
    bearer_token: str | None,
    bearer_token_file: str | os.PathLike[str] | None,
    setting: str = "basic_auth",
) -> Gate | None:
    """Return the gate for these settings, None if there are none.

    Raises:
        ValueError: as `Gate` and `Token` do; *basic_auth* is empty, which would let in everybody.
        TypeError, ImportError: as they do.
    """
    if basic_auth is not None and not basic_auth:
        raise ValueError(f"{setting}={basic_auth!r}: expected at least one user")
    token = Token(bearer_token, bearer_token_file) if (bearer_token, bearer_token_file) != (None, None) else None
    return Gate(basic_auth, token, setting) if basic_auth or token else None


def _checked(token: str, setting: str) -> bytes:
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{setting}: expected a token of visible ASCII characters")
    return token.encode()


def _hashes(users: Mapping[str, str] | None, setting: str) -> dict[str, bytes]:
    if not users:
        return {}
    if not isinstance(users, Mapping):
        raise TypeError(f"{setting} must be a mapping of user names to bcrypt hashes, not {type(users).__name__}")
    hashes: dict[str, bytes] = {}
    for user, hashed in users.items():
        if not isinstance(user, str) or not isinstance(hashed, str):
            raise TypeError(f"{setting} must be a mapping of user names to bcrypt hashes, both strings")
        if not user or ":" in user:
            raise ValueError(f"{setting}: {user!r}: expected a user name without a colon")
        wrong = f"{setting}.{user}: expected a bcrypt hash, such as $2b$10$ and 53 characters"
        if not _HASH.fullmatch(hashed):
            raise ValueError(wrong)
        hashes[user] = hashed.encode()
        try:
            # The salt alone, at the least cost.
            _bcrypt(setting).hashpw(b"", b"$2b$04$" + hashes[user][7:29])
        except ValueError as error:
            raise ValueError(wrong) from error
    return hashes


def _user(credentials: str) -> tuple[str, bytes] | None:
    try:
        user, colon, password = b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return None
    # What is beyond is no part of the hash.
    return (user, password.encode()[:72]) if colon else None


def _cost(hashed: bytes) -> int:
    return int(hashed[4:6])


def _nobody(cost: int) -> bytes:
    """Return a hash of this cost to which nothing hashes."""
    return b"$2b$%02d$" % cost + b"." * 53


def _bcrypt(setting: str = "basic_auth") -> Any:
    try:
        return import_module("bcrypt")
    except ModuleNotFoundError as error:
        raise ImportError(f"{setting} needs bcrypt: pip install 'otel-llm[serve]'") from error


def _renew_all() -> None:
    for each in list(_gates):
        each.renew()


forked.in_child(renew=_renew_all)
