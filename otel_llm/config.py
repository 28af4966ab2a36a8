"""Settings: keyword wins over environment, environment over default; each validated once, with one clear error."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from enum import Flag
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from otel_llm.call import Call
from otel_llm_semconv import environment as variables
from otel_llm_semconv.metrics import VOCABULARY_CHOICES, VocabularyChoice

if TYPE_CHECKING:
    from otel_llm.http_rules import HttpRule, HttpRules
    from otel_llm.prometheus.dialects.grammar import Dialect

logger = logging.getLogger("otel_llm")

DEFAULT_SEMCONV: VocabularyChoice = "released"
DEFAULT_MAX_SERIES = 2000
CALLS = "calls"
"""The one value of ``compat``."""

_VARIABLES = (
    variables.OTEL_LLM_SEMCONV,
    variables.OTEL_LLM_MAX_SERIES,
    variables.OTEL_LLM_LABELS,
    variables.OTEL_LLM_OPENAI_INJECT_USAGE,
    variables.OTEL_LLM_HTTP_RULES,
    variables.OTEL_LLM_HTTP_SPANS,
    variables.OTEL_LLM_DIALECTS,
    variables.OTEL_LLM_BAGGAGE_LABELS,
    variables.OTEL_LLM_MULTIPROC_DIR,
    variables.OTEL_LLM_COMPAT,
    variables.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT,
)
_PREFIX = "OTEL_LLM_"
_OURS = tuple([name.removeprefix(_PREFIX) for name in vars(variables) if name.startswith(_PREFIX)])
_told: set[str] = set()

CallHook = Callable[[Call], None]
ContentHook = Callable[["Content"], "Content | None"]


class Content(NamedTuple):
    """The messages of one call, as a `content_hook` gets and returns them.

    Each is a list in the form of the conventions' message schema, or None where there is nothing of the kind.
    """

    input_messages: list[dict[str, Any]] | None = None
    output_messages: list[dict[str, Any]] | None = None
    system_instructions: list[dict[str, Any]] | None = None
    tool_definitions: list[dict[str, Any]] | None = None


class Capture(Flag):
    """Where message content goes; the four modes of ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``."""

    NO_CONTENT = 0
    SPAN_ONLY = 1
    EVENT_ONLY = 2
    SPAN_AND_EVENT = 3


class Settings(NamedTuple):
    """What was decided at `instrument()`; nothing is looked up later."""

    semconv: VocabularyChoice = DEFAULT_SEMCONV
    max_series: int = DEFAULT_MAX_SERIES
    labels: Mapping[str, str] = {}
    inject_usage: bool = False
    http_rules: tuple[HttpRule, ...] = ()
    http_spans: bool = True
    capture: Capture = Capture.NO_CONTENT
    content_hook: ContentHook | None = None
    call_hook: CallHook | None = None
    dialects: tuple[Dialect, ...] = ()
    baggage_labels: frozenset[str] = frozenset()
    multiproc_dir: str | None = None
    compat: str | None = None


def check_providers(**providers: object) -> None:
    """Refuse what is no provider; anything with the method of the API by which its instruments are got is one.

    Args:
        providers: ``tracer_provider``, ``meter_provider`` and ``logger_provider``; None is not looked at.

    Raises:
        TypeError: one cannot be a provider; the message names the setting.
    """
    for name, provider in providers.items():
        kind = name.removesuffix("_provider")
        if isinstance(provider, type) or (provider is not None and not hasattr(provider, f"get_{kind}")):
            given = f"the class {provider.__name__}" if isinstance(provider, type) else type(provider).__name__
            raise TypeError(f"{name} must be a {kind.capitalize()}Provider, not {given}")


def disabled() -> bool:
    """Whether the environment switches OpenTelemetry off."""
    return os.environ.get(variables.OTEL_SDK_DISABLED, "").strip().lower() == "true"


def disabled_instrumentations() -> frozenset[str]:
    """Return the names of the instrumentations that the environment switches off."""
    written = os.environ.get(variables.OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "")
    return frozenset([name.strip() for name in written.split(",")])


def resolve(
    *,
    semconv: str | None = None,
    max_series: int | None = None,
    labels: Mapping[str, str] | None = None,
    inject_usage: bool | None = None,
    http_rules: HttpRules | None = None,
    http_spans: bool | None = None,
    dialects: Iterable[str] | None = None,
    baggage_labels: Iterable[str] | None = None,
    multiproc_dir: str | os.PathLike[str] | None = None,
    compat: str | None = None,
    content_hook: ContentHook | None = None,
    call_hook: CallHook | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings from keywords and environment.

    Raises:
        ValueError: a value is not accepted; the message names the setting and the accepted values.
        TypeError: a value is of the wrong type.

    A variable of ours that there is not is one warning in the log.
    """
    _warn_of_unknown(environ)
    return Settings(
        semconv=_semconv(semconv, environ),
        max_series=_max_series(max_series, environ),
        labels=_labels(labels, environ),
        inject_usage=_switch("inject_usage", inject_usage, variables.OTEL_LLM_OPENAI_INJECT_USAGE, environ, False),
        http_rules=_http_rules(http_rules, environ),
        http_spans=_switch("http_spans", http_spans, variables.OTEL_LLM_HTTP_SPANS, environ, True),
        dialects=_dialects(dialects, environ),
        baggage_labels=_baggage_labels(baggage_labels, environ),
        multiproc_dir=_directory(multiproc_dir, environ),
        compat=_compat(compat, environ),
        capture=_capture(environ),
        content_hook=_hook("content_hook", content_hook),
        call_hook=_hook("call_hook", call_hook),
    )


