"""What a dialect shows of the ledger's state, rule by rule."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_llm.errors import Failure
from otel_llm.prometheus import writer
from otel_llm.prometheus.dialects import bridge, labels, load, shipped
from otel_llm.prometheus.dialects.grammar import Dialect, read
from otel_llm.prometheus.families import Family, Histogram
from otel_llm.state import OVERFLOW_VALUE, Facts, State, Totals
from otel_llm_semconv.values import Operation

RATE_LIMIT = Failure("openai.RateLimitError", "RateLimitError", "rate_limit")
TIMEOUT = Failure("httpx.ReadTimeout", "ReadTimeout", "timeout")
CHAT = Facts(Operation.CHAT, "openai", "gpt-5")
BOUNDS = (0.1, 0.5, 1.0, 5.0)

Shown = dict[str, dict[str, Any]]
Show = Callable[..., dict[str, Any]]


def _totals(calls: int = 1, **known: Any) -> Totals:
    """Return totals of calls that all took up to a second."""
    return Totals(calls, 0.75 * calls, [0, 0, calls, 0, 0], **known)


def _state(
    *cells: tuple[Facts, Totals],
    active: list[tuple[Facts, int]] | None = None,
    static: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, ...]] | None = None,
) -> State:
    return State(bounds or {"duration": BOUNDS}, active or [], list(cells), static or {}, "shop")


def _shown(families: list[Family]) -> Shown:
    return {family.name: {series.labels: series.value for series in family.series} for family in families}


@pytest.fixture
def dialect(tmp_path: Path) -> Callable[[str], Dialect]:
    """Read a dialect from the text of its file."""

    def dialect(text: str) -> Dialect:
        file = tmp_path / "mine.toml"
        file.write_text(text, "utf-8")
        return read(file)

    return dialect


@pytest.fixture
def show(dialect: Callable[[str], Dialect]) -> Show:
    """Show cells by a dialect of one family `f`, of which keys are given, and of some labels."""

    def show(family: str, *cells: tuple[Facts, Totals], **more: Any) -> Any:
        text = f'[[family]]\nname = "f"\nhelp = ""\n{family}'
        return _shown(bridge.translate(dialect(text), _state(*cells, **more)))["f"]

    return show


CALLS = 'type = "counter"\nvalue = "calls"\n'


def _label(made: str) -> str:
    return f"{CALLS}labels = {{ x = {made} }}"


# labels

KNOWN = Facts(
    Operation.EMBEDDINGS,
    "azure.ai.openai",
    "asked",
    "answered",
    "example.com",
    8080,
    "http://example.com:8080",
    "/v1/embeddings",
    labels=(("team", "search"),),
    failure=RATE_LIMIT,
)


@pytest.mark.parametrize(
    ("dimension", "facts", "shown"),
    [
        ("model", KNOWN, "asked"),
        ("model", CHAT._replace(request_model=None, response_model="answered"), "answered"),
        ("model", CHAT._replace(request_model=None), "unknown"),
        ("model", CHAT._replace(request_model=""), "unknown"),
        ("request_model", KNOWN, "asked"),
        ("response_model", KNOWN, "answered"),
        ("response_model", CHAT, ""),
        ("provider", KNOWN, "azure.ai.openai"),
        ("operation", KNOWN, "embeddings"),
        ("task", KNOWN, "embedding"),
        ("task", KNOWN._replace(image=True), "embedding"),
        ("task", CHAT, "generation"),
        ("task", CHAT._replace(image=True), "vision"),
        ("task", CHAT._replace(operation=Operation.TEXT_COMPLETION), "generation"),
        ("endpoint", KNOWN, "/v1/embeddings"),
        ("base_url", KNOWN, "http://example.com:8080"),
        ("server_address", KNOWN, "example.com"),
        ("server_port", KNOWN, "8080"),
        ("server_port", CHAT, ""),
        ("outcome", KNOWN, "rate_limit"),
        ("outcome", CHAT, "success"),
        ("error_type", KNOWN, "openai.RateLimitError"),
        ("error_name", KNOWN, "RateLimitError"),
        ("error_name", CHAT, ""),
        ("service_name", CHAT, "shop"),
        ("label.team", KNOWN, "search"),
        ("label.team", CHAT, "static"),
        ("label.other", CHAT, ""),
    ],
)
def test_dimensions(dimension: str, facts: Facts, shown: str, show: Show) -> None:
    """A label shows what is known of a dimension, a context's label before the configuration's, else nothing."""
    found = show(_label(f'"{dimension}"'), (facts, _totals()), static={"team": "static"})

    assert {f'x="{shown}"': 1} == found


def test_all_dimensions_are_tested() -> None:
    """The test above has every dimension there is."""
    (marker,) = [mark for mark in getattr(test_dimensions, "pytestmark", []) if mark.name == "parametrize"]
    tested = {dimension for dimension, *_ in marker.args[1]}

    assert {name.replace("<key>", "team") for name in labels.DIMENSIONS} <= tested


@pytest.mark.parametrize(
    ("made", "facts", "shown"),
    [
        ('{ from = ["label.team", "provider"] }', KNOWN, "search"),
        ('{ from = ["label.team", "provider"] }', CHAT, "openai"),
        ('{ from = ["label.team", "provider"] }', CHAT._replace(labels=(("team", ""),)), "openai"),
        ('{ from = "label.team", default = "none" }', CHAT, "none"),
        ('{ from = "label.team", values = { none = "wrong" }, default = "none" }', CHAT, "none"),
        ('{ from = "label.team", otherwise = "wrong", default = "none" }', CHAT, "none"),
        ('{ from = "provider", values = { openai = "OpenAI" } }', CHAT, "OpenAI"),
        ('{ from = "provider", values = { openai = "OpenAI" } }', KNOWN, "azure.ai.openai"),
        ('{ from = "provider", values = { openai = "OpenAI" }, otherwise = "other" }', KNOWN, "other"),
        ('{ from = "provider", hosts = { "*.com" = "first", "example.*" = "second" } }', KNOWN, "first"),
        ('{ from = "provider", hosts = { "ample.com" = "part" } }', KNOWN, "azure.ai.openai"),
        (
            '{ from = "provider", hosts = { "EXAMPLE.com" = "host" } }',
            KNOWN._replace(server_address="Example.COM"),
            "host",
        ),
        ('{ from = "provider", hosts = { "*" = "host" } }', CHAT, "openai"),
        ('{ from = "label.none", hosts = { "*" = "host" }, needed = true }', KNOWN, "host"),
    ],
)
def test_label_tables(made: str, facts: Facts, shown: str, show: Show) -> None:
    """A label is made by its hosts, else by the first thing that is known and by its values, else by its default."""
    assert {f'x="{shown}"': 1} == show(_label(made), (facts, _totals()))


def test_needed_labels(show: Show) -> None:
    """There is no row where a needed label is not known."""
    found = show(_label('{ from = "label.team", needed = true }'), (CHAT, _totals()), (KNOWN, _totals(2)))

    assert {'x="search"': 2} == found


def test_labels_are_printed_sorted_and_escaped(show: Show) -> None:
    """Labels are sorted by name, escaped as the text format wants it, and always text that UTF-8 can carry."""
    facts = CHAT._replace(request_model='a"b\\c\nd', provider="\ud800")

    found = show(CALLS + 'labels = { z = "model", a = "provider", "B" = "service_name" }', (facts, _totals()))

    assert {'B="shop",a="?",z="a\\"b\\\\c\\nd"': 1} == found


# which calls


def test_outcome_and_where(show: Show) -> None:
    """A family counts calls of its outcome whose dimensions have the values it wants."""
    cells = [
        (CHAT, _totals(1)),
        (CHAT._replace(failure=RATE_LIMIT), _totals(10)),
        (CHAT._replace(failure=TIMEOUT), _totals(100)),
        (KNOWN, _totals(1000)),
    ]

    for family, total in (
        ("", 1111),
        ('outcome = "all"', 1111),
        ('outcome = "success"', 1),
        ('outcome = "failure"', 1110),
        ('where = { outcome = "rate_limit" }', 1010),
        ('where = { outcome = ["rate_limit", "timeout"], provider = "openai" }', 110),
        ('where = { "label.team" = "search" }', 1000),
        ('where = { provider = "anthropic" }', 0),
    ):
        assert {"": total} == show(CALLS + family, *cells), family


# values


def test_calls_of_one_label_set_add_up(show: Show) -> None:
    """Cells whose labels are the same are one series: sums added up, buckets bucket by bucket."""
    one = Totals(3, 0.125, [1, 1, 0, 0, 1])
    two = Totals(2, 0.25, [0, 1, 0, 1, 0])
    three = Totals(1, 0.5, [0, 0, 1, 0, 0])
    cells = [(CHAT, one), (KNOWN, Totals(1, 9.0, [0, 0, 0, 0, 1])), (KNOWN._replace(provider="openai"), two)]
    cells.append((CHAT._replace(response_model="other"), three))

    keys = 'type = "histogram"\nvalue = "duration"\nbuckets = [0.5, 5]\nlabels = { x = "provider" }'
    found = show(keys, *cells)

    assert ['x="openai"', 'x="azure.ai.openai"'] == list(found)
    assert Histogram((0.5, 5.0, float("inf")), (3, 5, 6), 0.875) == found['x="openai"']
    assert Histogram((0.5, 5.0, float("inf")), (0, 0, 1), 9.0) == found['x="azure.ai.openai"']
    assert {'x="openai"': 0.875, 'x="azure.ai.openai"': 9.0} == show(
        'type = "counter"\nvalue = "duration"\nlabels = { x = "provider" }', *cells
    )


@pytest.mark.parametrize(
    "column", ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"]
)
def test_tokens(column: str, show: Show) -> None:
    """A counter of tokens has a row where the server told some, be it 0, and none where it did not."""
    cells = [
        (CHAT, _totals(**{column: 3})),
        (CHAT._replace(endpoint="/other"), _totals()),
        (CHAT._replace(endpoint="/third"), _totals(**{column: 4})),
        (KNOWN, _totals(**{column: 0})),
        (KNOWN._replace(provider="none"), _totals()),
    ]

    found = show(f'type = "counter"\nvalue = "{column}"\nlabels = {{ x = "provider" }}', *cells)

    assert {'x="openai"': 7, 'x="azure.ai.openai"': 0} == found


def test_sums_of_columns(show: Show) -> None:
    """Several columns add up to what is known of them."""
    cells = [
        (CHAT, _totals(input_tokens=3, output_tokens=4)),
        (KNOWN, _totals(input_tokens=5)),
        (KNOWN._replace(provider="none"), _totals()),
    ]

    found = show('type = "counter"\nvalue = ["input_tokens", "output_tokens"]\nlabels = { x = "provider" }', *cells)

    assert {'x="openai"': 7, 'x="azure.ai.openai"': 5} == found


def test_rows(show: Show) -> None:
    """A family has a row for each value of its own label whose columns are known, beside its other labels."""
    cells = [(CHAT, _totals(input_tokens=3, output_tokens=4)), (KNOWN, _totals(output_tokens=5))]
    rows = 'rows.k = { in = "input_tokens", out = "output_tokens", all = ["input_tokens", "output_tokens"] }'

    found = show(f'type = "counter"\nlabels = {{ x = "provider" }}\n{rows}', *cells)

    assert [
        ('k="in",x="openai"', 3),
        ('k="out",x="openai"', 4),
        ('k="all",x="openai"', 7),
        ('k="out",x="azure.ai.openai"', 5),
        ('k="all",x="azure.ai.openai"', 5),
    ] == list(found.items())


def test_distributions(show: Show) -> None:
    """A histogram of another column has its buckets, and a series only where something was measured."""
    bounds = {"duration": (), "load_duration": (1.0, 2.0, 3.0)}
    cells = [
        (CHAT, _totals(distributions={"load_duration": ([1, 2, 3, 4], 20.5)})),
        (KNOWN, _totals()),
        (CHAT._replace(endpoint="/x"), _totals(distributions={"load_duration": ([1, 0, 0, 0], 0.25)})),
        (CHAT._replace(endpoint="/y"), _totals()),
    ]
    keys = 'type = "histogram"\nvalue = "load_duration"\nbuckets = [1, 3]\nlabels = { x = "provider" }'

    found = show(keys, *cells, bounds=bounds)

    assert {'x="openai"': Histogram((1.0, 3.0, float("inf")), (2, 7, 11), 20.75)} == found


def test_rows_of_a_histogram(show: Show) -> None:
    """Each row of a histogram has a column of its own."""
    bounds = {"duration": (), "input_tokens": (1.0, 2.0), "output_tokens": (2.0,)}
    cell = _totals(distributions={"input_tokens": ([1, 2, 3], 9), "output_tokens": ([4, 5], 7)})
    keys = 'type = "histogram"\nbuckets = [2]\nrows.k = { in = "input_tokens", out = "output_tokens" }'

    found = show(keys, (CHAT, cell), bounds=bounds)

    inf = float("inf")
    assert {'k="in"': Histogram((2.0, inf), (3, 6), 9), 'k="out"': Histogram((2.0, inf), (4, 9), 7)} == found


@pytest.mark.parametrize(
    ("column", "at", "other"), [("output_rate", "at", "load_at"), ("load_duration", "load_at", "at")]
)
def test_last_values(column: str, at: str, other: str, show: Show) -> None:
    """Of last values the newest is shown, whatever else is newer, and nothing where none was told."""
    cells = [
        (CHAT, _totals(1, **{column: 1.5, at: 3.0, other: 10.0})),
        (CHAT._replace(endpoint="/a"), _totals(1, **{column: 2.5, at: 9.0})),
        (CHAT._replace(endpoint="/b"), _totals(1, **{column: 3.5, at: 5.0, other: 12.0})),
        (CHAT._replace(endpoint="/c"), _totals(0, **{at: 11.0})),
        (KNOWN, _totals()),
    ]

    found = show(f'type = "gauge"\nvalue = "{column}"\nlabels = {{ x = "provider" }}', *cells)

    assert {'x="openai"': 2.5} == found


@pytest.mark.parametrize(("complete", "expected"), [("true", {'k="m"': 3, 'k="e"': 0}), ("false", {'k="m"': 3})])
def test_tokens_that_were_not_told(complete: str, expected: dict[str, float], show: Show) -> None:
    """Where a family is complete, tokens that were not told are 0 if others were, and no row where none were."""
    cells = [
        (CHAT._replace(request_model="m"), _totals(input_tokens=2, output_tokens=3)),
        (CHAT._replace(request_model="e"), _totals(input_tokens=2)),
        (CHAT._replace(request_model="n"), _totals()),
    ]
    keys = f'type = "counter"\nvalue = "output_tokens"\ncomplete = {complete}\nlabels = {{ k = "model" }}'

    assert expected == show(keys, *cells)


def test_active(show: Show) -> None:
    """Calls under way add up by what is known of them at their start; a label set that had one stays, at 0."""
    active = [(CHAT, 2), (CHAT._replace(endpoint="/x"), 3), (KNOWN._replace(failure=None), 0)]

    found = show('type = "gauge"\nvalue = "active"\nlabels = { x = "provider" }', (CHAT, _totals()), active=active)

    assert {'x="openai"': 5, 'x="azure.ai.openai"': 0} == found


def test_seen_and_process(show: Show) -> None:
    """An info says 1 of each label set of the calls, or of the process by the configuration, whatever was called."""
    cells = [(CHAT, _totals()), (CHAT._replace(endpoint="/x"), _totals()), (KNOWN, _totals())]

    seen = show('type = "gauge"\nvalue = "seen"\nlabels = { x = "provider" }', *cells)
    keys = 'type = "gauge"\nvalue = "process"\nlabels = { x = "label.team", y = "service_name" }'

    assert {'x="openai"': 1, 'x="azure.ai.openai"': 1} == seen
    assert {'x="a",y="shop"': 1} == show(keys, *cells, static={"team": "a"})
    assert {'x="",y="shop"': 1} == show(keys)


# what is there from the start


@pytest.mark.parametrize("value", ["", 'value = "{column}"'])
@pytest.mark.parametrize(
    ("keys", "column", "nothing"),
    [
        ('type = "counter"', "input_tokens", 0),
        ('type = "gauge"', "active", 0),
        ('type = "gauge"', "output_rate", 0),
        ('type = "histogram"\nbuckets = [1, 5]', "duration", Histogram((1.0, 5.0, float("inf")), [0, 0, 0], 0)),
    ],
)
def test_families_without_labels_begin_with_nothing(
    keys: str, column: str, nothing: object, value: str, show: Show
) -> None:
    """A family without labels is 0 from the start, as in `prometheus_client`; one with labels has no series."""
    text = f"{keys}\n{value.format(column=column)}\n"

    assert {"": nothing} == show(text)
    assert {} == show(f'{text}labels = {{ x = "model" }}' if value else f'{text}labels = ["x"]')


@pytest.mark.parametrize("name", shipped())
def test_every_family_is_declared(name: str) -> None:
    """Before any call, a page has HELP and TYPE of every family in every spelling, in the order of the file."""
    dialect = load(name)

    page = writer.text(bridge.translate(dialect, _state())).decode()

    kinds = {"info": "gauge"}
    assert [
        line
        for family in dialect.families
        for each in family.spellings
        for line in (f"# HELP {each} {family.help}", f"# TYPE {each} {kinds.get(family.kind, family.kind)}")
    ] == [line for line in page.splitlines() if line.startswith("#")]


def test_the_series_of_tinyllm_at_the_start() -> None:
    """TinyLLM's page has these series before any call."""
    page = writer.text(bridge.translate(load("tinyllm"), _state(static={"version": "1.4"}))).decode()

    assert [
        'tinyllm_system_info{app="shop",version="1.4"} 1.0',
        "tinyllm_queue_requests_rejected_total 0.0",
        "tinyllm_queue_active_workers 0.0",
    ] == [line for line in page.splitlines() if not line.startswith("#")]


