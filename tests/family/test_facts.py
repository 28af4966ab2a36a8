"""Of each call of the family its base URL and its endpoint are known, as the server sees them."""

from __future__ import annotations

import pytest

from otel_llm.call import Call
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from tests.family.clients import CLIENTS, HERE, STYLES, Style, run
from tests.openai.styles import treat

pytestmark = pytest.mark.skipif(not HERE, reason="none of the clients is installed; see tests/matrix.py")


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "style", [style for style in STYLES if style.client in HERE], ids=lambda style: "-".join(style)
)
def test_calls(server: ScriptedServer, style: Style, mode: str) -> None:
    """The endpoint is the path that is asked for, the base URL is the client's, with or without a version."""
    calls: list[Call] = []
    with capture(call_hook=calls.append):
        run(style.client, server, mode, lambda own: treat(style, own, "consumed", []))  # type: ignore[arg-type]  # it has what is needed

    (call,) = calls
    path = server.requests[0].path.partition("?")[0]
    assert path == call.endpoint
    assert style.path.endswith(path)  # an old client leaves the version to the base URL
    assert (server.url, False) == ((call.base_url or "").removesuffix("/v1"), call.image)


@pytest.mark.parametrize("name", HERE)
def test_ids(server: ScriptedServer, name: str) -> None:
    """An id in the path is told by a template, below the version that the path begins with."""
    calls: list[Call] = []
    server.script(Reply(json={}))
    with capture(call_hook=calls.append), CLIENTS[name].sync(server) as own:
        own.get("/v1/files/file-1_X?key=secret", cast_to=object)

    assert ["/v1/files/{id}"] == [call.endpoint for call in calls]
