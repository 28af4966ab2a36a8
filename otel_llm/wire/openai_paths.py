"""The paths of OpenAI's API, with what names one single thing taken out.

Source: the paths that openai-python 1.26 to 3.52 asks for.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

ID = "{id}"
"""Stands in a template for what names one single thing."""

_SPELLED_OUT = """
    accept activate admin_api_keys agents alerts alpha api_keys archive artifacts assistants audio audio_speeches
    audio_transcriptions audit_logs automations batches calls cancel cases certificates characters chat chatkit
    checkpoints client_secrets code_interpreter_sessions compact complete completions containers content
    content_provenance_checks conversations costs credentials data_retention deactivate decisions edits embeddings
    environments evals events extensions external_keys external_storage federation_rules file_batches
    file_search_calls files fine_tuning fork generations graders groups hangup hosted_tool_permissions images
    input_items input_tokens invites invocations items jobs live messages model_permissions models moderations
    organization output_items parts pause permissions projects rate_limits realtime refer reject remix responses
    resume roles rotate_secret run runs safety search service_accounts service_tier_settings sessions skills speech
    spend_alerts spend_limit steps subagents submit_tool_outputs templates test threads traces transcription_sessions
    transcriptions translations turns uploads usage users validate variations vaults vector_stores versions videos
    voice_consents voices web_search_calls webhook_endpoints webhook_event_types workload_identity_providers
"""
WORDS = frozenset(_SPELLED_OUT.split())
"""Every segment that the client's own paths spell out; any other is an id."""

_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_WORD = re.compile(r"[a-z_-]{1,32}")
_MOST_SEGMENTS = 10


def template_of(url: str, base: str) -> tuple[str, dict[str, str]]:
    """Return the template of a path, and the ids taken out of it, each under the segment before it with a slash.

    Args:
        url: what the client was asked for: a path, or an absolute URL, with a query or without.
        base: the client's base URL, which an absolute URL may begin with.
    """
    kept: list[str] = []
    ids: dict[str, str] = {}
    for segment in _segments(url, base)[:_MOST_SEGMENTS]:
        if segment in WORDS or (not kept and _WORD.fullmatch(segment)):
            kept.append(segment)
        elif not kept or kept[-1] != ID:  # two in a row are one that holds a slash
            ids[f"/{kept[-1] if kept else ''}"] = unquote(segment)
            kept.append(ID)
    return "/" + "/".join(kept), ids


def _segments(url: str, base: str) -> list[str]:
    """Split the path below the base URL and below anything that ends in a version, such as ``/openai/v1``."""
    path = url.partition("?")[0].partition("#")[0]
    absolute = "://" in path
    if absolute:
        absolute = not path.startswith(base)
        path = path.partition("://")[2].partition("/")[2] if absolute else path[len(base) :]
    segments = [segment for segment in path.split("/") if segment]
    known = next((index for index, segment in enumerate(segments) if segment in WORDS), len(segments))
    versions = [index for index in range(known) if _VERSION.fullmatch(segments[index])]
    if versions:
        return segments[versions[-1] + 1 :]
    return segments[known:] if absolute and known < len(segments) else segments
