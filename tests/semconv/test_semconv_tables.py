"""The tables of hosts and errors say what they should about well-known hosts and exceptions."""

import httpx
import httpx2
import ollama
import openai
import pytest

from otel_llm_semconv import errors, others, providers
from otel_llm_semconv.providers import HOST_RULES, Provider


def constants(namespace: type) -> list[str]:
    """Return the values a namespace declares."""
    return [value for name, value in vars(namespace).items() if name.isupper()]


def provider_of(host: str) -> str | None:
    """Apply the rules as their docstring says."""
    matching = (rule for rule in HOST_RULES if host.startswith(rule.prefix) and host.endswith(rule.suffix))
    rule = next(matching, None)
    return rule.provider if rule else None


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", Provider.OPENAI),
        ("eu.api.openai.com", Provider.OPENAI),
        ("contoso.openai.azure.com", Provider.AZURE_AI_OPENAI),
        ("models.inference.ai.azure.com", Provider.AZURE_AI_INFERENCE),
        ("name.services.ai.azure.com", Provider.AZURE_AI_INFERENCE),
        ("api.anthropic.com", Provider.ANTHROPIC),
        ("api.deepseek.com", Provider.DEEPSEEK),
        ("api.groq.com", Provider.GROQ),
        ("api.x.ai", Provider.X_AI),
        ("api.mistral.ai", Provider.MISTRAL_AI),
        ("api.perplexity.ai", Provider.PERPLEXITY),
        ("api.moonshot.ai", Provider.MOONSHOT_AI),
        ("api.moonshot.cn", Provider.MOONSHOT_AI),
        ("api.cohere.ai", Provider.COHERE),
        ("generativelanguage.googleapis.com", Provider.GCP_GEMINI),
        ("aiplatform.googleapis.com", Provider.GCP_VERTEX_AI),
        ("us-central1-aiplatform.googleapis.com", Provider.GCP_VERTEX_AI),
        ("bedrock-runtime.us-east-1.amazonaws.com", Provider.AWS_BEDROCK),
        ("us-south.ml.cloud.ibm.com", Provider.IBM_WATSONX_AI),
        ("localhost", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("storage.googleapis.com", None),
        ("api.openai.com.example.org", None),
    ],
)
def test_host_gives_provider(host: str, provider: str | None) -> None:
    """A host is recognised by the first rule that fits, and only the provider's own hosts are."""
    assert provider_of(host) == provider


def test_rules_are_exact_enough() -> None:
    """Each suffix stays within one registered domain, and each rule and port names a declared provider."""
    declared = set(constants(Provider))
    for rule in HOST_RULES:
        assert rule.suffix == rule.suffix.lower()
        assert rule.suffix.count(".") >= 2
        assert rule.provider in declared
    assert set(providers.PROVIDER_PORTS.values()) <= declared
    assert declared >= providers.OPENAI_FLAVOURED


def raised_by_clients() -> set[str]:
    """Return the names of the exceptions the supported clients raise for a call which failed."""
    pending: list[type[BaseException]] = [openai.APIError, ollama.ResponseError]
    pending += [httpx.TransportError, httpx2.TransportError]
    names: set[str] = set()
    while pending:
        kind = pending.pop()
        if kind.__module__.partition(".")[0] in {"httpx", "httpx2", "ollama", "openai"}:  # no test's own subclass
            names.add(kind.__name__)
            pending += kind.__subclasses__()
    return names - {"UnsupportedProtocol"}  # a wrong URL, not a failed call


def test_client_exceptions_have_a_class() -> None:
    """No exception of a supported client for a failed call is of unknown class, and each class is a declared one."""
    assert raised_by_clients() - errors.CLASS_BY_EXCEPTION.keys() == set()
    declared = set(constants(errors.ErrorClass))
    assert {*errors.CLASS_BY_EXCEPTION.values(), *errors.CLASS_BY_STATUS.values()} <= declared


def test_an_error_has_one_class() -> None:
    """No name of an error is in two tables, which could disagree, and each class is a declared one."""
    tables = [errors.CLASS_BY_EXCEPTION, errors.CLASS_BY_API_ERROR, errors.API_ERRORS, others.CLASS_BY_EXCEPTION]
    every = [name for table in tables for name in table]
    assert sorted(set(every)) == sorted(every)
    classes = {*errors.CLASS_BY_API_ERROR.values(), *others.CLASS_BY_EXCEPTION.values()}
    assert classes <= set(constants(errors.ErrorClass))


@pytest.mark.parametrize(
    "kind", [openai.AuthenticationError, openai.PermissionDeniedError, openai.RateLimitError, openai.ConflictError]
)
def test_status_and_exception_agree(kind: type[openai.APIStatusError]) -> None:
    """An exception for a status code and the code itself are of the same class."""
    by_status = errors.CLASS_BY_STATUS.get(int(vars(kind).get("status_code", 0)), errors.ErrorClass.API_ERROR)
    assert errors.CLASS_BY_EXCEPTION[kind.__name__] == by_status