def test_spellings(dialect: Callable[[str], Dialect]) -> None:
    """A family is shown under each of its spellings, with the same series; the text has each as a counter."""
    mine = dialect(f'[[family]]\nname = "f"\nhelp = "F"\n{CALLS}spellings = ["f", "f_total"]')

    page = writer.text(bridge.translate(mine, _state((CHAT, _totals(2)))))

    assert b"# HELP f F\n# TYPE f counter\nf 2.0\n# HELP f_total F\n# TYPE f_total counter\nf_total 2.0\n" == page


# beyond the cap


def test_overflow(show: Show) -> None:
    """Calls beyond the cap say so in every label, and are filtered by what is true of them."""
    beyond = Facts(OVERFLOW_VALUE, OVERFLOW_VALUE, overflow=True)
    failed = Failure(OVERFLOW_VALUE, OVERFLOW_VALUE, "rate_limit")
    cells = [(beyond, _totals(1)), (beyond._replace(failure=failed), _totals(10))]
    made = '{ from = "outcome", values = { success = "ok" }, otherwise = "x", hosts = { "*" = "y" }, default = "z" }'

    assert {'x="_overflow"': 11} == show(_label(made), *cells)
    assert {'x="_overflow"': 11} == show(_label('"service_name"'), *cells)
    assert {"": 11} == show(CALLS, *cells)
    assert {"": 1} == show(f'{CALLS}outcome = "success"', *cells)
    assert {"": 10} == show(f'{CALLS}where = {{ outcome = "rate_limit" }}', *cells)


