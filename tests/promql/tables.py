"""What a table of expressions is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.promql.expected import Rows, Scene


@dataclass(frozen=True)
class Query:
    """An expression of a document, exactly as it stands there.

    Either calls feed it, and `rows` says what it gives; or `by_hand` names the families that they do not feed.
    """

    text: str
    rows: Callable[[Scene], Rows] | None = None
    """What it gives; of one that Prometheus cannot evaluate, what its fix gives."""
    by_hand: tuple[str, ...] = ()
    """Families that are declared on the page, for later work or for the program itself to feed."""
    broken: str = ""
    """What is wrong with it: in the words of Prometheus, or in ours where it answers."""
    fixes: tuple[str, ...] = ()
    """What is shipped in its place."""
    fixed_rows: Callable[[Scene], Rows] | None = None
    """What the fix gives, where the expression gives something else."""
    unreached: str = ""
    """The end of an alert's expression with a threshold that the scene does not reach; `rows` is of the rest."""
    alert: str = ""
    record: str = ""
    lasts: str = ""
    """How long the alert waits."""
    panel: str = ""
    """The words of the document for which the query is ours."""

    @property
    def refused(self) -> bool:
        """Whether Prometheus cannot even parse it."""
        return bool(self.broken) and ("unexpected" in self.broken or "only allowed" in self.broken)


@dataclass(frozen=True)
class Table:
    """The expressions of one document in their order."""

    dialect: str
    seed: str
    """How the name of the document begins."""
    job: str
    """What its scrape configuration calls the job."""
    requests: str
    """The counter of its calls."""
    queries: Sequence[Query]
    successes: bool = False
    """Whether that counts only those that succeed."""
    extra: Sequence[Query] = field(default_factory=list["Query"])
    """Queries of ours, for families and panels that the document only describes."""
