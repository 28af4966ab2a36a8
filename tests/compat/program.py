"""A program whose forked children feed families by hand: prints what the page of each process shows."""

from __future__ import annotations

import os
from typing import Any

import otel_llm
from otel_llm.compat import tinyllm
from tests.by_hand import rows

metrics = tinyllm.get_metrics_collector()
SHOWN = (
    'cache_hits_total{cache_type="general"}',
    'cache_misses_total{cache_type="mine"}',
    'queue_wait_time_seconds_count{priority="normal"}',
    'queue_wait_time_seconds_bucket{le="5.0",priority="normal"}',
    'queue_wait_time_seconds_sum{priority="normal"}',
    'active_requests{graph="unknown",model="unknown"}',
    'queue_size{priority="all"}',
    'circuit_breaker_state{model="unknown"}',
    "queue_requests_rejected_total",
)


def show(when: str) -> None:
    """Print the page of this process."""
    page = rows(otel_llm.generate_latest("tinyllm"))
    print(when, *[f"{page.get(f'tinyllm_{name}', -1):g}" for name in SHOWN], flush=True)  # noqa: T201


def feed(times: int, state: str) -> None:
    """Tell something of each kind."""
    for _ in range(times):
        metrics.increment_cache_hit()
        metrics.record_queue_wait_time(3)
        metrics.increment_queue_rejected()
    otel_llm.family("tinyllm_cache_misses_total").labels("mine").inc(times)
    metrics.update_queue_size(times)
    metrics.update_circuit_breaker_state(state)


def child(times: int, ready: Any, go_on: Any) -> None:
    """Feed, in a process of its own."""
    os.read(go_on, 1)
    feed(times, "open")
    with metrics.track_request_latency():
        os.write(ready, b".")
        os.read(go_on, 1)
    if times == 2:
        # What its parent had told is not the child's to forget.
        metrics.reset_metrics()
        metrics.increment_cache_hit()
    os._exit(0 if flush() else 1)


def flush() -> bool:
    """Write what there is, as at the end of a process."""
    from otel_llm.prometheus import multiprocess

    multiprocess.close()
    return True


def main() -> None:
    """Have two children."""
    otel_llm.instrument(serve=False)
    feed(5, "half-open")
    under_way = metrics.track_request_latency()
    under_way.__enter__()
    show("before")
    children: list[tuple[int, int, int]] = []
    for times in (1, 2):
        (ready, told), (waits, go_on) = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            child(times, told, waits)
        children.append((pid, ready, go_on))
    show("forked")
    for _, ready, go_on in children:
        os.write(go_on, b".")
        os.read(ready, 1)
    show("fed")
    under_way.__exit__(None, None, None)
    for pid, _, go_on in children:
        os.write(go_on, b".")
        assert os.waitpid(pid, 0)[1] == 0
    show("gone")


if __name__ == "__main__":
    main()
