"""What the known endpoints are asked, what they answer, and what is to be told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from otel_llm.testing.server import Reply, sse
from otel_llm_semconv import attributes as names

TOKENS = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
IMAGE_USAGE = {**TOKENS, "input_tokens_details": {"image_tokens": 4, "text_tokens": 6}}
SPOKEN = {"type": "tokens", **TOKENS, "input_token_details": {"audio_tokens": 9, "text_tokens": 1}}
RESPONSES_USAGE = {
    **TOKENS,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 5},
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5-x",
    "status": "completed",
    "output": [],
    "usage": RESPONSES_USAGE,
}
RUN: dict[str, Any] = {
    "id": "run_1",
    "object": "thread.run",
    "assistant_id": "asst_1",
    "thread_id": "thread_1",
    "model": "gpt-5-x",
    "status": "queued",
    "usage": None,
}
RUN_USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
DONE = {**RUN, "status": "completed", "usage": RUN_USAGE}
STARTED: dict[str, Any] = {"id": "msg_1", "object": "thread.message", "content": []}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "object": "thread.message.delta",
    "delta": {"content": [{"type": "text", "index": 0, "text": {"value": "Paris"}}]},
}


def events(*pairs: tuple[str, dict[str, Any]]) -> Reply:
    """Stream assistant events, whose name is on the line above their data."""
    chunks = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in pairs]
    return Reply(chunks=[*chunks, "event: done\ndata: [DONE]\n\n"], headers={"content-type": "text/event-stream"})


RUN_EVENTS = events(
    ("thread.run.created", RUN),
    ("thread.message.created", STARTED),
    ("thread.message.delta", MESSAGE),
    ("thread.run.step.completed", {"id": "step_1", "object": "thread.run.step", "usage": RUN_USAGE}),
    ("thread.run.completed", DONE),
)
USED = {names.GEN_AI_USAGE_INPUT_TOKENS: 10, names.GEN_AI_USAGE_OUTPUT_TOKENS: 20}
PAINTED = {**USED, names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS: 4, names.GEN_AI_USAGE_TEXT_INPUT_TOKENS: 6}
HEARD = {**USED, names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS: 9, names.GEN_AI_USAGE_TEXT_INPUT_TOKENS: 1}
THOUGHT = {
    **USED,
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 3,
    names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: 2,
    names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 5,
}
RAN = {
    **USED,
    names.GEN_AI_AGENT_ID: "asst_1",
    names.GEN_AI_CONVERSATION_ID: "thread_1",
    names.GEN_AI_RESPONSE_ID: "run_1",
    names.GEN_AI_RESPONSE_MODEL: "gpt-5-x",
    names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
}
IMAGE, SPEECH, TEXT = ({names.GEN_AI_OUTPUT_TYPE: kind} for kind in ("image", "speech", "text"))
FETCHED = {
    names.OPENAI_API_TYPE: "responses",
    names.GEN_AI_RESPONSE_ID: "resp_1",
    names.GEN_AI_RESPONSE_MODEL: "gpt-5-x",
    names.GEN_AI_RESPONSE_STATUS: "completed",
    names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
}
AUDIO = ("a.mp3", b"sound")

Case = tuple[str, Callable[[Any], Any], Reply, str, dict[str, Any]]
"""What the client needs, the call, the answer, the name of the span, and the attributes that depend on it."""

KNOWN: dict[str, Case] = {
    "images.generate": (
        "images",
        lambda c: c.images.generate(model="gpt-image-2", prompt="a cat", n=2),
        Reply(json={"created": 1, "data": [], "usage": IMAGE_USAGE}),
        "generate_content gpt-image-2",
        {**IMAGE, **PAINTED, names.GEN_AI_REQUEST_CHOICE_COUNT: 2},
    ),
    "images.edit": (
        "images",
        lambda c: c.images.edit(model="gpt-image-2", image=b"x", prompt="a cat"),
        Reply(json={"created": 1, "data": [], "usage": IMAGE_USAGE}),
        "generate_content gpt-image-2",
        {**IMAGE, **PAINTED},
    ),
    "images.create_variation": (
        "images",
        lambda c: c.images.create_variation(model="dall-e-2", image=b"x"),
        Reply(json={"created": 1, "data": []}),
        "generate_content dall-e-2",
        IMAGE,
    ),
    "images streamed": (
        "types.image_gen_completed_event",
        lambda c: c.images.generate(model="gpt-image-2", prompt="a cat", stream=True),
        sse(
            {"type": "image_generation.partial_image", "b64_json": "", "partial_image_index": 0},
            {"type": "image_generation.completed", "b64_json": "", "usage": IMAGE_USAGE},
        ),
        "generate_content gpt-image-2",
        {**IMAGE, **PAINTED, names.GEN_AI_REQUEST_STREAM: True, names.OTEL_LLM_STREAM_CHUNKS: 2},
    ),
    "speech": (
        "audio.speech",
        lambda c: c.audio.speech.create(model="tts-2", voice="alloy", input="hello"),
        Reply(body=b"\xff\xfbsound", headers={"content-type": "audio/mpeg"}),
        "generate_content tts-2",
        SPEECH,
    ),
    "transcription": (
        "audio.transcriptions",
        lambda c: c.audio.transcriptions.create(model="transcribe-1", file=AUDIO, temperature=0),
        Reply(json={"text": "hello", "usage": SPOKEN}),
        "generate_content transcribe-1",
        {**TEXT, **HEARD, names.GEN_AI_REQUEST_TEMPERATURE: 0.0},
    ),
    "transcription by duration": (
        "audio.transcriptions",
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=AUDIO),
        Reply(json={"text": "hello", "usage": {"type": "duration", "seconds": 3.5}}),
        "generate_content whisper-1",
        TEXT,
    ),
    "transcription as srt": (
        "audio.transcriptions",
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=AUDIO, response_format="srt"),
        Reply(body=b"1\n00:00 --> 00:01\nhello", headers={"content-type": "text/plain"}),
        "generate_content whisper-1",
        TEXT,
    ),
    "transcription streamed": (
        "types.audio.transcription_text_done_event",
        lambda c: c.audio.transcriptions.create(model="transcribe-1", file=AUDIO, stream=True),
        sse(
            {"type": "transcript.text.delta", "delta": "hello"},
            {"type": "transcript.text.done", "text": "hello", "usage": SPOKEN},
        ),
        "generate_content transcribe-1",
        {**TEXT, **HEARD, names.GEN_AI_REQUEST_STREAM: True, names.OTEL_LLM_STREAM_CHUNKS: 2},
    ),
    "translation": (
        "audio.translations",
        lambda c: c.audio.translations.create(model="whisper-1", file=AUDIO),
        Reply(json={"text": "hello"}),
        "generate_content whisper-1",
        TEXT,
    ),
    "moderation": (
        "moderations",
        lambda c: c.moderations.create(model="mod-1", input="hello"),
        Reply(json={"id": "modr_1", "model": "mod-1-x", "results": []}),
        "moderation mod-1",
        {names.GEN_AI_RESPONSE_ID: "modr_1", names.GEN_AI_RESPONSE_MODEL: "mod-1-x"},
    ),
    "decision": (
        "decisions",
        lambda c: c.decisions.create(model="gpt-6-luna", input="hello", questions=[]),
        Reply(json={"answers": [], "model": "gpt-6-luna-x", "usage": RESPONSES_USAGE}),
        "decision gpt-6-luna",
        {**THOUGHT, names.GEN_AI_RESPONSE_MODEL: "gpt-6-luna-x"},
    ),
    "compact": (
        "responses.compact",
        lambda c: c.responses.compact(model="gpt-5", input="hello"),
        Reply(json={"id": "resp_1", "object": "response.compaction", "output": [], "usage": RESPONSES_USAGE}),
        "compact_response gpt-5",
        {**THOUGHT, names.OPENAI_API_TYPE: "responses", names.GEN_AI_RESPONSE_ID: "resp_1"},
    ),
    "run": (
        "beta.threads.runs",
        lambda c: c.beta.threads.runs.create("thread_1", assistant_id="asst_1", model="gpt-5", temperature=1),
        Reply(json=DONE),
        "invoke_agent",
        {**RAN, names.GEN_AI_REQUEST_MODEL: "gpt-5", names.GEN_AI_REQUEST_TEMPERATURE: 1.0},
    ),
    "run streamed": (
        "beta.threads.runs",
        lambda c: c.beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=True),
        RUN_EVENTS,
        "invoke_agent",
        {**RAN, names.GEN_AI_REQUEST_STREAM: True, names.OTEL_LLM_STREAM_CHUNKS: 5},
    ),
    "thread and run": (
        "beta.threads.runs",
        lambda c: c.beta.threads.create_and_run(assistant_id="asst_1", stream=True),
        RUN_EVENTS,
        "invoke_agent",
        {**RAN, names.GEN_AI_REQUEST_STREAM: True},
    ),
    "tool outputs": (
        "beta.threads.runs",
        lambda c: c.beta.threads.runs.submit_tool_outputs("run_1", thread_id="thread_1", tool_outputs=[]),
        Reply(json=DONE),
        "invoke_agent",
        RAN,
    ),
}
"""Calls that run a model."""

UNCOUNTED: dict[str, Case] = {
    "retrieve": (
        "responses",
        lambda c: c.responses.retrieve("resp_1"),
        Reply(json=RESPONSE),
        "fetch_response",
        FETCHED,
    ),
    "retrieve a failed one": (
        "responses",
        lambda c: c.responses.retrieve("resp_1"),
        Reply(json={**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "no"}}),
        "fetch_response",
        {**FETCHED, names.GEN_AI_RESPONSE_STATUS: "failed", names.GEN_AI_RESPONSE_FINISH_REASONS: ("error",)},
    ),
    "retrieve streamed": (
        "types.responses.response_queued_event",
        lambda c: c.responses.retrieve("resp_1", stream=True, starting_after=3),
        sse(
            {"type": "response.output_text.delta", "sequence_number": 4, "delta": "x"},
            {"type": "response.completed", "sequence_number": 5, "response": RESPONSE},
        ),
        "fetch_response",
        {**FETCHED, names.GEN_AI_REQUEST_STREAM: True, names.GEN_AI_REQUEST_STREAM_CURSOR: "3"},
    ),
    "cancel": (
        "responses.cancel",
        lambda c: c.responses.cancel("resp_1"),
        Reply(json={**RESPONSE, "status": "cancelled"}),
        "cancel_response",
        {**FETCHED, names.GEN_AI_RESPONSE_STATUS: "cancelled", names.GEN_AI_RESPONSE_FINISH_REASONS: ("error",)},
    ),
    "count tokens": (
        "responses.input_tokens",
        lambda c: c.responses.input_tokens.count(model="gpt-5", input="hello"),
        Reply(json={"input_tokens": 10, "object": "response.input_tokens"}),
        "count_tokens gpt-5",
        {names.OPENAI_API_TYPE: "responses"},
    ),
    "assistant": (
        "beta.assistants",
        lambda c: c.beta.assistants.create(model="gpt-5", name="Ann", description="helps", instructions="secret"),
        Reply(json={"id": "asst_1", "model": "gpt-5", "object": "assistant"}),
        "create_agent Ann",
        {
            names.GEN_AI_REQUEST_MODEL: "gpt-5",
            names.GEN_AI_RESPONSE_MODEL: "gpt-5",
            names.GEN_AI_AGENT_ID: "asst_1",
            names.GEN_AI_AGENT_NAME: "Ann",
            names.GEN_AI_AGENT_DESCRIPTION: "helps",
        },
    ),
    "agent": (
        "beta.agents",
        lambda c: c.beta.agents.create(model="gpt-5", name="Ann"),
        Reply(json={"id": "agent_1", "object": "agent"}),
        "create_agent Ann",
        {names.GEN_AI_AGENT_ID: "agent_1", names.GEN_AI_AGENT_NAME: "Ann"},
    ),
    "search": (
        "vector_stores.search",
        lambda c: c.vector_stores.search("vs_1", query="hello", max_num_results=5),
        Reply(json={"object": "vector_store.search_results.page", "data": [], "has_more": False}),
        "retrieval vs_1",
        {names.GEN_AI_DATA_SOURCE_ID: "vs_1", names.GEN_AI_RETRIEVAL_TOP_K: 5},
    ),
    "video": (
        "videos",
        lambda c: c.videos.create(model="sora-3", prompt="a cat"),
        Reply(json={"id": "video_1", "model": "sora-3", "status": "queued", "object": "video"}),
        "create_video sora-3",
        {names.GEN_AI_RESPONSE_ID: "video_1", names.GEN_AI_RESPONSE_MODEL: "sora-3"},
    ),
    "video remix": (
        "videos.remix",
        lambda c: c.videos.remix("video_0", prompt="a cat"),
        Reply(json={"id": "video_1", "model": "sora-3", "status": "queued", "object": "video"}),
        "create_video",
        {names.GEN_AI_RESPONSE_ID: "video_1", names.GEN_AI_RESPONSE_MODEL: "sora-3"},
    ),
    "poll a run": (
        "beta.threads.runs",
        lambda c: c.beta.threads.runs.retrieve("run_1", thread_id="thread_1"),
        Reply(json=DONE),
        "GET /threads/{id}/runs/{id}",
        {names.GEN_AI_RESPONSE_ID: "run_1", names.URL_TEMPLATE: "/threads/{id}/runs/{id}"},
    ),
    "fine-tuning": (
        "fine_tuning.jobs",
        lambda c: c.fine_tuning.jobs.create(model="gpt-5", training_file="file_1"),
        Reply(json={"id": "ftjob_1", "object": "fine_tuning.job"}),
        "POST /fine_tuning/jobs gpt-5",
        {names.GEN_AI_RESPONSE_ID: "ftjob_1", names.HTTP_REQUEST_METHOD: "POST"},
    ),
    "content of a file": (
        "files",
        lambda c: c.files.with_raw_response.content("file_1"),
        Reply(json={"id": "private", "model": "private", "usage": RESPONSES_USAGE}),
        "GET /files/{id}/content",
        {names.URL_TEMPLATE: "/files/{id}/content"},
    ),
    "nothing answered": (
        "files",
        lambda c: c.delete("/files/file_1", cast_to=type(None)),
        Reply(status=204),
        "DELETE /files/{id}",
        {names.URL_TEMPLATE: "/files/{id}"},
    ),
    "a path of nobody's": (
        "files",
        lambda c: c.post("/own-thing/7?id=8", cast_to=dict[str, Any], body={"model": "m", "stream": False}),
        Reply(json={"id": ["odd"]}),
        "POST /own-thing/{id} m",
        {names.URL_TEMPLATE: "/own-thing/{id}", names.HTTP_REQUEST_METHOD: "POST"},
    ),
    "a stored completion": (
        "files",
        lambda c: c.get("/chat/completions", cast_to=dict[str, Any]),
        Reply(json={"data": []}),
        "GET /chat/completions",
        {names.URL_TEMPLATE: "/chat/completions"},
    ),
}
"""Calls that run no model: a record, but no point of ``gen_ai.client.*`` and never a token."""
