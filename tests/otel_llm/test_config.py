"""Settings: where they come from, and what is said of a wrong one."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_llm import config
from otel_llm.config import Capture, Settings, check_providers, resolve, resolve_or_default
from otel_llm_semconv import environment

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
WRONG = {
    "OTEL_LLM_SEMCONV": ("newest", "OTEL_LLM_SEMCONV='newest': expected one of released, latest, both"),
    "OTEL_LLM_MAX_SERIES": ("0", "OTEL_LLM_MAX_SERIES=0: expected a whole number from 1"),
    "OTEL_LLM_LABELS": ("a=b,c", "OTEL_LLM_LABELS='a=b,c': expected key=value,key=value, found 'c'"),
    "OTEL_LLM_OPENAI_INJECT_USAGE": ("yes", "OTEL_LLM_OPENAI_INJECT_USAGE='yes': expected true or false"),
    "OTEL_LLM_HTTP_RULES": (
        "/no/such/file",
        "OTEL_LLM_HTTP_RULES='/no/such/file': cannot be read: No such file or directory",
    ),
    "OTEL_LLM_HTTP_SPANS": ("0", "OTEL_LLM_HTTP_SPANS='0': expected true or false"),
    CAPTURE: ("true", f"{CAPTURE}='true': expected one of NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT"),
}
RIGHT = {
    "OTEL_LLM_SEMCONV": " Both ",
    "OTEL_LLM_MAX_SERIES": " 7 ",
    "OTEL_LLM_LABELS": " team = a , env=b=c,",
    "OTEL_LLM_OPENAI_INJECT_USAGE": " True ",
    "OTEL_LLM_HTTP_SPANS": " False ",
    CAPTURE: "span_only",
}


def test_the_defaults() -> None:
    """Without keyword and variable, and with an empty variable, there are the documented defaults."""
    defaults = Settings("released", 2000, {}, False, (), True, Capture.NO_CONTENT, None, None)

    assert resolve(environ={}) == defaults
    assert resolve(environ=dict.fromkeys(WRONG, " ")) == defaults


def test_variables_are_read() -> None:
    """Case and blanks around a value do not count."""
    expected = Settings("both", 7, {"team": "a", "env": "b=c"}, True, (), False, Capture.SPAN_ONLY)

    assert resolve(environ=RIGHT) == expected


def test_a_keyword_wins_over_the_environment() -> None:
    """Also where the variable is wrong, and where the keyword is an empty mapping."""
    wrong = {name: value for name, (value, _) in WRONG.items() if name != CAPTURE}
    for environ in (RIGHT, wrong):
        settings = resolve(
            semconv="latest",
            max_series=1,
            labels={},
            inject_usage=False,
            http_rules=[],
            http_spans=True,
            environ=environ,
        )
        assert settings[:6] == ("latest", 1, {}, False, (), True)


def test_labels_are_a_copy() -> None:
    """What the caller does to the mapping afterwards changes nothing."""
    labels = {"team": "a"}
    settings = resolve(labels=labels, environ={})
    labels["team"] = "b"

    assert settings.labels == {"team": "a"}


@pytest.mark.parametrize("name", [name for name in WRONG if name != CAPTURE])
def test_a_wrong_variable_raises(name: str) -> None:
    """The error names the variable and the accepted values."""
    value, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        resolve(environ={name: value})

    assert str(caught.value) == message


def test_a_wrong_capture_mode_captures_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The standard variable is read by others too: a value of theirs is one error in the log, and no content."""
    monkeypatch.setattr(config, "_told", set[str]())
    value, message = WRONG[CAPTURE]

    assert resolve(environ={CAPTURE: value}).capture is Capture.NO_CONTENT
    assert [record.getMessage() for record in caplog.records] == [f"otel_llm: {message}"]


def test_a_provider_is_what_acts_as_one() -> None:
    """A provider of another kind is taken if it has the method of the API; one left out is not looked at."""

    class Own:
        def get_tracer(self) -> None: ...
        def get_meter(self) -> None: ...
        def get_logger(self) -> None: ...

    check_providers(tracer_provider=Own(), meter_provider=Own(), logger_provider=Own())
    check_providers(tracer_provider=None)
    with pytest.raises(TypeError, match="logger_provider must be a LoggerProvider, not int"):
        check_providers(tracer_provider=Own(), logger_provider=1)


def test_an_empty_label_name_is_refused() -> None:
    """Neither way of writing labels lets one without a name through."""
    wrong: Any
    for wrong in ({"labels": {"": "a"}, "environ": {}}, {"environ": {"OTEL_LLM_LABELS": "=a"}}):
        with pytest.raises(ValueError, match=r"abels|LABELS"):
            resolve(**wrong)


def test_where_nobody_catches_a_wrong_variable_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each wrong one is an error in the log and its default; the right ones hold, and nothing is said twice."""
    monkeypatch.setattr(config, "_told", set[str]())
    environ = {name: value for name, (value, _) in WRONG.items()} | {"OTEL_LLM_MAX_SERIES": "7"}
    settings = [resolve_or_default(environ) for _ in range(2)]

    assert settings == [Settings(max_series=7)] * 2
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    expected = [
        message if name == CAPTURE else f"{message}; the default is used"
        for name, (_, message) in WRONG.items()
        if name != "OTEL_LLM_MAX_SERIES"
    ]
    assert told == [(logging.ERROR, f"otel_llm: {message}") for message in expected]


def test_a_mistyped_variable_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody reads is one warning, with what is nearly called so, else with all there are; the rest holds."""
    monkeypatch.setattr(config, "_told", set[str]())
    environ = {
        "OTEL_LLM_DIALECT": "aegis",
        "OTEL_LLM_PORT": "9",
        "OTEL_LLM_MAX_SERIES": "7",
        "OTEL_LLMS": "",
        "PATH": "",
    }
    settings = [resolve(environ=environ), resolve_or_default(environ)]

    assert settings == [Settings(max_series=7)] * 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "otel_llm: OTEL_LLM_DIALECT: no such variable; did you mean OTEL_LLM_DIALECTS?",
        "otel_llm: OTEL_LLM_PORT: no such variable; expected one of "
        + ", ".join(name for name in vars(environment) if name.startswith("OTEL_LLM_")),
    ]
