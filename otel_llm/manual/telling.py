"""What is told by hand finds its way to the ledger and to the histograms: for verbs, blocks and queues.

Nothing here raises: a fault is swallowed, counted and told in the log once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from opentelemetry.context import Context

from otel_llm import config, faults, runtime
from otel_llm.context import current_context, labels_of
from otel_llm.errors import Failure
from otel_llm.overdue import when_free
from otel_llm.state import Facts, short
from otel_llm.telemetry import Telemetry

_warned = False


def listener(function: str) -> Telemetry | None:
    """Return who listens; where nobody does yet, the log says so once, by the name of the function that was called."""
    telemetry = runtime.telemetry()
    if telemetry is None:
        _warn(function)
    return telemetry


def _warn(function: str) -> None:
    global _warned
    # Once it was on, silence is what somebody asked for: by `uninstrument()`, or by the environment.
    if _warned or runtime.was_on or config.disabled():
        return
    _warned = True
    faults.logger.warning(
        "otel_llm: %s() was called before otel_llm.instrument(): what this and other functions tell until then is lost",
        function,
    )


def facts_of(
    telemetry: Telemetry,
    measure: str,
    given: Mapping[str, str] | None = None,
    *,
    model: str | None = None,
    provider: str | None = None,
    base_url: str | None = None,
    failure: Failure | None = None,
    context: Context | None = None,
) -> Facts:
    """Return what describes a measurement: what is given, and beneath it the labels that a dialect asks for."""
    if context is None:
        context = current_context.get()
    if context:
        known = labels_of(context)
        wanted = telemetry.ledger.columns.told_labels.get(measure)
        if known and wanted:
            given = {**{name: value for name, value in known.items() if name in wanted}, **(given or {})}
    labels = () if not given else tuple(sorted([(name, short(value)) for name, value in given.items()]))
    return Facts("", short(provider or ""), short(model), base_url=short(base_url), labels=labels, failure=failure)


def add(
    function: str,
    measure: str,
    given: Mapping[str, str] | None = None,
    *,
    amount: int = 1,
    model: str | None = None,
    provider: str | None = None,
    failure: Failure | None = None,
) -> None:
    """Add to a counter."""
    telemetry = listener(function)
    if telemetry is None:
        return
    try:
        facts = facts_of(telemetry, measure, given, model=model, provider=provider, failure=failure)
        telemetry.ledger.measures.add(measure, facts, amount)
    except Exception:
        faults.fault(faults.MANUAL)


def put(
    function: str, measure: str, value: int, given: Mapping[str, str] | None = None, *, model: str | None = None
) -> None:
    """Set what is so at present."""
    telemetry = listener(function)
    if telemetry is None:
        return
    try:
        telemetry.ledger.measures.put(measure, facts_of(telemetry, measure, given, model=model), value)
    except Exception:
        faults.fault(faults.MANUAL)


def distribute(
    function: str, measure: str, seconds: float, given: Mapping[str, str] | None = None, *, model: str | None = None
) -> None:
    """Count a time in its bucket, for the pages of dialects and as an OpenTelemetry histogram."""
    telemetry = listener(function)
    if telemetry is None:
        return
    try:
        record(telemetry, measure, facts_of(telemetry, measure, given, model=model), seconds, current_context.get())
    except Exception:
        faults.fault(faults.MANUAL)


def record(telemetry: Telemetry, measure: str, facts: Facts, seconds: float, context: Context) -> None:
    """Count a time in its bucket; unlike the others it may raise."""
    telemetry.ledger.measures.distribute(measure, facts, seconds)
    when_free(partial(telemetry.metrics.distribute, measure, facts, seconds, context))
