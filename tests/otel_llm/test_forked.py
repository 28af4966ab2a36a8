"""A child that was forked while other threads held locks of OpenTelemetry records, collects, flushes and ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal import aggregation
from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.exponent_mapping import ExponentMapping
from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.logarithm_mapping import LogarithmMapping
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_llm
from otel_llm import sdk_locks
from otel_llm.testing import Seen
from otel_llm.testing.server import ScriptedServer
from otel_llm_openai import OpenAIInstrumentor
from otel_llm_semconv import environment
from otel_llm_semconv.metrics import GEN_AI_CLIENT_OPERATION_DURATION
from tests.openai.styles import ASK, client

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

LOCKS = type(threading.Lock()), type(threading.RLock())


class Own:
    """Providers with every part that has a lock of its own."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.kept, self.sent = InMemorySpanExporter(), InMemorySpanExporter()
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.tracer_provider: Any = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer_provider.add_span_processor(BatchSpanProcessor(self.sent))
        self.reader: Any = InMemoryMetricReader()
        self.periodic: Any = PeriodicExportingMetricReader(ConsoleMetricExporter(StringIO()), 3_600_000)
        self.meter_provider: Any = MeterProvider(
            [self.reader, self.periodic],
            views=[View(instrument_name="width", aggregation=ExponentialBucketHistogramAggregation())],
        )
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        self.width = self.meter_provider.get_meter("shop").create_histogram("width")

    def instrument(self) -> None:
        """Turn it on with these providers."""
        otel_llm.instrument(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            logger_provider=self.logger_provider,
            serve=False,
        )

    def work(self, model: str) -> None:
        """Tell everything that there is to tell of a model."""
        with otel_llm.track_workflow("w"), otel_llm.track_step("s"):
            client(self._server).chat.completions.create(model=model, messages=ASK)
        with otel_llm.track_inference(model):
            otel_llm.record_tokens(input_tokens=1)
        otel_llm.record_queue_wait(1, model=model)

    def flush(self) -> None:
        """Send everything out."""
        self.tracer_provider.force_flush()
        self.meter_provider.force_flush()
        self.logger_provider.force_flush()

    def durations(self) -> int:
        """Collect, and return how many durations of calls there are."""
        return sum(
            point.count
            for each in self.reader.get_metrics_data().resource_metrics
            for scope in each.scope_metrics
            for metric in scope.metrics
            if metric.name == GEN_AI_CLIENT_OPERATION_DURATION.name
            for point in metric.data.data_points
        )

    def do_everything(self) -> bool:
        """Tell of a model that is known and one that is not, on a provider that is known; return whether it counted."""
        before = self.durations()
        self.work("gpt-5")
        self.work("gpt-5-mini")
        self.width.record(1)
        self.width.record(1e300)
        self.width.record(1e-300)
        counted = before + 4 == self.durations()
        self.flush()
        otel_llm.uninstrument()
        self.instrument()
        self.work("gpt-5")
        self.close()
        return counted and bool(self.kept.get_finished_spans() and self.sent.get_finished_spans())

    def close(self) -> None:
        """Turn everything off."""
        otel_llm.uninstrument()
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()

    def matches(self) -> Any:
        """Return what the SDK keeps of the durations of calls for one reader."""
        storage = self.meter_provider._measurement_consumer._reader_storages[self.reader]
        for instrument, matches in storage._instrument_view_instrument_matches.items():
            if instrument.name == GEN_AI_CLIENT_OPERATION_DURATION.name:
                return matches[0]
        raise LookupError

    def series(self) -> Any:
        """Return what the SDK keeps of one of its series."""
        return next(iter(self.matches()._attributes_aggregation.values()))

    def meter(self) -> Any:
        """Return the SDK's meter of ours."""
        return next(meter for scope, meter in self.meter_provider._meters.items() if scope.name == "otel_llm")


