"""Everything countable, in one place: a cumulative store that a call updates once and that is read at collection.

One update costs well under a microsecond, where an OpenTelemetry counter costs six; so counters and gauges are observed
from here, and only distributions are recorded call by call. The Prometheus pages of the dialects are made of nothing
else: `Ledger.state`.

    Lane    what calls share at their start, as the canonical metrics tell them apart: how many are in flight
    Track   the calls of a lane with the same endpoint and the same labels, which only dialects show
    Cell    the calls of a track that ended alike: the totals
    Row     the totals of all cells of one canonical series
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Mapping
from threading import RLock
from typing import Any, TypeAlias

from opentelemetry.util.types import AttributeValue

from otel_llm import forked
from otel_llm.call import Call
from otel_llm.errors import Failure, failure
from otel_llm.measures import Measures
from otel_llm.state import Columns, Facts, State, Totals, beyond, rebucketed, short
from otel_llm.wire.headers import rate_limits

Key: TypeAlias = tuple[object, ...]
"""Values of the attributes that a series has, in the order in which its metric declares them."""

Bounds: TypeAlias = Mapping[str, tuple[float, ...]]
"""Upper bounds of buckets by column."""

OVERFLOW: Key = ()
"""Key of the one series that stands for all beyond the cap."""
_AT_ONCE = 64
"""Cells that are copied before calls get their turn again."""


class Tokens:
    """Running totals of what calls used; None is what no server ever sent."""

    __slots__ = ("cache_read", "cache_write", "input", "modalities", "output", "reasoning", "retries")

    def __init__(self) -> None:
        self.input: int | None = None
        self.output: int | None = None
        self.cache_read: int | None = None
        self.cache_write: int | None = None
        self.reasoning: int | None = None
        self.modalities: dict[str, int] | None = None
        self.retries: dict[str, int] | None = None


class Row(Tokens):
    """Totals of all calls of one canonical series."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def add(self, cell: Cell) -> None:
        """Add the totals of a cell."""
        self.calls += sum(cell.counts)
        self.input = _plus(self.input, cell.input)
        self.output = _plus(self.output, cell.output)
        self.cache_read = _plus(self.cache_read, cell.cache_read)
        self.cache_write = _plus(self.cache_write, cell.cache_write)
        self.reasoning = _plus(self.reasoning, cell.reasoning)
        if cell.modalities:
            self.modalities = _added(self.modalities, cell.modalities)
        if cell.retries:
            self.retries = _added(self.retries, cell.retries)


class Cell(Tokens):
    """Running totals of the calls of one canonical series that dialects show in the same way."""

    __slots__ = ("before", "counts", "distributions", "facts", "inputs", "last", "load", "outputs", "seconds", "series")

    def __init__(self, series: Key, facts: Facts | None, bounds: Bounds) -> None:
        super().__init__()
        self.series = series
        """The canonical series, or `OVERFLOW`."""
        self.facts = facts
        """None where no dialect counts these calls, since they run no model."""
        self.seconds = 0.0
        self.counts = _empty(bounds["duration"])
        self.inputs = _empty(bounds["input_tokens"]) if "input_tokens" in bounds else None
        """Calls by bucket of their input tokens, where a dialect wants them."""
        self.outputs = _empty(bounds["output_tokens"]) if "output_tokens" in bounds else None
        self.before = 0, 0
        """Input and output tokens that are in no bucket, since nobody wanted buckets then."""
        self.load: tuple[float, float] | None = None
        """Seconds in which the model was loaded, and when that was told."""
        self.last: tuple[int, float, float] | None = None
        """Output tokens, seconds in which they came, and when that was."""
        self.distributions: dict[str, tuple[list[int], float]] = {}
        """Other columns by bucket, and their sum."""

    def distribute(self, name: str, value: float, bounds: Bounds) -> None:
        """Count a value in its bucket, if a dialect wants that."""
        upper = bounds.get(name)
        if upper is not None:
            counts, total = self.distributions.get(name) or (_empty(upper), 0.0)
            counts[bisect_left(upper, value)] += 1
            self.distributions[name] = counts, total + value

    def go_over(self, old: Bounds, new: Bounds) -> None:
        """Go over to other buckets; those that become finer hold what they held at their upper end."""
        self.counts = rebucketed(self.counts, old["duration"], new["duration"])
        self.distributions = {
            name: (rebucketed(counts, old[name], new[name]), total)
            for name, (counts, total) in self.distributions.items()
            if name in new
        }
        before_input, before_output = self.before
        if self.inputs is None:
            before_input = self.input or 0
        if self.outputs is None:
            before_output = self.output or 0
        self.before = before_input, before_output
        self.inputs = _gone_over(self.inputs, "input_tokens", old, new)
        self.outputs = _gone_over(self.outputs, "output_tokens", old, new)

    def totals(self) -> Totals:
        """Return a copy."""
        tokens, seconds, at = self.last or (0, 0.0, 0.0)
        load, load_at = self.load or (None, 0.0)
        distributions: dict[str, tuple[list[int], float]] = {
            name: (counts.copy(), total) for name, (counts, total) in self.distributions.items()
        }
        before_input, before_output = self.before
        if self.inputs is not None and any(self.inputs):
            distributions["input_tokens"] = self.inputs.copy(), (self.input or 0) - before_input
        if self.outputs is not None and any(self.outputs):
            distributions["output_tokens"] = self.outputs.copy(), (self.output or 0) - before_output
        return Totals(
            sum(self.counts),
            self.seconds,
            self.counts.copy(),
            self.input,
            self.output,
            self.cache_read,
            self.cache_write,
            self.reasoning,
            tokens / seconds if tokens and seconds > 0 else None,
            load,
            at,
            load_at,
            distributions,
        )


