from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from otel_llm.call import Call
from otel_llm.context import Labels
from otel_llm.ledger import OVERFLOW, Ledger
from otel_llm.state import Columns, State, Totals

BOUNDS = (0.1, 1.0, 5.0)
COLUMNS = Columns({"duration": BOUNDS}, frozenset({"graph"}), frozenset({"client_id"}))


def _call(
    model: str = "m",
    seconds: float = 1.0,
    *,
    answered: str | None = None,
    error: BaseException | None = None,
    error_type: str | None = None,
    labels: dict[str, str] | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    runs_model: bool = True,
    endpoint: str | None = None,
) -> Call:
    call = Call()
    call.operation, call.provider, call.request_model, call.response_model = "chat", "openai", model, answered
    call.started_at, call.ended_at = 100.0, 100.0 + seconds
    call.error, call.error_type = error, error_type or (type(error).__name__ if error else None)
    call.labels = Labels(labels) if labels else None
    call.input_tokens, call.output_tokens = input_tokens, output_tokens
    call.runs_model, call.endpoint = runs_model, endpoint
    call.series = ("chat", "openai", model, answered, None, None)
    return call


def _count(ledger: Ledger, *calls: Call) -> None:
    for call in calls:
        ledger.begin(call)
        ledger.end(call)


def _state(ledger: Ledger) -> State:
    return ledger.state({}, "app")


def _only(ledger: Ledger) -> Totals:
    ((_, totals),) = _state(ledger).cells
    return totals


def test_a_duration_counts_in_the_bucket_whose_upper_bound_it_does_not_exceed() -> None:
    """A value on a boundary belongs to that boundary, and one beyond the last to the infinite bucket."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, *[_call(seconds=seconds) for seconds in (0.0625, 0.5, 1.0, 4.0, 8.0)])
    totals = _only(ledger)
    assert [1, 2, 1, 1] == totals.counts
    assert (5, 13.5625) == (totals.calls, totals.seconds)


def test_tokens_that_no_server_told_are_none_and_not_zero() -> None:
    """None stays None, zero is a number, and the two add up to what was told."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, _call())
    assert (None, None) == (_only(ledger).input_tokens, _only(ledger).output_tokens)
    _count(ledger, _call(input_tokens=0), _call(), _call(input_tokens=3))
    assert (3, None) == (_only(ledger).input_tokens, _only(ledger).output_tokens)


def test_the_last_rate_is_that_of_the_last_call_that_told_tokens() -> None:
    """Output tokens by the duration, or by the server's own clock where it tells; no answer leaves the last one."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, _call(seconds=2.0, output_tokens=10))
    assert 5.0 == _only(ledger).output_rate
    timed = _call(seconds=2.0, output_tokens=10)
    timed.generation_seconds, timed.load_seconds = 0.5, 0.25
    _count(ledger, timed)
    assert (20.0, 0.25) == (_only(ledger).output_rate, _only(ledger).load_duration)
    _count(ledger, _call(), _call(output_tokens=0))
    assert (20.0, 0.25) == (_only(ledger).output_rate, _only(ledger).load_duration)


def test_labels_that_no_dialect_uses_tell_no_calls_apart() -> None:
    """Only the labels that a dialect shows make cells of their own; the canonical series is one all the same."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, _call(labels={"graph": "a", "user": "1"}), _call(labels={"graph": "a", "user": "2"}))
    _count(ledger, _call(labels={"graph": "b"}), _call())
    assert [((("graph", "a"),), 2), ((("graph", "b"),), 1), ((), 1)] == [
        (facts.labels, totals.calls) for facts, totals in _state(ledger).cells
    ]
    assert [4] == [row.calls for row in ledger.rows.values()]
    assert 1 == len(ledger.lanes)


def test_labels_of_failures_tell_only_failures_apart() -> None:
    """A label that matters for failures alone, such as a client, does not multiply the successes."""
    ledger = Ledger(100, COLUMNS)
    for client in ("a", "b", "c"):
        _count(ledger, _call(labels={"client_id": client}))
        _count(ledger, _call(labels={"client_id": client}, error_type="429"))
    limited = [((("client_id", client),), "rate_limit") for client in "abc"]
    assert [((), None), *limited] == [
        (facts.labels, facts.failure and facts.failure.error_class) for facts, _ in _state(ledger).cells
    ]


def test_calls_that_run_no_model_are_in_no_dialect() -> None:
    """They are counted for the canonical metrics alone, in flight too."""
    ledger = Ledger(10, COLUMNS)
    listing = _call(runs_model=False, input_tokens=2)
    ledger.begin(listing)
    assert [1] == [lane.active for lane in ledger.lanes.values()]
    assert [] == _state(ledger).active
    ledger.end(listing)
    _count(ledger, _call(runs_model=False, error_type="500"))
    assert [] == _state(ledger).cells
    assert [(2, 2)] == [(row.calls, row.input) for row in ledger.rows.values()]


def test_what_is_in_flight_is_told_by_label() -> None:
    """A call counts as in flight where its labels say, until it ends or is dropped."""
    ledger = Ledger(10, COLUMNS)
    one, other = _call(labels={"graph": "a"}), _call(labels={"graph": "b"})
    ledger.begin(one)
    ledger.begin(other)
    assert [1, 1] == [active for _, active in _state(ledger).active]
    assert [2] == [lane.active for lane in ledger.lanes.values()]
    ledger.end(one)
    ledger.leave(other)
    assert [0, 0] == [active for _, active in _state(ledger).active]