@pytest.fixture
def own(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Everything on, and used once."""
    monkeypatch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "EVENT_ONLY")
    own = Own(server)
    own.instrument()
    own.work("gpt-5")
    yield own
    own.close()


def in_child(do: Callable[[], bool]) -> int:
    """Fork, do something in the child, and return how that ended: with 0 where it was done and is true."""
    child = os.fork()
    if child == 0:
        end_child(do)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_child(do: Callable[[], bool]) -> None:
    """Do something in a child, and end it."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        code = 0 if do() else 2
    finally:
        os._exit(code)


def with_held(locks: Iterable[Any], do: Callable[[], bool]) -> int:
    """Do something in a child that is forked while another thread holds locks."""
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                if lock.acquire(blocking=False):
                    stack.callback(lock.release)
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        return in_child(do)
    finally:
        let_go.set()
        holder.join()


PLACES: dict[str, Callable[[Own], Any]] = {
    "series": lambda own: own.series()._lock,
    "exemplars": lambda own: own.series()._reservoir._lock,
    "metric": lambda own: own.matches()._lock,
    "storage": lambda own: own.meter_provider._measurement_consumer._reader_storages[own.reader]._lock,
    "consumer": lambda own: own.meter_provider._measurement_consumer._lock,
    "meter": lambda own: own.meter()._instrument_registration_lock,
    "instruments": lambda own: own.meter()._instrument_ids_lock,
    "reader": lambda own: own.reader._lock,
    "export": lambda own: own.periodic._export_lock,
    "shutdown": lambda own: own.meter_provider._shutdown_once._lock,
    "simple processor": lambda own: own.kept._lock,
    "batch processor": lambda own: own.sent._lock,
    "batches": lambda own: own.tracer_provider._active_span_processor._span_processors[1]._batch_processor._export_lock,
    "logs": lambda own: own.logs._lock,
    "scales": lambda own: LogarithmMapping._mappings_lock,
    "coarse scales": lambda own: ExponentMapping._mappings_lock,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_lock_that_another_thread_held(own: Own, place: str) -> None:
    """Whichever lock another thread holds at the fork, the child records, collects, flushes and shuts down."""
    lock = PLACES[place](own)
    assert isinstance(lock, LOCKS)
    assert 0 == with_held([lock], own.do_everything)
    assert lock is PLACES[place](own), "the parent's own stay as they are"


def test_all_locks(own: Own) -> None:
    """With every lock of all that is OpenTelemetry's held at once, it is the same: none was forgotten."""
    things = [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("opentelemetry.")]
    found = [value for thing in things for value in list(getattr(thing, "__dict__", {}).values())]
    locks = [value for value in found if type(value) in LOCKS]
    assert 40 < len(locks)
    assert 0 == with_held(locks, own.do_everything)


def test_a_fork_in_a_callback(seen: Seen) -> None:
    """Of a child that is forked in the midst of a collection, by its own thread, the collection ends all the same."""
    children: list[int] = []

    def fork(options: CallbackOptions) -> list[Observation]:
        if not children:
            children.append(os.fork())
            if children == [0]:
                signal.alarm(10)
                otel_llm.record_queue_wait(1)
        return [Observation(1)]

    seen.meter_provider.get_meter("shop").create_observable_gauge("stock", [fork])
    try:
        otel_llm.record_queue_wait(1)
        found = seen.points("otel_llm.queue.wait.duration")
        if children == [0]:
            end_child(lambda: [2] == [point["count"] for point in seen.points("otel_llm.queue.wait.duration")])
    finally:
        if children == [0]:
            os._exit(3)
    assert [1] == [point["count"] for point in found]
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])


def test_a_fork_while_it_records(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked by the thread that holds the lock, as in a signal handler, records, and lets go of it."""
    histogram = seen.meter_provider.get_meter("otel_llm").create_histogram("width")
    histogram.record(1)
    bisect_left: Callable[..., int] = vars(aggregation)["bisect_left"]
    children: list[int] = []

    def interrupted(*args: Any) -> int:
        if not children:
            children.append(os.fork())
            if children == [0]:
                signal.alarm(10)
                histogram.record(1)
        return bisect_left(*args)

    monkeypatch.setattr(aggregation, "bisect_left", interrupted)
    try:
        histogram.record(1)
        if children == [0]:
            end_child(lambda: [3] == [point["count"] for point in seen.points("width")])
    finally:
        if children == [0]:
            os._exit(3)
    assert [2] == [point["count"] for point in seen.points("width")]
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])


@pytest.mark.parametrize("place", ["series", "simple processor", "logs"])
def test_providers_that_come_later(
    unset: None, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It is the same for global providers that the application sets after we were switched on."""
    monkeypatch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "EVENT_ONLY")
    OpenAIInstrumentor().instrument()
    own = Own(server)
    metrics.set_meter_provider(own.meter_provider)
    trace.set_tracer_provider(own.tracer_provider)
    _logs.set_logger_provider(own.logger_provider)
    own.work("gpt-5")

    def work() -> bool:
        own.work("gpt-5")
        return bool(own.kept.get_finished_spans() and own.logs.get_finished_logs())

    assert 0 == with_held([PLACES[place](own)], work)


