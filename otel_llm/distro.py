"""What ``opentelemetry-instrument`` starts: the defaults of `otel_llm.instrument()`, in the standard variables."""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # pyright: ignore[reportPrivateUsage]

from otel_llm import sdk
from otel_llm_semconv import environment as variables

logger = logging.getLogger("otel_llm")


class Distro(BaseDistro):
    """Choose exporters as `instrument()` does: our page, and OTLP where an endpoint is given."""

    def _configure(self, **kwargs: Any) -> None:
        if sdk.disabled() or os.environ.get(variables.OTEL_CONFIG_FILE):
            return
        sdk.default_environment()


class Configurator(_OTelSDKConfigurator):
    """Upstream's configurator: what it reads was set by `Distro`."""

    def _configure(self, **kwargs: Any) -> None:
        if not sdk.disabled():
            super()._configure(**kwargs)
