"""What every instrumentor is: patches that wait for a client and can be taken back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from types import ModuleType
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]  # untyped as a whole file
    BaseInstrumentor,
)

from otel_llm.patching import Patches, when_imported
from otel_llm.telemetry import Telemetry


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]  # see the import
    """Base of the instrumentors; ``opentelemetry-instrument`` and `otel_llm.instrument` drive the same class."""

    modules: tuple[str, ...]
    """The modules whose import the patches wait for."""

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(self, "_patches"):
            self._patches = Patches()

    @abstractmethod
    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Apply the patches to the imported module."""

    @abstractmethod
    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the client's requirement, such as ``openai >= 1.26``."""

    def _instrument(self, **kwargs: Any) -> None:
        from otel_llm import runtime

        telemetry = kwargs.get("telemetry") or runtime.join(
            tracer_provider=kwargs.get("tracer_provider"),
            meter_provider=kwargs.get("meter_provider"),
            logger_provider=kwargs.get("logger_provider"),
        )
        if telemetry is None:
            return
        patches = self._patches = Patches()
        patches.active = True

        def apply(module: ModuleType) -> None:
            if patches.active:
                self.patch(module, patches, telemetry)

        for module in self.modules:
            when_imported(module, apply)

    def _uninstrument(self, **kwargs: Any) -> None:
        self._patches.restore()