def test_rows_beyond_the_cap_are_told_apart(show: Show) -> None:
    """The label of rows is true beyond the cap, so that input, output and their total are not added up."""
    cell = Facts(OVERFLOW_VALUE, OVERFLOW_VALUE, overflow=True), _totals(input_tokens=3, output_tokens=4)
    rows = 'rows.k = { in = "input_tokens", all = ["input_tokens", "output_tokens"] }'

    found = show(f'type = "counter"\nlabels = {{ x = "model" }}\n{rows}', cell)

    assert {'k="in",x="_overflow"': 3, 'k="all",x="_overflow"': 7} == found


def test_needed_labels_beyond_the_cap(show: Show) -> None:
    """Beyond the cap, a needed label is there where the calls had one."""
    beyond = Facts(OVERFLOW_VALUE, OVERFLOW_VALUE, overflow=True)
    cells = [(beyond, _totals(1)), (beyond._replace(labels=(("client_id", OVERFLOW_VALUE),)), _totals(10))]

    found = show(_label('{ from = "label.client_id", needed = true }'), *cells)

    assert {'x="_overflow"': 10} == found


# from scrape to scrape


def test_what_is_worked_out_is_kept_while_it_holds(dialect: Callable[[str], Dialect]) -> None:
    """Labels are made once for the same facts, anew for new facts and when the configuration has changed."""
    mine = dialect(f'[[family]]\nname = "f"\nhelp = ""\n{CALLS}labels = {{ x = "label.team", y = "model" }}')
    worked_out: list[Facts] = []
    original = bridge.Bridge._texts

    def texts(
        self: bridge.Bridge, facts: Facts, process: labels.Process, views: Container[int]
    ) -> tuple[str | None, ...]:
        worked_out.append(facts)
        return original(self, facts, process, views)

    other = CHAT._replace(request_model="gpt-4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge.Bridge, "_texts", texts)

        def shown(*cells: tuple[Facts, Totals], **static: str) -> object:
            return _shown(bridge.translate(mine, _state(*cells, static=static)))["f"]

        assert {'x="",y="gpt-5"': 1} == shown((CHAT, _totals(1)))
        assert {'x="",y="gpt-5"': 2} == shown((Facts(*CHAT), _totals(2)))
        assert [CHAT] == worked_out
        assert {'x="",y="gpt-5"': 3, 'x="",y="gpt-4"': 1} == shown((CHAT, _totals(3)), (other, _totals(1)))
        assert [CHAT, other] == worked_out
        assert {'x="",y="gpt-4"': 1} == shown((other, _totals(1)))
        assert {'x="",y="gpt-5"': 4} == shown((CHAT, _totals(4)))  # forgotten, so that memory stays bounded
        assert [CHAT, other, CHAT] == worked_out
        assert {'x="a",y="gpt-5"': 4} == shown((CHAT, _totals(4)), team="a")
        assert [CHAT, other, CHAT, CHAT] == worked_out


def test_a_dialect_that_is_gone_leaves_nothing(dialect: Callable[[str], Dialect]) -> None:
    """What was worked out for a dialect goes with it."""
    mine = dialect(f'[[family]]\nname = "f"\nhelp = ""\n{CALLS}')
    bridge.translate(mine, _state((CHAT, _totals())))
    kept = weakref.ref(bridge._bridges[mine])

    del mine
    gc.collect()

    assert kept() is None


def test_buckets_that_nobody_counted(show: Show, caplog: pytest.LogCaptureFixture) -> None:
    """A histogram whose buckets the ledger does not have is left empty, which is told once, and the page is shown."""
    keys = 'type = "histogram"\nvalue = "{}"\nbuckets = [0.3]\nlabels = {{ x = "model" }}'

    for column in ("duration", "load_duration"):
        bridge._told.clear()
        caplog.clear()
        for _ in range(2):
            assert {} == show(keys.format(column), (CHAT, _totals()))
        (record,) = caplog.records
        assert "otel_llm: f is empty: its buckets are not counted; name its dialect to instrument()" == record.message
    bridge._told.clear()
    caplog.clear()
    assert {} == show(keys.format("duration"))
    assert [] == caplog.records  # where nobody has called, nothing is missing