def resolve_or_default(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings from the environment alone, a wrong one replaced by its default and told in the log.

    For where nobody could catch an error, and one wrong variable must not cost all telemetry.
    """
    _warn_of_unknown(environ)
    kept: dict[str, str] = {}
    for name in _VARIABLES:
        try:
            written = {name: environ.get(name, "")}
            resolve(environ=written)
            kept |= written
        except ValueError as error:
            tell(f"{error}; the default is used")
    return resolve(environ=kept)


def tell(wrong: str, level: int = logging.ERROR) -> None:
    """Log what is wrong with a setting, once however often it is met."""
    if wrong not in _told:
        _told.add(wrong)
        logger.log(level, "otel_llm: %s", wrong)


def _warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Tell of names that nobody reads: one may be mistyped, or be read by another version only."""
    for name in environ:
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in _OURS:
            from difflib import get_close_matches

            near = get_close_matches(name.removeprefix(_PREFIX), _OURS, 1)
            known = ", ".join([_PREFIX + each for each in near or _OURS])
            meant = f"did you mean {known}?" if near else f"expected one of {known}"
            tell(f"{name}: no such variable; {meant}", logging.WARNING)


def _semconv(value: str | None, environ: Mapping[str, str]) -> VocabularyChoice:
    source = "semconv"
    if value is None:
        source, value = variables.OTEL_LLM_SEMCONV, environ.get(variables.OTEL_LLM_SEMCONV, "").strip()
        if not value:
            return DEFAULT_SEMCONV
    if not isinstance(value, str) or value.lower() not in VOCABULARY_CHOICES:
        raise ValueError(f"{source}={value!r}: expected one of {', '.join(VOCABULARY_CHOICES)}")
    return cast("VocabularyChoice", value.lower())


def _max_series(value: int | None, environ: Mapping[str, str]) -> int:
    source = "max_series"
    if value is None:
        source, written = variables.OTEL_LLM_MAX_SERIES, environ.get(variables.OTEL_LLM_MAX_SERIES, "").strip()
        if not written:
            return DEFAULT_MAX_SERIES
        try:
            value = int(written)
        except ValueError:
            raise ValueError(f"{source}={written!r}: expected a whole number from 1") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{source} must be a whole number, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{source}={value}: expected a whole number from 1")
    return value


def _labels(value: Mapping[str, str] | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    if value is not None:
        if not isinstance(value, Mapping):
            raise TypeError(f"labels must be a mapping of strings to strings, not {type(value).__name__}")
        for key, label in value.items():
            if not isinstance(key, str):
                raise TypeError(f"labels: the key {key!r} must be a string, not {type(key).__name__}")
            if not isinstance(label, str):
                raise TypeError(f"labels: {key} must be a string, not {type(label).__name__}")
        if "" in value:
            raise ValueError("labels: expected keys that are not empty")
        return dict(value)
    written = environ.get(variables.OTEL_LLM_LABELS, "")
    labels: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in written.split(","))):
        key, equals, label = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{variables.OTEL_LLM_LABELS}={written!r}: expected key=value,key=value, found {pair!r}")
        labels[key.strip()] = label.strip()
    return labels


