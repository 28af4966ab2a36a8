"""What every instrumentor is: patches that wait for a client and can be taken back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from types import ModuleType
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]  # untyped as a whole file
    BaseInstrumentor,
)

from otel_llm import faults
from otel_llm.patching import Patches, when_imported
from otel_llm.telemetry import Telemetry


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]  # see the import
    """Base of the instrumentors; ``opentelemetry-instrument`` and `otel_llm.instrument` drive the same class."""

    modules: tuple[str, ...]
    """The modules whose import the patches wait for."""

    _patches = Patches()
    _telemetry: Telemetry | None = None
    _patched: Collection[ModuleType] = ()

    @abstractmethod
    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Apply the patches to the imported module."""

    @abstractmethod
    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the client's requirement, such as ``openai >= 1.26``."""

    def _instrument(self, **kwargs: Any) -> None:
        telemetry = kwargs.get("telemetry") or _join(kwargs)
        if telemetry is None:
            return
        self._patches, self._patched = Patches(), ()
        self._patches.active = True
        self._telemetry = telemetry
        for module in self.modules:
            when_imported(module, self._imported)

    def _imported(self, module: ModuleType) -> None:
        # A module that is imported just now may come twice: from the hook and from `_instrument`.
        if self._telemetry is not None and module not in self._patched:
            self._patched = (*self._patched, module)
            self.patch(module, self._patches, self._telemetry)

    def _uninstrument(self, **kwargs: Any) -> None:
        self._telemetry = None
        self._patches.restore()


def _join(kwargs: dict[str, Any]) -> Telemetry | None:
    """Return the telemetry of the process; an error is a fault, since it would cost all other instrumentations too."""
    from otel_llm import runtime

    try:
        return runtime.join(
            tracer_provider=kwargs.get("tracer_provider"),
            meter_provider=kwargs.get("meter_provider"),
            logger_provider=kwargs.get("logger_provider"),
        )
    except Exception:
        faults.fault("join")
        return None
