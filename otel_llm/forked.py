"""What is done at a fork, in one order: a forked child makes everything anew before anything begins in it.

Python calls the hooks of a fork in the order in which modules happened to be imported. A thread that one of them starts
in the child would then find what a later one has yet to renew: it waits for ever for a lock that nobody lets go of.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from otel_llm.faults import guarded

Hook = Callable[[], None]

_renewals: list[Hook] = []
_beginnings: list[Hook] = []


def in_child(*, renew: Hook | None = None, begin: Hook | None = None) -> None:
    """Have something done in each child that this process forks.

    Args:
        renew: makes new locks, or forgets what is the parent's: threads that held or did it are not in the child.
        begin: may start threads and take locks; called when all is renewed, whoever registered first.
    """
    if renew is not None:
        _renewals.append(guarded(renew))
    if begin is not None:
        _beginnings.append(guarded(begin))


def around(*, before: Hook, after_in_parent: Hook) -> None:
    """Have something done in the parent, before each fork and after it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=guarded(before), after_in_parent=guarded(after_in_parent))


def _after_in_child() -> None:
    for hook in (*_renewals, *_beginnings):
        hook()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