class Lane:
    """What the calls share that are alike at their start: how many are in flight, what headroom was told."""

    __slots__ = ("_rate_limits", "folded", "headers", "key", "span", "tracks")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.tracks: list[Track] = []
        self.folded: Track | None = None
        """Where the calls are counted whose endpoint or labels are beyond the cap."""
        self.headers: Any = None
        """Headers of the last answer, read when somebody asks."""
        self.span: tuple[str, Mapping[str, AttributeValue]] | None = None
        """Name and first attributes of their spans, kept by the sink that makes them."""
        self._rate_limits: dict[str, int] = {}

    @property
    def active(self) -> int:
        """How many of its calls are in flight."""
        return sum([len(track.flight) for track in self.tracks])

    def rate_limits(self) -> Mapping[str, int]:
        """Return the headroom last told, by the metric that shows it."""
        headers, self.headers = self.headers, None
        if headers is not None:
            self._rate_limits.update(rate_limits(headers))
        return self._rate_limits


class Track:
    """The calls of a lane with the same endpoint and labels."""

    __slots__ = ("cells", "facts", "flight", "lane")

    def __init__(self, lane: Lane, facts: Facts | None) -> None:
        self.lane = lane
        self.facts = facts
        """None where no dialect counts these calls."""
        self.flight: list[None] = []
        """As long as calls are in flight: it grows and shrinks in one step of the interpreter, without the lock."""
        self.cells: dict[Key, Cell] = {}
        lane.tracks.append(self)


