"""All recorded answers, by the name of their API."""

from __future__ import annotations

from tests.wire import recorded, recorded_bedrock

PLAIN = {**recorded.PLAIN, **recorded_bedrock.PLAIN}
STREAMED = {**recorded.STREAMED, **recorded_bedrock.STREAMED}
