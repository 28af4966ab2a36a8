"""Whether a request shows an image is told by its body, in the words of each API, and by the bytes of a large one."""

from __future__ import annotations

import json
import time
from collections import UserList, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from otel_llm.call import Call
from otel_llm.wire.formats import NAMES, format_of
from otel_llm.wire.images import has_image, has_images, written
from otel_llm.wire.openai_realtime import REALTIME, RESPONSES_EVENTS

URL = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "text", "text": 'Is this "type": "image"?'}
IMAGE_URL = {"type": "image_url", "image_url": {"url": URL}}
INPUT_IMAGE = {"type": "input_image", "image_url": URL}
BASE64 = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
BY_URL = {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}
BYTES = {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}


def says(*parts: Any, role: str = "user") -> list[dict[str, Any]]:
    """Return a conversation whose last message is of these parts."""
    return [{"role": "system", "content": "Be brief."}, {"role": role, "content": list(parts)}]


def contents(*parts: Any) -> dict[str, Any]:
    """Return a request of Gemini's."""
    return {"contents": [{"role": "user", "parts": [{"text": "What is it?"}, *parts]}]}


SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", {"messages": says(TEXT, IMAGE_URL)}),
    ("openai.chat", {"messages": [*says(IMAGE_URL), {"role": "assistant", "content": "A cat."}]}),
    ("openai.chat", {"messages": says({"type": "image", "image": URL})}),
    ("openai.chat", {"messages": says({"type": "image_url", "image_url": URL}, role="tool")}),
    ("groq.chat", {"messages": says(IMAGE_URL)}),
    ("cerebras.chat", {"messages": says(IMAGE_URL)}),
    ("openai.responses", {"input": says({"type": "input_text", "text": "?"}, INPUT_IMAGE)}),
    ("openai.responses", {"input": [INPUT_IMAGE]}),
    ("openai.responses", {"input": [{"type": "function_call_output", "call_id": "1", "output": [INPUT_IMAGE]}]}),
    (
        "openai.responses",
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": URL}}]},
    ),
    ("anthropic.messages", {"messages": says(TEXT, BASE64)}),
    ("anthropic.messages", {"messages": says(BY_URL)}),
    ("anthropic.messages", {"messages": says({"type": "tool_result", "tool_use_id": "1", "content": [BASE64]})}),
    (
        "anthropic.messages",
        {"messages": says({"type": "document", "source": {"type": "content", "content": [BASE64]}})},
    ),
    ("ollama.chat", {"messages": [{"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]}]}),
    ("ollama.generate", {"prompt": "What is it?", "images": ["iVBORw0KGgo="]}),
    ("gemini.generate", contents({"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}})),
    ("gemini.generate", contents({"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}})),
    ("gemini.generate", contents({"fileData": {"mimeType": "image/jpeg", "fileUri": "gs://b/a.jpg"}})),
    ("gemini.generate", {"contents": contents({"inlineData": {"mimeType": "image/png"}})["contents"][0]}),
    (
        "gemini.generate",
        contents({"functionResponse": {"name": "f", "parts": [{"inlineData": {"mimeType": "image/png"}}]}}),
    ),
    ("bedrock.converse", {"messages": says({"text": "?"}, BYTES)}),
    ("bedrock.converse", {"messages": says({"toolResult": {"toolUseId": "1", "content": [BYTES]}})}),
    ("bedrock.invoke", {"modelId": "nova", "messages": says(BYTES)}),
    ("bedrock.invoke", {"anthropic_version": "bedrock-2023-05-31", "messages": says(BASE64)}),
    ("cohere.chat", {"messages": says(IMAGE_URL)}),
    ("llama_cpp.completion", {"prompt": "[img-1]?", "image_data": [{"data": "iVBORw0KGgo=", "id": 1}]}),
]
NOT_SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", {"messages": says(TEXT)}),
    ("openai.chat", {"messages": says({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})}),
    ("openai.chat", {"messages": [{"role": "user", "content": URL}]}),
    ("openai.chat", {"messages": says(TEXT), "tools": [{"type": "function", "function": {"name": "image"}}]}),
    ("openai.chat", {}),
    ("openai.completions", {"prompt": URL}),
    ("openai.responses", {"input": URL}),
    ("openai.responses", {"input": says({"type": "input_file", "file_id": "1"})}),
    ("openai.images", {"prompt": "a cat", "image": [URL]}),
    ("openai.embeddings", {"input": [IMAGE_URL]}),
    ("anthropic.messages", {"messages": says({"type": "document", "source": {"type": "base64", "data": ""}})}),
    ("ollama.chat", {"messages": [{"role": "user", "content": "hi", "images": []}]}),
    ("ollama.generate", {"prompt": "hi", "images": None}),
    ("gemini.generate", contents({"inlineData": {"mimeType": "application/pdf", "data": ""}})),
    ("gemini.generate", {**contents(), "generationConfig": {"responseModalities": ["IMAGE"]}}),
    ("bedrock.converse", {"messages": says({"video": {"format": "mp4"}})}),
    ("cohere.embed", {"texts": [], "images": [URL]}),
]


def _read(name: str, body: dict[str, Any]) -> bool:
    call = Call()
    call.operation = format_of(name).operation
    format_of(name).read_request(call, body)
    return call.image


@pytest.mark.parametrize(("name", "body"), SHOWN)
def test_shown(name: str, body: dict[str, Any]) -> None:
    """The request shows an image."""
    assert _read(name, body) is True


@pytest.mark.parametrize(("name", "body"), NOT_SHOWN)
def test_not_shown(name: str, body: dict[str, Any]) -> None:
    """The request shows none, whatever its words are."""
    assert _read(name, body) is False


def test_of_events() -> None:
    """What is sent over a websocket to have a response tells it as well."""
    for format, event in (
        (REALTIME, {"response": {"input": says(INPUT_IMAGE)}}),
        (RESPONSES_EVENTS, {"input": [INPUT_IMAGE]}),
    ):
        call, plain = Call(), Call()
        format.read_request(call, event)
        format.read_request(plain, {"response": {"input": says(TEXT)}, "input": says(TEXT)})
        assert (True, False) == (call.image, plain.image)


class _Part(BaseModel):
    type: str
    image_url: str


class _Message(BaseModel):
    role: str = "user"
    content: str | list[_Part | dict[str, Any]] = ""
    images: list[str] | None = None


@dataclass
class _Plain:
    content: Any = None
    role: str = field(default="user")


class _Mapping(Mapping[str, Any]):
    def __init__(self, **own: Any) -> None:
        self._own = own

    def __getitem__(self, key: str) -> Any:
        return self._own[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


PART = _Part(type="input_image", image_url=URL)


@pytest.mark.parametrize(
    "messages",
    [
        [_Message(content=[PART])],
        (_Message(content="hi"), _Plain(content=(PART,))),
        deque([_Plain(content=deque([IMAGE_URL]))]),
        UserList([SimpleNamespace(content=[IMAGE_URL])]),
        [_Mapping(role="user", content=[_Mapping(**IMAGE_URL)])],
    ],
)
def test_objects(messages: Any) -> None:
    """Messages and parts may be objects of any kind, in any sequence."""
    assert has_image(messages) is True
    assert has_image(type(messages)([_Plain(content="hi")])) is False


def test_ollama_objects() -> None:
    """The same holds for the images beside a text."""
    assert has_images([_Message(content="hi"), _Message(content="hi", images=["x"])]) is True
    assert has_images([_Message(content="hi"), _Message(content="hi", images=[])]) is False


class _Angry:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class _AngryMapping(_Mapping):
    def get(self, key: str, default: Any = None) -> Any:
        raise RuntimeError(key)


def _nested(depth: int) -> Any:
    part: Any = IMAGE_URL
    for _ in range(depth):
        part = {"type": "tool_result", "content": [part]}
    return part


def _round() -> Any:
    part: dict[str, Any] = {"type": "tool_result"}
    part["content"] = [part]
    return part


ODD: list[Any] = [None, 1, "image", b"image", {"type": "image"}, {1}, [1, None, "image"], [_Angry()], [_AngryMapping()]]
ODD_CONTENTS: list[Any] = [
    0,
    b"x",
    {1},
    [_Angry()],
    [[]],
    [{"type": {}}],
    [{"type": [1]}],
    [{}],
    [_round()],
    [_nested(5000)],
]


@pytest.mark.parametrize(
    "odd", [*ODD, *[[{"content": odd}] for odd in ODD_CONTENTS]], ids=lambda odd: type(odd).__name__
)
def test_odd(odd: Any) -> None:
    """Nothing is raised for what no API takes."""
    assert has_image(odd) is False
    assert has_images(odd) is False


def test_iterators_are_left_alone() -> None:
    """An iterator of the caller's is not read: it is for the client that has to send it."""
    parts = iter([IMAGE_URL])
    messages = iter([{"role": "user", "content": parts}])

    assert has_image(messages) is False
    assert has_images(messages) is False
    assert has_image([{"role": "user", "content": parts}]) is False
    assert has_images([{"role": "user", "images": parts}]) is False
    assert [{"role": "user", "content": parts}] == list(messages)
    assert [IMAGE_URL] == list(parts)


LARGE = [(name, body) for name, body in SHOWN if name != "llama_cpp.completion"]


@pytest.mark.parametrize(("name", "body"), LARGE)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), None])
def test_bytes(name: str, body: dict[str, Any], separators: tuple[str, str] | None) -> None:
    """The bytes of a request that shows an image tell it, however they are written."""
    content = json.dumps(body, separators=separators, indent=None if separators else 2).encode()

    assert name in NAMES
    assert written(content, name.partition(".")[0]) is True


@pytest.mark.parametrize(
    ("name", "body"), [case for case in NOT_SHOWN if case[0] not in ("openai.embeddings", "cohere.embed")]
)
def test_bytes_without(name: str, body: dict[str, Any]) -> None:
    """Those of another do not, not even if its text looks like one that does."""
    tricky = {**body, "system": json.dumps([case for _, case in SHOWN])}

    assert written(json.dumps(tricky).encode(), name.partition(".")[0]) is False


def test_many_plain_messages_cost_little() -> None:
    """A long conversation of texts is looked at in far less than a microsecond for each message."""
    messages = [{"role": "user", "content": "hi"}] * 10_000
    best = min(_seconds(messages) for _ in range(5))

    assert best / len(messages) < 0.5e-6


def _seconds(messages: list[dict[str, str]]) -> float:
    begin = time.perf_counter()
    assert has_image(messages) is False
    return time.perf_counter() - begin
