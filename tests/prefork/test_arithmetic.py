"""What several processes have counted adds up to what one would have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_llm.errors import Failure
from otel_llm.prometheus.families import INFINITY, Exemplar, Family, Histogram, Series
from otel_llm.prometheus.multiprocess.arithmetic import (
    add_families,
    add_states,
    by_facts,
    subtract_families,
    subtract_state,
)
from otel_llm.prometheus.multiprocess.snapshot import Families, Snapshot, decode, encode
from otel_llm.state import COMPUTED, NEWEST, PRESENT, Facts, State, Told, Totals
from otel_llm_semconv.metrics import OTEL_LLM_CLIENT_ACTIVE

BOUNDS = {"duration": (1.0, 2.0), "time_to_first_chunk": (0.5,)}
EMPTY = State(BOUNDS, [], [], {"team": "a"}, "shop")

FACTS = st.builds(
    Facts,
    operation=st.just("chat"),
    provider=st.sampled_from(["openai", "ollama"]),
    server_port=st.none() | st.integers(1, 65535),
    request_model=st.none() | st.sampled_from(["m", 'a "b"\\\n']),
    labels=st.sampled_from([(), (("graph", "g"), ("task", "t"))]),
    failure=st.none() | st.just(Failure("openai.RateLimitError", "RateLimitError", "rate_limit")),
)


def _totals(bucket: int, tokens: int | None, rate: float | None, at: int, first: float | None) -> Totals:
    return Totals(
        1,
        float(bucket),
        [int(bucket == each) for each in range(3)],
        tokens,
        output_rate=rate,
        at=float(at),
        distributions={"time_to_first_chunk": ([1, 0], first)} if first else {},
    )


TOTALS = st.builds(
    _totals,
    st.integers(0, 2),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(1, 99).map(float),
    st.integers(1, 10_000),
    st.none() | st.integers(1, 4).map(float),
)
CALLS = st.lists(st.tuples(FACTS, TOTALS), max_size=12, unique_by=lambda call: call[1].at)


def _state(*calls: tuple[Facts, Totals], **changes: Any) -> State:
    return EMPTY._replace(cells=by_facts(calls), **changes)


def _sorted(state: State) -> list[tuple[Facts, Totals]]:
    return sorted(state.cells, key=repr)


@given(st.lists(CALLS, max_size=4))
@settings(max_examples=60, deadline=None)
def test_split(processes: list[list[tuple[Facts, Totals]]]) -> None:
    """Calls that are spread over processes are counted as those of one process are, wherever the files are read."""
    calls = [call for process in processes for call in process]
    assume(len(calls) == len({totals.at for _, totals in calls}))
    files = [encode(Snapshot(_state(*process), Families([]))) for process in processes]
    added = add_states([decode(file).state for file in files], EMPTY, 2000)
    assert _sorted(_state(*calls)) == _sorted(added)
    again = add_states([decode(file).state for file in reversed(files)], EMPTY, 2000)
    assert _sorted(added) == _sorted(again)


@given(CALLS, CALLS)
@settings(max_examples=60, deadline=None)
def test_subtract(before: list[tuple[Facts, Totals]], after: list[tuple[Facts, Totals]]) -> None:
    """A child that goes on from its parent's numbers shows what it adds, and both together show everything."""
    parent = _state(*before)
    whole = _state(*before, *after)
    child = subtract_state(whole, parent)
    assert len(after) == sum(totals.calls for _, totals in child.cells)
    together = add_states([parent, child], EMPTY, 2000)
    for (facts, expected), (also, totals) in zip(_sorted(whole), _sorted(together), strict=True):
        assert facts == also
        assert expected[:4] == totals[:4]
        assert {k: v for k, v in expected.distributions.items() if v[1]} == {
            k: (list(v[0]), v[1]) for k, v in totals.distributions.items() if v[1]
        }


def test_cap() -> None:
    """Models beyond the cap are one cell, so that ever new workers with ever new models do not fill the memory."""
    totals = Totals(1, 1.0, [1, 0, 0])
    states = [_state((Facts("chat", "openai", f"m{number}"), totals)) for number in range(10)]
    added = add_states(states, EMPTY, 4)
    assert 5 == len(added.cells)
    facts, folded = added.cells[-1]
    assert facts.overflow
    assert 6 == folded.calls


