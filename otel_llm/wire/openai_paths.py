"""The paths of OpenAI's API and of its kin, with what names one single thing taken out.

Source: the paths that openai-python 1.26 to 3.52 asks for, and those of anthropic, groq, together and cerebras.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

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

_KIN_SPELL_OUT = """
    abExperiments ack action_urls adapters analytics approve apps availability-zones billing bundles claude_code
    claude_tag clear clusters compliance_settings compute configs configuration connectors cost cost_report
    count_tokens custom-forward-backward deny deployment_runs deployments download download-tokenized-dataset dreams
    effective endpoints enrollment_url estimate estimate-cost estimate-price evaluation execute extend-expiry
    federation_issuers fine-tunes finetune forward-backward hardware heartbeat inference-checkpoint
    inference-instance-types installation_settings instances limits logs managed_settings mcp_oauth_validate me
    members memories memory_stores memory_versions metrics model-resources operations optim-step organizations
    placement-profiles plugin_marketplaces plugins poll prepare-for-fp4-inference preview preview-defaults promote
    public queue rbac_group_default rbac_groups rbac_roles redact regenerate_signing_secret regions remediations
    rerank resources results reveal_token revisions rl rollback rollouts rotate_token sample secrets
    shadowExperiments shaping shares sign_out slack_channels slack_workspaces spend_limit_increase_requests
    spend_limits start stats status stop storage stream submit summaries supported-models targets tci
    telemetry_destinations training-checkpoint training-sessions tunnels unpause usage_report user_cost_report
    user_profiles user_usage_report validate_archive validate_repository volumes webhooks weights-sync work
    workspaces
"""
KIN_WORDS = WORDS.union(_KIN_SPELL_OUT.split())
"""The same for `anthropic`, `groq`, `together` and `cerebras`, whose APIs take their words from each other."""

_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_WORD = re.compile(r"[a-z_-]{1,32}")
_MOST_SEGMENTS = 10


def template_of(url: str, base: str, words: Collection[str] = WORDS) -> tuple[str, dict[str, str], str]:
    """Return the template of a path, the ids in it, each under the segment before it with a slash, and what is above.

    Args:
        url: what the client was asked for: a path, or an absolute URL, with a query or without.
        base: the client's base URL, which an absolute URL may begin with.
        words: every segment that is no id.

    Returns:
        The template; the ids; what comes before the template in the whole path, the path of *base* included.
    """
    kept: list[str] = []
    ids: dict[str, str] = {}
    before, segments = _segments(url, base, words)
    for segment in segments[:_MOST_SEGMENTS]:
        if segment in words or (not kept and _WORD.fullmatch(segment)):
            kept.append(segment)
        elif not kept or kept[-1] != ID:  # two in a row are one that holds a slash
            ids[f"/{kept[-1] if kept else ''}"] = unquote(segment)
            kept.append(ID)
    return "/" + "/".join(kept), ids, before


def _segments(url: str, base: str, words: Collection[str]) -> tuple[str, list[str]]:
    """Split the path below the base URL and below anything that ends in a version, such as ``/openai/v1``."""
    path = url.partition("?")[0].partition("#")[0]
    absolute = "://" in path
    if absolute:
        absolute = not path.startswith(base)
        path = path.partition("://")[2].partition("/")[2] if absolute else path[len(base) :]
    segments = [segment for segment in path.split("/") if segment]
    known = next((index for index, segment in enumerate(segments) if segment in words), len(segments))
    versions = [index for index in range(known) if _VERSION.fullmatch(segments[index])]
    begin = known if absolute and known < len(segments) else 0
    if versions:
        begin = versions[-1] + 1
    above = "" if absolute else urlsplit(base).path.rstrip("/")
    return "/".join([above, *segments[:begin]]), segments[begin:]
