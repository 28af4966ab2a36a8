"""What otel-llm costs, measured: ``python -m benchmarks``. Nothing here is a test; a figure never fails a build.

Three contestants take turns on the same client, in one process and without a socket:

- **bare**, the `openai` client as it is;
- **floor**, the same calls with exactly the span and the metric points of ours made by hand with the OTel SDK;
- **ours**, `otel_llm.instrument()`.

A fourth, bare once more, shows how much of a figure is noise.
"""
