"""Ask a model three things, print what the answers say they cost, and stay until the input ends."""

import sys
from typing import Any

from openai import OpenAI

client: Any = OpenAI()
ask = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
costs = [client.chat.completions.create(**ask).usage]
stream = client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
costs += [chunk.usage for chunk in stream]
costs += [client.embeddings.create(model="tiny", input=["hello", "world"]).usage]
sys.stdout.writelines(f"{cost.to_json(indent=None)}\n" for cost in costs if cost)
sys.stdout.flush()
sys.stdin.read()