def _switch(name: str, value: bool | None, variable: str, environ: Mapping[str, str], default: bool) -> bool:
    if value is not None:
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
        return value
    written = environ.get(variable, "").strip()
    if written.lower() not in ("", "true", "false"):
        raise ValueError(f"{variable}={written!r}: expected true or false")
    return written.lower() == "true" if written else default


def _http_rules(value: HttpRules | None, environ: Mapping[str, str]) -> tuple[HttpRule, ...]:
    source = "http_rules"
    if value is None:
        source, value = variables.OTEL_LLM_HTTP_RULES, environ.get(variables.OTEL_LLM_HTTP_RULES, "").strip()
        if not value:
            return ()
    from otel_llm.http_rules import read_rules

    return read_rules(source, value)


def _listed(name: str, value: Iterable[str] | None, variable: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return where a list was given, and what it lists; a string is a list with commas."""
    source = name
    if value is None:
        source, value = variable, environ.get(variable, "")
    if isinstance(value, str):
        return source, list(filter(None, map(str.strip, value.split(","))))
    try:
        listed = list(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of strings, not {type(value).__name__}") from None
    for item in listed:
        if not isinstance(item, str):
            raise TypeError(f"{name} must be a sequence of strings; {item!r} is none")
    return source, listed


def _dialects(value: Iterable[str] | None, environ: Mapping[str, str]) -> tuple[Dialect, ...]:
    source, names = _listed("dialects", value, variables.OTEL_LLM_DIALECTS, environ)
    if not names:
        return ()
    from otel_llm.prometheus.dialects import is_path, load, refuse_collisions

    try:
        different = {os.path.realpath(name) if is_path(name) else name: name for name in names}
        loaded = tuple(dict.fromkeys(map(load, different.values())))
        refuse_collisions(loaded)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return loaded


def _baggage_labels(value: Iterable[str] | None, environ: Mapping[str, str]) -> frozenset[str]:
    return frozenset(_listed("baggage_labels", value, variables.OTEL_LLM_BAGGAGE_LABELS, environ)[1])


def _directory(value: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    source = "multiproc_dir"
    if value is None:
        source, value = variables.OTEL_LLM_MULTIPROC_DIR, environ.get(variables.OTEL_LLM_MULTIPROC_DIR, "").strip()
        if not value:
            return None
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{source} must be a path, not {type(value).__name__}") from None
    if not path:
        raise ValueError(f"{source}='': expected the path of a directory")
    if disabled():  # then nothing is made
        return path
    from otel_llm.prometheus import multiprocess

    wrong = multiprocess.unfit(path)
    if wrong is not None:
        raise ValueError(f"{source}={path!r}: {wrong}")
    return path


def _compat(value: str | None, environ: Mapping[str, str]) -> str | None:
    source = "compat"
    if value is None:
        source, value = variables.OTEL_LLM_COMPAT, environ.get(variables.OTEL_LLM_COMPAT, "").strip()
        if not value:
            return None
    if not isinstance(value, str) or value.lower() != CALLS:
        raise ValueError(f"{source}={value!r}: expected {CALLS}")
    return CALLS


def _capture(environ: Mapping[str, str]) -> Capture:
    source = variables.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
    written = environ.get(source, "").strip()
    if not written:
        return Capture.NO_CONTENT
    modes = ("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")
    if written.upper() not in modes:
        # A standard variable, which others read too: where it was set to what they know, that is no reason to stop.
        tell(f"{source}={written!r}: expected one of {', '.join(modes)}")
        return Capture.NO_CONTENT
    return Capture[written.upper()]


def _hook(name: str, hook: Any) -> Any:
    if hook is not None and not callable(hook):
        raise TypeError(f"{name} must be callable, not {type(hook).__name__}")
    return hook
