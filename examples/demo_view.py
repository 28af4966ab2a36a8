"""How the demo looks: the calls as they come, the trace, the measurements, the page. Plain ASCII when piped."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.request import ProxyHandler, build_opener

from demo_page import DURATION, FIRST_CHUNK, FIRST_TEXT, RETRIES, TOKENS, Measured, excerpt, measured
from demo_server import Target
from opentelemetry.sdk.trace import ReadableSpan
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_llm_semconv import attributes as names

if TYPE_CHECKING:
    import io

WIDTH: Final = 100
"""Columns where there is no terminal to ask."""
WIDE: Final = 90
"""Columns from which the trace shows its details."""
INDENT: Final = 28
"""Columns before the answers, and before the measurements."""

ROWS: Final[tuple[tuple[str, Callable[[Measured], str]], ...]] = (
    ("calls", lambda group: group.count(f"{DURATION}_count")),
    ("  failed", lambda group: group.failed),
    ("attempts repeated", lambda group: group.count(RETRIES)),
    ("tokens in", lambda group: group.count(TOKENS, otel_llm_token_kind="input")),
    ("  read from cache", lambda group: group.count(TOKENS, otel_llm_token_kind="cache_read")),
    ("tokens out", lambda group: group.count(TOKENS, otel_llm_token_kind="output")),
    ("  spent on reasoning", lambda group: group.count(TOKENS, otel_llm_token_kind="reasoning")),
    ("time per call, mean", lambda group: _seconds(group.mean(DURATION))),
    ("  median, about", lambda group: _seconds(group.median(DURATION))),
    ("  slowest, at most", lambda group: _seconds(group.bound(DURATION))),
    ("streams: first chunk after", lambda group: _seconds(group.mean(FIRST_CHUNK))),
    ("  first text after", lambda group: _seconds(group.mean(FIRST_TEXT))),
)


class View:
    """Everything that is printed."""

    def __init__(self) -> None:
        cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="replace")
        self._console = Console(highlight=False)
        if not self._console.is_terminal and "COLUMNS" not in os.environ:
            self._console = Console(highlight=False, width=WIDTH)
        options = self._console.options
        self._plain = not self._console.is_terminal or self._console.is_dumb_terminal or options.ascii_only
        self._column = 0

    def title(self, target: Target) -> None:
        """Say who talks to whom."""
        self._print("otel-llm", "bold", f" {version('otel-llm')}")
        self._print("", "", f"The openai client {version('openai')} talks to {target.name}, model {target.model}.")
        self._head("Calls", "what the program itself sees")

    def begin(self, name: str) -> None:
        """Name the call that begins."""
        self._console.print(Text(f"{name:<{INDENT}}"), end="")
        self._column = INDENT

    def word(self, text: str, style: str = "") -> None:
        """Show a piece of an answer as it arrives, in what room is left on the line."""
        room = self._console.width - self._column - 1
        shown = text.replace("\n", " ")
        if len(shown) > room:
            shown = shown[: max(room - 3, 0)].ljust(room, ".") if room > 0 else ""
        self._column += len(text)
        self._console.print(Text(shown, style), end="", soft_wrap=True)
        self._console.file.flush()

    def end(self, result: str, style: str = "") -> None:
        """Show what came of the call, and end its line."""
        self.word(result, style)
        self._console.print()

    def fail(self, message: str) -> int:
        """Say why the demo ends here; the exit code is 1."""
        self._print("\n" + message, "red")
        return 1

    def trace(self, spans: Sequence[ReadableSpan]) -> None:
        """Show the spans as a tree."""
        wide = self._console.width >= WIDE
        self._head("Trace", "spans of the application, of each call, of each HTTP request")
        table = self._table("span", "time", *(("tokens in", "out") if wide else ()))
        table.add_column("outcome", no_wrap=True)
        for guide, span in tree(spans, plain=self._plain):
            attributes = span.attributes or {}
            tokens = (attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS), attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS))
            counts = ["" if number is None else str(number) for number in tokens] if wide else []
            base = "dim" if names.HTTP_REQUEST_METHOD in attributes else ""
            name = Text.assemble((guide, "dim"), (span.name, base or ("bold" if is_call(span) else "cyan")))
            retried = "yellow" if names.OTEL_LLM_RETRIES in attributes else ""
            state = "red" if names.ERROR_TYPE in attributes else retried
            lasted = _seconds(((span.end_time or 0) - (span.start_time or 0)) / 1e9)
            outcome = Text(", ".join(outcomes(attributes)[: None if wide else 1]), f"{base} {state}".strip())
            table.add_row(name, Text(lasted, base), *counts, outcome)
        self._show(table)

    def page(self, url: str) -> None:
        """Show what a Prometheus reads: first summed up, then as it is."""
        with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
            page: str = response.read().decode()
        self._measured(measured(page))
        if not self._console.is_terminal:
            self._head("Metrics page", "all of it, as Prometheus reads it")
            self._console.file.write(page)
            return
        lines = excerpt(page, self._console.width)
        self._head("Metrics page", f"{len(lines)} of its {len(page.splitlines())} lines, most labels left out")
        for line in lines:
            self._console.print(Text(line, "dim" if line.startswith("#") else ""), soft_wrap=True)

    def served(self, url: str, *, stays: bool) -> None:
        """Say where the page is."""
        self._head("Served", "for Prometheus, or your browser")
        if stays:
            self._print(url, "bold", "  until Ctrl-C")
        else:
            self._print(url, "", "  during this run")
            self._print("make demo DEMO=--serve", "bold", "  keeps it, at http://localhost:9464/metrics")

    def _measured(self, groups: Sequence[Measured]) -> None:
        self._head("Measured", "for each model, read back from the metrics page")
        room = max((self._console.width - INDENT) // max(len(groups), 1) - 2, 10)
        headers = ("\n".join([group.operation, *textwrap.wrap(group.model, room)]) for group in groups)
        table = self._table("", *headers)
        for label, read in ROWS:
            values = [read(group) for group in groups]
            if any(values):
                bad = "red" if label.strip() == "failed" else ""
                cells = (Text(value or "-", "dim" if value in ("", "0") else bad) for value in values)
                table.add_row(Text(label, "dim" if label.startswith(" ") else ""), *cells)
        self._show(table)

    def _table(self, first: str, *numbers: str) -> Table:
        """Make a table whose first column is text and whose further ones are numbers."""
        table = Table(box=None if self._plain else box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
        table.add_column(first, no_wrap=True)
        for header in numbers:
            table.add_column(header, justify="right", no_wrap=True)
        return table

    def _show(self, table: Table) -> None:
        """Print a table without the blanks that fill up its lines."""
        with self._console.capture() as captured:
            self._console.print(table)
        for line in captured.get().splitlines():
            self._console.file.write(line.rstrip() + "\n")

    def _head(self, title: str, explanation: str) -> None:
        self._print(f"\n{title}", "bold magenta", f"  {explanation}", "dim")
        self._console.print()

    def _print(self, text: str, style: str, more: str = "", style_of_more: str = "") -> None:
        self._console.print(Text.assemble((text, style), (more, style_of_more)), soft_wrap=True)


def tree(spans: Sequence[ReadableSpan], *, plain: bool) -> Iterator[tuple[str, ReadableSpan]]:
    """Yield each span after its parent, with the guide lines to print before its name."""
    ids = {span.context.span_id for span in spans if span.context}
    last, more, gap = ("  ", "  ", "  ") if plain else ("└─ ", "├─ ", "│  ")

    def below(parent: int | None, guide: str) -> Iterator[tuple[str, ReadableSpan]]:
        children = [span for span in spans if (span.parent.span_id if span.parent else None) == parent]
        children.sort(key=lambda span: span.start_time or 0)
        for span in children:
            end = span is children[-1]
            yield guide + ("" if parent is None else last if end else more), span
            if span.context and span.context.span_id in ids:
                inner = "" if parent is None else " " * len(gap) if end else gap
                yield from below(span.context.span_id, guide + inner)

    return below(None, "")


def is_call(span: ReadableSpan) -> bool:
    """Whether the span is that of an LLM call."""
    return names.GEN_AI_OPERATION_NAME in (span.attributes or {})


def outcomes(attributes: Mapping[str, Any]) -> list[str]:
    """Tell what came of a call or a request, the most important first."""
    status = attributes.get(names.HTTP_RESPONSE_STATUS_CODE)
    if status is not None:
        return [str(status)]
    found: list[str] = []
    if names.OTEL_LLM_RETRIES in attributes:
        found.append(f"{attributes[names.OTEL_LLM_RETRIES]} retries")
    if names.ERROR_TYPE in attributes:
        found.append(str(attributes[names.ERROR_TYPE]))
    chunks = attributes.get(names.OTEL_LLM_STREAM_CHUNKS)
    if attributes.get(names.OTEL_LLM_STREAM_OUTCOME) == "closed":
        found.append(f"left after {chunks} chunks")
    else:
        found += attributes.get(names.GEN_AI_RESPONSE_FINISH_REASONS, ())
        found += [f"{chunks} chunks"] if chunks else []
    if names.OTEL_LLM_TIME_TO_FIRST_TEXT in attributes:
        found.append(f"first text {_seconds(attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT])}")
    if attributes.get(names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS):
        found.append(f"{attributes[names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS]} tokens spent on reasoning")
    return found


def _seconds(seconds: float | None) -> str:
    """Spell a duration with at most three digits of it."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
