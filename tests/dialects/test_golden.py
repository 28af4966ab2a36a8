"""A page of a dialect is the page that the system wrote: 20,000 random calls, counted by both."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from otel_llm.prometheus import writer
from otel_llm.prometheus.collector import DialectCollector
from otel_llm.prometheus.dialects import bridge, load
from tests.dialects.calls import CASES, SERVICE, STATIC, ledger, made
from tests.dialects.originals import ORIGINALS, SPELLINGS

NUMBER = 20_000
_NAME = re.compile(r"((?:# (?:HELP|TYPE) )?)([a-zA-Z_:][a-zA-Z0-9_:]*)(.*)", re.DOTALL)


def _lines(page: bytes, spellings: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return what stands before each last word and that word, spelled as wanted, and without times of creation."""
    found: dict[str, str] = {}
    for line in page.decode().splitlines():
        match = _NAME.fullmatch(line)
        assert match is not None, line
        start, name, rest = match.groups()
        if name.endswith("_created"):
            continue
        for spelled in spellings.get(name, (name,)):
            key, _, value = f"{start}{spelled}{rest}".rpartition(" ")
            if start:
                key, value = f"{start}{spelled}", rest
            assert key not in found, line
            found[key] = value
    return found


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[object]:
    found: list[object] = [*(theirs.keys() ^ ours.keys())]
    for key in theirs.keys() & ours.keys():
        if theirs[key] != ours[key]:
            # Floats are added up in another order: only sums of durations may differ, and in the last digits.
            of_floats = re.match(r"\w+_seconds_sum\b", key)
            if not (of_floats and math.isclose(float(theirs[key]), float(ours[key]), rel_tol=1e-9)):
                found.append((key, theirs[key], ours[key]))
    return found


@pytest.mark.parametrize("name", ORIGINALS)
def test_pages_are_equal(name: str) -> None:
    """Every line is there, none is new, and all values are the same, but for the spellings that are written down."""
    original, counted = ORIGINALS[name](), ledger()
    for number, each in enumerate(made(seed=6, number=NUMBER)):
        original.begin(each.call)
        counted.begin(each.call)
        if number % 100:  # the others are still under way
            original.end(each)
            counted.end(each.call)
    state = counted.state(STATIC, SERVICE)
    dialect = load(name)

    theirs = _lines(generate_latest(original.registry), SPELLINGS[name])
    ours = _lines(writer.text(bridge.translate(dialect, state)), {})

    assert len(ours) > 100
    assert [] == _differences(theirs, ours)[:5]

    registry = CollectorRegistry()
    registry.register(DialectCollector(dialect, lambda: state))
    collected = _lines(generate_latest(registry), {})
    types = {key for key in collected if key.startswith("# TYPE") and collected[key] != ours[key]}
    assert ours.keys() == collected.keys()
    assert {key: ours[key] for key in ours.keys() - types} == {key: collected[key] for key in ours.keys() - types}
    assert {" counter"} | {ours[key] for key in types} == {" counter"}
    assert {" untyped"} | {collected[key] for key in types} == {" untyped"}


def test_every_kind_of_call_is_made() -> None:
    """The random calls have every failure, every label, unknown and zero tokens, and durations exactly on a bound."""
    calls = list(made(seed=6, number=NUMBER))

    assert {*CASES, None} == {each.case for each in calls}
    assert {None, 0} < {each.call.input_tokens for each in calls}
    assert {None, 0} < {each.call.output_tokens for each in calls}
    assert {0.005, 120.0} < {each.call.duration for each in calls}
    labels = {"task_type", "graph", "request_type", "container", "backend", "client_id"}
    assert labels < {key for each in calls for key in each.call.labels or ()}