class Ledger:
    """Totals by attributes, and the present state by what is known at the start of a call.

    Args:
        max_series: how many there are of each at most, and one for all beyond.
        columns: what the dialects want to be kept.
    """

    def __init__(self, max_series: int, columns: Columns | None = None) -> None:
        self.max_series = max_series
        self.lanes: dict[Key, Lane] = {}
        self.folded = 0
        """Calls that are counted beyond the cap."""
        self.renamed: dict[Key, None] = {}
        """Provider and model of calls that are counted under another model."""
        self._tracks: dict[Key, Track] = {}
        self._cells: list[Cell] = []
        self._folded_cells: dict[Key, Cell] = {}
        self._series: dict[Key, Key] = {}
        self._rows: dict[Key, Row] | None = None
        # One thread can come here twice: a signal handler may make a call in the middle of another.
        self._lock = RLock()
        self.columns = columns or Columns()
        self.measures = Measures(max_series, self.columns.bounds)
        """What is told of other things than calls."""
        self._bounds = self.columns.bounds["duration"]
        self.keep(self.columns)
        _ledgers.add(self)

    def keep(self, columns: Columns) -> None:
        """Keep from now on what these dialects want as well; finer buckets hold what was counted at their upper end."""
        columns = self.columns.united(columns)
        with self._lock:
            for cell in (*self._cells, *self._folded_cells.values()):
                cell.go_over(self.columns.bounds, columns.bounds)
            self.columns = columns
            self.measures.keep(columns.bounds)
            self._bounds = columns.bounds["duration"]
            self._labels = columns.labels
            self._input_bounds = columns.bounds.get("input_tokens", ())
            self._output_bounds = columns.bounds.get("output_tokens", ())
            self._first_chunks = "time_to_first_chunk" in columns.bounds

    def begin(self, call: Call) -> None:
        """Count the call as in flight."""
        labels = call.labels
        key: Key = (
            call.operation,
            call.provider,
            call.request_model,
            call.server_address,
            call.server_port,
            call.base_url,
            call.endpoint,
            call.image,
            call.runs_model,
            None if labels is None else labels.among(self._labels),
        )
        track = self._tracks.get(key)
        if track is None:
            with self._lock:
                track = self._new_track(key)
        track.flight.append(None)
        call.track = track

    def rename(self, call: Call, model: str) -> None:
        """Have a call that has not begun count under another model; whoever else tells of it names its own."""
        if call.request_model is not None and len(self.renamed) < self.max_series:
            self.renamed[call.provider, call.request_model] = None
        call.request_model = model

    def forget_spans(self) -> None:
        """Forget how spans of calls begin; another sink may begin them otherwise."""
        for lane in list(self.lanes.values()):
            lane.span = None

    def leave(self, call: Call) -> None:
        """Count the call as no longer in flight, and as nothing else."""
        if call.track is not None:
            try:
                call.track.flight.pop()
            except IndexError:
                pass

    def place(self, call: Call) -> None:
        """Give the call its track, and count it nowhere."""
        self.begin(call)
        self.leave(call)

    def end(self, call: Call) -> None:
        """Count the call as no longer in flight and add it to its cell."""
        series = call.series
        if call.error_type is not None or not call.runs_model:
            series = self._ended(call)
        track = call.track
        if track is None:
            self.begin(call)
            track = call.track
            assert track is not None
        with self._lock:
            if track.flight:
                track.flight.pop()
            if call.response_headers is not None:
                track.lane.headers = call.response_headers
            cell = track.cells.get(series)
            if cell is None:
                cell = self._new_cell(track, series, call)
            self._rows = None
            seconds = call.ended_at - call.started_at
            cell.seconds += seconds
            cell.counts[bisect_left(self._bounds, seconds)] += 1
            tokens = call.input_tokens
            if tokens is not None:
                cell.input = tokens + (cell.input or 0)
                if cell.inputs is not None:
                    cell.inputs[bisect_left(self._input_bounds, tokens)] += 1
            tokens = call.output_tokens
            if tokens is not None:
                cell.output = tokens + (cell.output or 0)
                if tokens:
                    cell.last = tokens, seconds, call.ended_at
                if cell.outputs is not None:
                    cell.outputs[bisect_left(self._output_bounds, tokens)] += 1
            tokens = call.cache_read_tokens
            if tokens is not None:
                cell.cache_read = tokens + (cell.cache_read or 0)
            tokens = call.reasoning_tokens
            if tokens is not None:
                cell.reasoning = tokens + (cell.reasoning or 0)
            if call.cache_write_tokens is not None:
                cell.cache_write = call.cache_write_tokens + (cell.cache_write or 0)
            if call.modality_tokens:
                cell.modalities = _added(cell.modalities, call.modality_tokens)
            if call.server_times is not None:
                self._take_server_times(cell, call)
            if call.retry_reasons:
                for reason in call.retry_reasons:
                    cell.retries = _added(cell.retries, {reason: 1})
            if self._first_chunks and call.first_chunk_at is not None:
                cell.distribute("time_to_first_chunk", call.first_chunk_at - call.started_at, self.columns.bounds)

    def _ended(self, call: Call) -> Key:
        """Return by what cells of calls are told apart that failed, or that no dialect counts."""
        if not call.runs_model:
            return call.series, None
        assert call.error_type is not None
        failed = failure(call.error_type, call.error)
        labels = call.labels
        if labels is None:
            return call.series, failed, ()
        among = self.columns.failure_labels
        return call.series, failed, tuple(sorted([label for label in labels.items() if label[0] in among]))

    def _take_server_times(self, cell: Cell, call: Call) -> None:
        load = call.load_seconds
        if load is not None:
            cell.load = load, call.ended_at
            cell.distribute("load_duration", load, self.columns.bounds)
        seconds = call.generation_seconds
        if call.output_tokens and seconds:
            cell.last = call.output_tokens, seconds, call.ended_at

    def _new_track(self, key: Key) -> Track:
        lane = self.lanes.get(key[:5]) or self._new_lane(key[:5])
        operation, provider, model, address, port, base_url, endpoint, image, runs_model, labels = key
        if lane.key == OVERFLOW or len(self._tracks) >= self.max_series:
            if lane.folded is None:
                lane.folded = Track(lane, beyond(None, ()))
            return lane.folded
        facts: Any = (operation, provider, model, None, address, port, base_url, endpoint, image, labels or ())
        return self._tracks.setdefault(key, Track(lane, Facts(*map(short, facts)) if runs_model else None))

    def _new_lane(self, key: Key) -> Lane:
        if len(self.lanes) >= self.max_series:
            key = OVERFLOW
        return self.lanes.setdefault(key, Lane(key))

    def _new_cell(self, track: Track, key: Key, call: Call) -> Cell:
        ended = () if key is call.series else key[1:]
        series = self._series.get(call.series)
        if series is None:
            series = call.series if len(self._series) < self.max_series else OVERFLOW
            if series != OVERFLOW:
                self._series[series] = series
        failed: Any = ended[0] if ended else None
        extra: Any = ended[1] if len(ended) > 1 else ()
        facts = None
        folds = series == OVERFLOW or track is track.lane.folded or len(self._cells) >= self.max_series
        if call.runs_model:
            facts = beyond(failed, extra) if folds else self._facts(track, call, failed, extra)
        if not folds:
            cell = track.cells[key] = Cell(series, facts, self.columns.bounds)
            self._cells.append(cell)
            return cell
        self.folded += 1
        folded: Key = (series, facts)
        known = self._folded_cells.get(folded)
        if known is None:
            known = self._folded_cells[folded] = Cell(series, facts, self.columns.bounds)
        return known

    def _facts(self, track: Track, call: Call, failed: Failure | None, extra: tuple[tuple[str, str], ...]) -> Facts:
        """Return the facts of a call that has ended; what it told of itself at first may have changed since."""
        first = track.facts
        labels = () if first is None else first.labels
        return Facts(
            call.operation,
            call.provider,
            short(call.request_model),
            short(call.response_model),
            short(call.server_address),
            call.server_port,
            short(call.base_url),
            short(call.endpoint),
            call.image,
            tuple(sorted({*labels, *extra})) if extra else labels,
            failed,
        )

    @property
    def rows(self) -> dict[Key, Row]:
        """The totals by canonical series."""
        return dict(self.snapshot())

    def snapshot(self) -> list[tuple[Key, Row]]:
        """Return the totals by canonical series as they are now, in the order in which they came; not to be changed."""
        with self._lock:
            rows = self._rows
            if rows is None:
                rows = self._rows = {}
                for cell in (*self._cells, *self._folded_cells.values()):
                    rows.setdefault(cell.series, Row()).add(cell)
        return list(rows.items())

    def state(self, labels: Mapping[str, str], service_name: str) -> State:
        """Return a copy of everything that dialects show; calls that end meanwhile wait for a few cells at most."""
        cells: list[tuple[Facts, Totals]] = []
        with self._lock:
            tracks = [*self._tracks.values(), *filter(None, (lane.folded for lane in self.lanes.values()))]
            active = [(track.facts, len(track.flight)) for track in tracks if track.facts is not None]
            known = [cell for cell in (*self._cells, *self._folded_cells.values()) if cell.facts is not None]
            columns = self.columns
        for start in range(0, len(known), _AT_ONCE):
            with self._lock:
                for cell in known[start : start + _AT_ONCE]:
                    if cell.facts is not None:
                        cells.append((cell.facts, cell.totals()))
        return State(columns.bounds, active, cells, labels, service_name, self.measures.told())


def _empty(bounds: tuple[float, ...]) -> list[int]:
    return [0] * (len(bounds) + 1)


def _gone_over(counts: list[int] | None, name: str, old: Bounds, new: Bounds) -> list[int] | None:
    if name not in new:
        return None
    return _empty(new[name]) if counts is None else rebucketed(counts, old[name], new[name])


def _plus(total: int | None, more: int | None) -> int | None:
    return total if more is None else more + (total or 0)


def _added(totals: dict[str, int] | None, more: dict[str, int]) -> dict[str, int]:
    totals = {} if totals is None else totals
    for key, amount in more.items():
        totals[key] = totals.get(key, 0) + amount
    return totals


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _renew_locks() -> None:
    """A lock that another thread held at the fork would stay locked in the child, and its calls are the parent's."""
    for ledger in _ledgers:
        ledger._lock = RLock()
        for lane in ledger.lanes.values():
            for track in lane.tracks:
                track.flight.clear()


forked.in_child(renew=_renew_locks)