def test_bounds_of_another_configuration() -> None:
    """What was counted on other bounds goes on counting, each call at the upper end of its bucket."""
    facts = Facts("chat", "openai")
    other = State({"duration": (0.5, 2.0)}, [], [(facts, Totals(3, 2.0, [1, 1, 1]))], {}, "shop")
    own = _state((facts, Totals(1, 1.0, [1, 0, 0])))
    ((_, totals),) = add_states([other, own], EMPTY, 2000).cells
    assert (4, 3.0, [2, 1, 1]) == (totals.calls, totals.seconds, totals.counts)


def test_calls_in_flight() -> None:
    """Calls in flight add up, and those of a process that is gone are gone."""
    facts = Facts("chat", "openai")
    one = Snapshot(_state(active=[(facts, 2)]), Families([]))
    other = Snapshot(_state(active=[(facts, 3)]), Families([]))
    assert [(facts, 5)] == add_states([one.state, other.state], EMPTY, 2000).active
    assert [(facts, 3)] == add_states([one.remains().state, other.state], EMPTY, 2000).active


def _families(value: float | Histogram, kind: str, at: float = 0.0, **more: Any) -> Families:
    family = Family("a", "help", kind, series=[Series('m="x"', value)], **more)
    return Families([family], {("a", 'm="x"'): at} if family.last else {})


@pytest.mark.parametrize(
    ("kind", "last", "expected"),
    [("counter", False, 3), ("unknown", False, 3), ("gauge", False, 3), ("gauge", True, 1), ("info", False, 2)],
)
def test_kinds(kind: str, last: bool, expected: float) -> None:
    """Counters and what goes up and down are added; of last values, the newest is shown."""
    parts = [_families(1, kind, 20.0, last=last), _families(2, kind, 10.0, last=last)]
    read = [decode(encode(Snapshot(EMPTY, part))).families for part in parts]
    (family,) = add_families(read, 2000).families
    assert [Series('m="x"', expected)] == family.series
    assert (kind, "help", last) == (family.kind, family.help, family.last)


def test_histograms() -> None:
    """Buckets and sums add up, also where bounds differ, and the newest exemplar of a bucket stays."""
    old, new = Exemplar('trace_id="1"', 0.5, 1.0), Exemplar('trace_id="2"', 0.6, 2.0)
    one = _families(Histogram((1.0, INFINITY), [1, 3], 4.0, {1.0: new}), "histogram")
    same = _families(Histogram((1.0, INFINITY), [2, 2], 1.0, {1.0: old}), "histogram")
    other = _families(Histogram((2.0, INFINITY), [5, 6], None), "histogram")
    read = [decode(encode(Snapshot(EMPTY, part))).families for part in (one, same, other)]
    (family,) = add_families(read[:2], 2000).families
    assert [Series('m="x"', Histogram((1.0, INFINITY), [3, 5], 5.0, {1.0: new}))] == family.series
    (family,) = add_families(read, 2000).families
    assert [Series('m="x"', Histogram((1.0, 2.0, INFINITY), [3, 8, 11], None, {1.0: new}))] == family.series


def test_series_beyond_the_cap() -> None:
    """Series of a family beyond the cap are one."""
    parts = [Families([Family("a", "", "counter", series=[Series(f'm="{number}"', 1)])]) for number in range(9)]
    (family,) = add_families(parts, 3).families
    assert [1, 1, 1, 6] == [series.value for series in family.series]
    assert 'otel_metric_overflow="true"' == family.series[-1].labels


def test_gone() -> None:
    """What is left of a process that is gone: what it has counted and last values of ours, and no info."""
    last = Family("otel_llm_a", "", "gauge", last=True)
    prefixed = last._replace(name="shop_otel_llm_a")
    others = [Family("otel_llm_b", "", "gauge"), last._replace(name="b"), Family("i", "", "info")]
    whole = Families([Family("c", "", "counter"), last, prefixed, *others], {("otel_llm_a", ""): 5.0})
    left = Snapshot(EMPTY, whole).remains().families
    assert ["c", "otel_llm_a", "shop_otel_llm_a"] == [family.name for family in left.families]
    assert {("otel_llm_a", ""): 5.0} == left.times