def test_providers_of_others(own: Own) -> None:
    """A provider of which no weak references can be made costs the others nothing, and none is no provider."""

    class Slotted:
        __slots__ = ()

    sdk_locks.renew_for([Slotted(), None])
    assert 0 == with_held([own.series()._lock], own.do_everything)


def test_an_sdk_that_is_different(own: Own, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a lock cannot be renewed, or something is not what it is now, all other locks are renewed."""

    class Stubborn:
        def __init__(self) -> None:
            vars(self)["_lock"] = threading.Lock()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    class Different:
        def __init__(self) -> None:
            self._reader_storages = 1

    class Odd:
        def __init__(self) -> None:
            self._attributes_aggregation = None

    stubborn = Stubborn()
    monkeypatch.setattr(own.meter_provider, "_meters", {"a": Odd(), "b": stubborn, "c": Different()})

    def work() -> bool:
        own.work("gpt-5")
        return True

    assert 0 == with_held([vars(stubborn)["_lock"], own.series()._lock], work)


def test_a_storm(seen: Seen) -> None:
    """Children forked one after the other while threads are busy telling: all of them tell, and end.

    Threads then wait for each other's locks, which one that holds a lock for long does not show.
    """
    stopped: list[None] = []

    def tell() -> bool:
        with otel_llm.track_workflow("w"), otel_llm.track_step("s"), otel_llm.track_inference("m"):
            otel_llm.record_queue_wait(0.1)
        return True

    def busy() -> None:
        while not stopped:
            tell()

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    ends: list[int] = []
    until = time.monotonic() + 4
    try:
        while len(ends) < 40 and time.monotonic() < until and not any(ends):
            ends.append(in_child(tell))
    finally:
        stopped.append(None)
        for thread in threads:
            thread.join()
    assert [0] * len(ends) == ends


HOOKS = """
import os

registered = []
register = os.register_at_fork


def noted(**hooks):
    registered.extend([hook.__module__ for hook in hooks.values() if hook.__name__ == "_after_in_child"])
    register(**hooks)


os.register_at_fork = noted

import otel_llm
from otel_llm.compat import tinyllm

otel_llm.instrument(serve=False)
assert [name for name in registered if name.startswith("otel_llm")] == ["otel_llm.forked"], registered
"""


def test_one_order() -> None:
    """Nothing of ours depends on the order of imports: one hook does all that is done in a child."""
    subprocess.run([sys.executable, "-c", HOOKS], check=True, timeout=60)


SLOW = """
import os
import signal
import time

import otel_llm
import otel_llm.prometheus.multiprocess  # before what is renewed later
from otel_llm import forked

forked.in_child(renew=lambda: time.sleep(1))
otel_llm.instrument(serve=False)
otel_llm.record_cache_hit("answers")
child = os.fork()
if not child:
    signal.alarm(20)
    otel_llm.record_cache_hit("answers")
    assert b"answers" in otel_llm.generate_latest("tinyllm")
    otel_llm.uninstrument()
    os._exit(0)
while not (ended := os.waitpid(child, os.WNOHANG))[0]:
    otel_llm.generate_latest("tinyllm")
assert ended[1] == 0, ended
page = otel_llm.generate_latest("tinyllm").decode().splitlines()
print(*[line.split()[1] for line in page if 'cache_type="answers"' in line])
"""


def _run(program: str, tmp_path: Path) -> str:
    """Run a program whose processes share what they count, and return what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ |= {"OTEL_TRACES_EXPORTER": "none", environment.OTEL_LLM_MULTIPROC_DIR: str(tmp_path / "shared")}
    line = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program]
    done = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_a_page_is_asked_for_while_a_child_is_made_anew(tmp_path: Path) -> None:
    """A child that is asked for what it has counted before all of its locks are new counts, answers and ends."""
    assert "2.0\n" == _run(SLOW, tmp_path)


IN_A_CALLBACK = """
import os
import signal

import otel_llm
from opentelemetry import metrics

otel_llm.instrument(serve=False)
children = []


def fork(options):
    if not children:
        signal.alarm(20)
        children.append(os.fork())
        if not children[0]:
            otel_llm.record_cache_hit("answers")
            otel_llm.uninstrument()
            os._exit(0)
    return []


metrics.get_meter("shop").create_observable_gauge("size", [fork])
otel_llm.generate_latest()
assert os.waitpid(children[0], 0)[1] == 0
print(len(children))
"""


def test_a_fork_in_the_midst_of_a_collection(tmp_path: Path) -> None:
    """A callback that forks while a page is made hangs neither its process nor the child."""
    assert "1\n" == _run(IN_A_CALLBACK, tmp_path)