def test_ten_thousand_models_are_bounded_and_counted_once() -> None:
    """Beyond the cap everything is one overflow series, nothing is lost, and it is told how much that was."""
    ledger = Ledger(100, COLUMNS)
    for number in range(10_000):
        _count(ledger, _call(f"m{number}", labels={"graph": str(number)}, input_tokens=1))
    assert 10_000 == sum(totals.calls for _, totals in _state(ledger).cells)
    assert 101 == len(_state(ledger).cells) == len(ledger.rows) == len(ledger.lanes)
    assert 9_900 == ledger.folded
    assert [True] == [facts.overflow for facts, totals in _state(ledger).cells if totals.calls > 1]
    assert 9_900 == ledger.rows[OVERFLOW].calls
    assert 101 == len(_state(ledger).active)


def test_labels_beyond_the_cap_cost_no_canonical_series() -> None:
    """Ten thousand values of a label fold on the pages of dialects; the canonical totals stay by model."""
    ledger = Ledger(50, COLUMNS)
    for number in range(10_000):
        _count(ledger, _call(f"m{number % 3}", labels={"graph": str(number)}))
    assert [3334, 3333, 3333] == [row.calls for row in ledger.rows.values()]
    assert 3 == len(ledger.lanes)
    assert len(_state(ledger).cells) <= 50 + 3
    assert 10_000 == sum(totals.calls for _, totals in _state(ledger).cells)


def test_overflow_tells_success_from_failure() -> None:
    """What is beyond the cap keeps its outcome, so that a family of successes counts no failure."""
    ledger = Ledger(1, COLUMNS)
    _count(ledger, _call("a"), _call("b"), _call("c", error_type="429"), _call("d", error=TimeoutError()))
    beyond = [facts for facts, _ in _state(ledger).cells if facts.overflow]
    assert [None, "rate_limit", "timeout"] == [facts.failure and facts.failure.error_class for facts in beyond]


def test_finer_buckets_keep_what_was_counted() -> None:
    """With other boundaries nothing counted so far is lost, and the old boundaries still have what they had."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, _call(seconds=0.0625), _call(seconds=0.5), _call(seconds=8.0))
    ledger.keep(Columns({"duration": (0.1, 0.25, 1.0, 5.0, 10.0)}))
    assert [1, 0, 1, 0, 0, 1] == _only(ledger).counts
    _count(ledger, _call(seconds=0.2), _call(seconds=8.0))
    assert [1, 1, 1, 0, 1, 1] == _only(ledger).counts


def test_only_columns_that_a_dialect_asks_for_are_distributed() -> None:
    """The size of answers is counted by bucket where a dialect wants it, and nowhere else."""
    ledger = Ledger(10, Columns({"duration": (), "output_tokens": (10.0, 100.0)}))
    _count(ledger, _call(output_tokens=10), _call(output_tokens=11), _call())
    assert {"output_tokens": ([1, 1, 0], 21.0)} == _only(ledger).distributions
    _count(plain := Ledger(10, COLUMNS), _call(output_tokens=10))
    assert {} == _only(plain).distributions


def test_threads_lose_no_call() -> None:
    """Calls that end at the same time in many threads, while others read, are all counted."""
    ledger = Ledger(10, COLUMNS)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    wrong: list[Totals] = []

    def work(model: str) -> None:
        for _ in range(2_000):
            _count(ledger, _call(model, 0.5, input_tokens=1))

    def read() -> None:
        for _ in range(200):
            wrong.extend(each for _, each in _state(ledger).cells if each.seconds != each.calls * 0.5)

    try:
        threads = [threading.Thread(target=work, args=(f"m{number % 3}",)) for number in range(6)]
        threads.append(threading.Thread(target=read))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert [4_000] * 3 == [totals.calls for _, totals in _state(ledger).cells]
    assert [4_000] * 3 == [totals.input_tokens for _, totals in _state(ledger).cells]
    assert [0] * 3 == [active for _, active in _state(ledger).active]
    assert [] == wrong


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "network"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError(), "unknown"),
        (type("MyTimeout", (TimeoutError,), {})(), "timeout"),
    ],
)
def test_an_exception_has_the_class_of_the_nearest_base_that_is_known(error: BaseException, error_class: str) -> None:
    """A subclass of the user's own has the class of its base."""
    ledger = Ledger(10, COLUMNS)
    _count(ledger, _call(error=error))
    ((facts, _),) = _state(ledger).cells
    assert facts.failure is not None
    assert (type(error).__name__, error_class) == (facts.failure.name, facts.failure.error_class)


def test_columns_only_grow() -> None:
    """What was kept for a dialect goes on when another one is asked for, so that no counter falls."""
    ledger = Ledger(10, Columns({"duration": (1.0,), "output_tokens": (10.0,)}, frozenset({"graph"})))
    _count(ledger, _call(output_tokens=5))
    ledger.keep(Columns({"duration": (2.0,)}, frozenset({"team"})))
    _count(ledger, _call(output_tokens=50, labels={"team": "a", "graph": "b"}))
    assert {"duration": (1.0, 2.0), "output_tokens": (10.0,)} == ledger.columns.bounds
    assert [([1, 0], 5), ([0, 1], 50)] == [totals.distributions["output_tokens"] for _, totals in _state(ledger).cells]
    assert (("graph", "b"), ("team", "a")) == _state(ledger).cells[1][0].labels
