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
ANSWERS: Final = 21
"""Columns before the answers."""
LABELS: Final = 28
"""Columns before the measurements."""

ROWS: Final[tuple[tuple[str, Callable[[Measured], str]], ...]] = (
    ("calls", lambda group: group.count(f"{DURATION}_count")),
    ("  failed", lambda group: group.failed),
    ("retries", lambda group: group.count(RETRIES)),
    ("tokens in", lambda group: group.count(TOKENS, otel_llm_token_kind="input")),
    ("  read from cache", lambda group: group.count(TOKENS, otel_llm_token_kind="cache_read")),
    ("tokens out", lambda group: group.count(TOKENS, otel_llm_token_kind="output")),
    ("  spent on reasoning", lambda group: group.count(TOKENS, otel_llm_token_kind="reasoning")),
    ("time per call, mean", lambda group: seconds(group.mean(DURATION))),
    ("  median, about", lambda group: seconds(group.median(DURATION))),
    ("  slowest, at most", lambda group: seconds(group.bound(DURATION))),
    ("streams: first chunk after", lambda group: seconds(group.mean(FIRST_CHUNK))),
    ("  first text after", lambda group: seconds(group.mean(FIRST_TEXT))),
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
        self._print(f"The openai client {version('openai')} talks to {target.model} on {target.name}.", "")
        if target.ollama_model not in (None, target.model):
            self._print(f"Ollama's own client talks to {target.ollama_model} there.", "")
        self._head("Calls", "what the program itself sees")

    def begin(self, name: str) -> None:
        """Name the call that begins."""
        self._console.print(Text(f"{name:<{ANSWERS}}"), end="")
        self._column = ANSWERS

    def word(self, text: str, style: str = "", *, last: bool = False) -> None:
        """Show a piece of an answer as it arrives, in what room is left on the line."""
        room = max(self._console.width - self._column - 1, 0)
        text = text.replace("\n", " ")
        if len(text) > room - (0 if last else 3):
            text = crop(text + " " * room, room)
        self._column += len(text)
        self._console.print(Text(text, style), end="", soft_wrap=True)
        self._console.file.flush()

    def end(self, result: str, style: str = "") -> None:
        """Show what came of the call, and end its line."""
        self.word(result, style, last=True)
        self._console.print()

    def fail(self, message: str) -> int:
        """Say why the demo ends here; the exit code is 1."""
        self._print("\n" + message, "red")
        return 1

    def trace(self, spans: Sequence[ReadableSpan]) -> None:
        """Show the spans as a tree."""
        self._head("Trace", "the application, its calls, their HTTP requests (which end with the headers)")
        rows = list(tree(spans, plain=self._plain))
        wide = self._console.width >= WIDE
        rest = self._console.width - (len("  9.99 s  tokens  9999  ") if wide else len("  9.99 s  "))
        room = min(max(len(guide + span.name) for guide, span in rows), rest - 20)
        table = self._table("span", "time", *(("tokens\nin", "out") if wide else ()))
        table.add_column("outcome", no_wrap=True, vertical="bottom")
        for guide, span in rows:
            attributes = span.attributes or {}
            request = names.HTTP_REQUEST_METHOD in attributes
            kind = "dim" if request else "bold" if names.GEN_AI_OPERATION_NAME in attributes else "cyan"
            retried = "yellow" if names.OTEL_LLM_RETRIES in attributes else ""
            state = "red" if names.ERROR_TYPE in attributes else retried
            base = "dim " if request else ""
            tokens = (attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS), attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS))
            table.add_row(
                Text.assemble((guide, "dim"), (crop(span.name, room - len(guide)), kind)),
                Text(seconds(((span.end_time or 0) - (span.start_time or 0)) / 1e9), base),
                *(["" if number is None else str(number) for number in tokens] if wide else []),
                Text(crop(", ".join(outcomes(attributes)[: None if wide else 1]), rest - room), base + state),
            )
        self._show(table)

    def page(self, url: str, *, whole: bool) -> None:
        """Show what a Prometheus reads: first summed up, then as it is, its best lines or all of it."""
        with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
            page: str = response.read().decode()
        self._measured(measured(page))
        if whole:
            self._head("Metrics page", "all of it, as Prometheus reads it")
            self._console.out(page, end="", highlight=False)
            return
        lines = excerpt(page, max(self._console.width, WIDTH), "..." if self._plain else "…")
        self._head("Metrics page", f"{len(lines)} of its {len(page.splitlines())} lines, most labels left out")
        for line in lines:
            name, brace, labels = line.partition("{")
            labels, space, value = labels.rpartition(" ")
            styled = Text.assemble((name, "" if brace else "dim"), (brace + labels, "dim"), (space + value, "bold"))
            self._console.print(styled, soft_wrap=True)
        self._print("\nmake demo DEMO=--page", "bold", "  prints all of it")

    def served(self, url: str, *, stays: bool) -> None:
        """Say where the page is."""
        self._head("Served", "for Prometheus, or your browser")
        if stays:
            self._print(url, "bold", "  until Ctrl-C")
        else:
            self._print("The page is up with --serve only: ", "", "make demo DEMO=--serve", "bold")
            self._print("http://localhost:9464/metrics", "")

    def _measured(self, groups: Sequence[Measured]) -> None:
        self._head("Measured", "by model, read back from the metrics page")
        room = max((self._console.width - LABELS) // max(len(groups), 1) - 2, 10)
        headers = (f"{group.operation}\n{broken(group.model, room)}" for group in groups)
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
        lines, padding = (None, (0, 1)) if self._plain else (box.SIMPLE_HEAD, (0, 1, 0, 0))
        table = Table(
            box=lines, padding=padding, pad_edge=False, show_edge=False, header_style="dim", border_style="dim"
        )
        table.add_column(first, no_wrap=True, vertical="bottom")
        for header in numbers:
            table.add_column(header, justify="right", no_wrap=True, vertical="bottom")
        return table

    def _show(self, table: Table) -> None:
        """Print a table without the blanks that fill up its lines."""
        with self._console.capture() as captured:
            self._console.print(table)
        for line in captured.get().splitlines():
            self._console.out(line.rstrip(), highlight=False)

    def _head(self, title: str, explanation: str) -> None:
        self._print(f"\n{title}", "bold magenta", f"  {explanation}", "dim")
        self._console.print()

    def _print(self, text: str, style: str, more: str = "", style_of_more: str = "") -> None:
        self._console.print(Text.assemble((text, style), (more, style_of_more)))


def crop(text: str, room: int) -> str:
    """Cut a text that has not enough room, and mark the cut."""
    return text if len(text) <= room else f"{text[: max(room - 3, 0)]}..."[: max(room, 0)]


def broken(name: str, room: int) -> str:
    """Break the name of a model at its hyphens where it has not enough room."""
    if len(name) <= room:
        return name
    return "\n".join(line.replace(" ", "") for line in textwrap.wrap(name.replace("-", "- "), room))


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
        found.append(f"left at chunk {chunks}")
    else:
        found += attributes.get(names.GEN_AI_RESPONSE_FINISH_REASONS, ())
        found += [f"{chunks} chunks"] if chunks else []
    if names.OTEL_LLM_TIME_TO_FIRST_TEXT in attributes:
        found.append(f"first text {seconds(attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT])}")
    if attributes.get(names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS):
        found.append(f"{attributes[names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS]} reasoning tokens")
    return found


def seconds(seconds: float | None) -> str:
    """Spell a duration with at most three digits of it."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
