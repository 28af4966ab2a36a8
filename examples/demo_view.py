"""How the demo looks: a table for the trace, one for the measurements, and the page. Plain ASCII when piped."""

import io
import os
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Final
from urllib.request import ProxyHandler, build_opener

from demo_page import Measured, excerpt, measured
from demo_server import Target
from opentelemetry.sdk.trace import ReadableSpan
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_llm_semconv import attributes as names

WIDTH: Final = 100
"""Columns when there is no terminal to ask."""
WIDE: Final = 88
"""Columns below which the trace leaves out its details."""
LABELS: Final = 25
"""Columns that the labels of the calls and of the measurements take."""


class View:
    """Everything that is printed."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        console = Console(highlight=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(highlight=False, width=WIDTH)
        self._console = console
        self._plain = not console.is_terminal or console.is_dumb_terminal or console.options.ascii_only
        self._column = 0

    def title(self, target: Target) -> None:
        """Say who talks to whom."""
        self._console.print(Text(f"otel-llm {version('otel-llm')}, the demo", style="bold"))
        self._console.print(Text(f"The openai client {version('openai')} asks {target.model} of {target.name}."))
        self._head("Calls", "what the program itself gets to see")

    def begin(self, name: str) -> None:
        """Name the call that begins."""
        self._console.print(Text(f"  {name:<{LABELS - 2}}", style="cyan"), end="")
        self._column = LABELS

    def word(self, text: str) -> None:
        """Show a piece of an answer as it arrives."""
        text = " ".join(text.splitlines()) if "\n" in text else text
        room = self._console.width - self._column - 1
        self._console.print(Text(text[: max(room, 0)]), end="", soft_wrap=True)
        self._column += len(text)

    def end(self, result: str | None) -> None:
        """Show what came of the call, and end its line."""
        self.word(result or "")
        self._console.print()

    def fail(self, message: str) -> int:
        """Say why the demo cannot go on."""
        self._console.print(Text(message, style="red"))
        return 1

    def trace(self, spans: Sequence[ReadableSpan]) -> None:
        """Show the spans as a tree."""
        wide = self._console.width >= WIDE
        self._head("Trace", "the application's spans, below them the calls, below those each HTTP request")
        table = self._table()
        table.add_column("span", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        if wide:
            table.add_column("tokens in", justify="right", no_wrap=True)
            table.add_column("out", justify="right", no_wrap=True)
        table.add_column("outcome", no_wrap=True)
        for guide, span in self._tree(spans):
            kind = _kind(span)
            style = {"call": "bold", "http": "dim"}.get(kind, "cyan")
            bad = kind != "application" and names.ERROR_TYPE in (span.attributes or {})
            name = Text(guide, style="dim") + Text(span.name, style=style)
            tokens = (_number(span, names.GEN_AI_USAGE_INPUT_TOKENS), _number(span, names.GEN_AI_USAGE_OUTPUT_TOKENS))
            outcome = _outcome(span, wide)
            table.add_row(
                name,
                Text(_duration(_seconds(span)), style="dim" if kind == "http" else ""),
                *(tokens if wide else ()),
                Text(outcome, style="red" if bad else "yellow" if "retries" in outcome else "dim"),
            )
        self._console.print(table)

    def page(self, url: str) -> None:
        """Show what a Prometheus would read: first summed up, then as it is."""
        with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
            page = response.read().decode()
        self._measured(measured(page))
        if self._plain:
            self._head("Metrics page", "as Prometheus reads it")
            sys.stdout.write(page)
            return
        self._head("Metrics page", "some of its lines, with most labels left out")
        lines = excerpt(page, self._console.width - 2)
        for line in lines:
            self._console.print(Text(line, style="dim" if line.startswith("#") else ""), soft_wrap=True)
        self._console.print(Text(f"and {len(page.splitlines()) - len(lines)} lines more", style="dim"))

    def served(self, url: str, *, stays: bool) -> None:
        """Say where the page is."""
        self._head("Served", "for Prometheus, curl and your browser")
        if stays:
            self._console.print(f"The page is at {url} until Ctrl-C.", soft_wrap=True)
        else:
            self._console.print(f"The page was at {url} during this run.", soft_wrap=True)
            self._console.print("make demo DEMO=--serve  keeps it at http://localhost:9464/metrics", soft_wrap=True)

    def _measured(self, groups: Sequence[Measured]) -> None:
        self._head("Measured", "read back from the metrics page")
        room = max((self._console.width - LABELS) // max(len(groups), 1) - 3, 8)
        table = self._table()
        table.add_column("", no_wrap=True)
        for group in groups:
            model = textwrap.wrap(group.model, room)
            table.add_column("\n".join([group.operation, *model]), justify="right", no_wrap=True)
        for label, read in ROWS:
            indented = label.startswith(" ")
            shown = [read(group) for group in groups]
            if any(shown):
                warn = "red" if label == "  failed" else ""
                cells = [Text(value or "-", style=warn if value and value != "0" else "dim" if not value else "") for value in shown]
                table.add_row(Text(label, style="dim" if indented else ""), *cells)
        self._console.print(table)
        self._console.print(
            Text("Prometheus histograms keep ranges, so a median is an estimate and a maximum a bound.", style="dim")
        )

    def _head(self, title: str, explanation: str) -> None:
        self._console.print()
        self._console.print(Text(title, style="bold magenta") + Text(f"  {explanation}", style="dim not bold"))

    def _table(self) -> Table:
        return Table(box=None if self._plain else box.SIMPLE_HEAD, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)

    def _tree(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[str, ReadableSpan]]:
        """Give each span with the guide lines before it, in the order in which they started."""
        children: dict[int | None, list[ReadableSpan]] = defaultdict(list)
        for span in sorted(spans, key=lambda span: span.start_time or 0):
            children[span.parent.span_id if span.parent else None].append(span)

        def below(parent: int | None, guide: str) -> Iterator[tuple[str, ReadableSpan]]:
            for span in children[parent]:
                last = span is children[parent][-1]
                branch, line = ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
                yield guide + ("  " * bool(parent) if self._plain else branch), span
                context = span.get_span_context()
                yield from below(context.span_id if context else 0, guide + ("  " * bool(parent) if self._plain else line))

        return below(None, "")
