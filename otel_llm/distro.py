"""What ``opentelemetry-instrument`` starts: the defaults of `otel_llm.instrument()`, in the standard variables."""

from __future__ import annotations

import logging
import os
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry.instrumentation.distro import (  # type: ignore[attr-defined]  # untyped as a whole file
    BaseDistro,
)
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

from otel_llm import config, sdk
from otel_llm_semconv import environment as variables

logger = logging.getLogger("otel_llm")

_OURS = "otel_llm_httpx"
_CONTRIB = "opentelemetry.instrumentation.httpx"


class Distro(BaseDistro):  # type: ignore[misc]  # see the import
    """Choose exporters as `instrument()` does: our page, and OTLP where an endpoint is given."""

    def _configure(self, **kwargs: Any) -> None:
        if not config.disabled() and not os.environ.get(variables.OTEL_CONFIG_FILE):
            sdk.default_environment()

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor, but leave contrib's of `httpx` and `httpx2` to ours.

        Ours switches them on when the application imports a library, and guards what they do.
        """
        if entry_point.module != _CONTRIB or _OURS in config.disabled_instrumentations():
            upstream: Any = super()
            upstream.load_instrumentor(entry_point, **kwargs)


class Configurator(_OTelSDKConfigurator):
    """Upstream's configurator, with what `Distro` has chosen; an error in it does not cost the instrumentations."""

    def _configure(self, **kwargs: Any) -> None:
        if config.disabled():
            return
        upstream: Any = super()
        try:
            upstream._configure(**kwargs)
        except Exception as error:
            logger.error("otel_llm: OpenTelemetry is not set up as the environment asks: %s", error)