def test_told_by_who_is_gone() -> None:
    """What was told by hand goes on counting, and what is newest is shown; only what was under way is gone."""
    facts = Facts("", "")
    told = {
        "memory_usage": [(facts, Told(7, at=2.0, kind=NEWEST))],
        "queue_size": [(facts, Told(5, at=2.0, kind=PRESENT)), (facts, Told(5, at=2.0, kind=COMPUTED))],
        "cache_hits": [(facts, Told(3, at=2.0))],
    }
    gone = Snapshot(
        EMPTY._replace(measures=told, by_hand={"a b": [('m="x"', Told(7, kind=NEWEST))]}), Families([])
    ).remains()
    state = decode(encode(gone)).state
    assert {"memory_usage": told["memory_usage"], "queue_size": [], "cache_hits": told["cache_hits"]} == state.measures
    assert {"a b": [('m="x"', Told(7, kind=NEWEST))]} == state.by_hand
    for at, shown in ((1.0, 7), (3.0, 9)):
        living = EMPTY._replace(measures={"memory_usage": [(facts, Told(9, at=at, kind=NEWEST))]})
        ((_, newest),) = add_states([state, living], EMPTY).measures["memory_usage"]
        assert shown == newest.value


def test_told_of_the_same_thing() -> None:
    """What one process tells of a thing takes the place of what others told of it before, and of nothing else."""

    def state(*told: tuple[str, float, str]) -> State:
        rows = [(labels, Told(1, at=at, kind=NEWEST, of=of)) for labels, at, of in told]
        return EMPTY._replace(by_hand={"a info": rows})

    states = [state(("v=1", 5.0, "m"), ("v=8", 1.0, "n"), ("v=0", 1.0, "")), state(("v=2", 4.0, "m"), ("v=3", 6.0, ""))]
    for order in (states, states[::-1]):
        rows = add_states(order, EMPTY).by_hand["a info"]
        assert {"v=1", "v=8", "v=0", "v=3"} == {labels for labels, _ in rows}
    folded = add_states([state(("v=1", 5.0, "m")), state(("v=2", 4.0, "m"))], EMPTY, 1).by_hand["a info"]
    assert ["v=1", ""] == [labels for labels, _ in folded], "what is beyond the cap is of no thing"


def test_one_target() -> None:
    """A page has one target, also where processes tell themselves apart in it."""
    parts = [
        Families([Family("target_info", "", kind, series=[Series(f'service_instance_id="{number}"', 1)])])
        for number, kind in enumerate(("info", "info"))
    ]
    (family,) = add_families(parts, 2000).families
    assert [Series('service_instance_id="0"', 1)] == family.series


def test_in_flight_at_a_fork() -> None:
    """A child has none of the calls that its parent was waiting for: nothing is taken off its own."""
    name = f"shop_{OTEL_LLM_CLIENT_ACTIVE.name.replace('.', '_')}"
    before, after = (Families([Family(name, "", "gauge", series=[Series("", value)])]) for value in (2, 1))
    assert after.families == subtract_families(after, before).families


def test_families_of_a_child() -> None:
    """A forked child shows what it adds to each family, and what counts from zero in it as it is."""
    before = Families([Family("a", "", "counter", series=[Series("", 5), Series('m="x"', 3)])])
    after = Families([Family("a", "", "counter", series=[Series("", 7), Series('m="x"', 1)])])
    ((family,), _) = subtract_families(after, before)
    assert [Series("", 2), Series('m="x"', 1)] == family.series
    before = _families(Histogram((1.0, INFINITY), [1, 2], 3.0), "histogram")
    after = _families(Histogram((1.0, INFINITY), [2, 5], 9.0), "histogram")
    ((family,), _) = subtract_families(after, before)
    assert [Series('m="x"', Histogram((1.0, INFINITY), [1, 3], 6.0))] == family.series
