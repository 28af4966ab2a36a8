"""Forms with files: their fields are read out of the bytes, or of what httpx is about to send."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from otel_llm.bodies.form import fields_of_bytes, fields_of_stream

FIELDS = {"model": "7", "n": 2, "temperature": -0.5, "stream": True, "language": "fr", "odd": "007", "é": "è", "no": ""}
WRITTEN = {name: str(value).lower() for name, value in FIELDS.items()}


def _form(file: bytes = b"sound", **more: str) -> Any:
    return httpx.Request("POST", "http://llm.test", data={**WRITTEN, **more}, files={"file": ("a.mp3", file)})


def test_what_is_about_to_be_sent() -> None:
    """Fields are read with what their texts mean, but for one that is long; nothing of the form is rendered for it."""
    request = _form(long="x" * 2000)

    assert FIELDS == fields_of_stream(request.stream)
    with pytest.raises(httpx.RequestNotRead):
        _ = request.content


def test_bytes() -> None:
    """The same fields are in the bytes, whatever the files hold."""
    request = _form(b'\r\n--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nfalse', long="x" * 2000)

    kind = request.headers["content-type"]
    assert FIELDS == fields_of_bytes(request.read(), kind)
    assert FIELDS == fields_of_bytes(request.content, kind.replace("=", '="') + '"; a=b')


def test_any_cut() -> None:
    """An excerpt tells some of the fields, and never a false one."""
    request = _form()
    form, kind = request.read(), request.headers["content-type"]
    for start in range(0, len(form), 7):
        for end in range(start, len(form), 7):
            told = fields_of_bytes(form[:start] + b"\0" + form[end:], kind)
            assert told.items() <= FIELDS.items()


@pytest.mark.parametrize(
    "kind", ["", "text/plain; boundary=x", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_no_form(kind: str) -> None:
    """Without the boundary nothing is read."""
    assert {} == fields_of_bytes(b"--x\r\n" * 3, kind)


@pytest.mark.parametrize("stream", [None, iter([b"--x"]), httpx.ByteStream(b"--x"), {"fields": [7, {"name": 1}]}])
def test_other_streams(stream: Any) -> None:
    """Any other stream tells nothing."""
    assert {} == fields_of_stream(stream)
