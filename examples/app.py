"""An application with one line added: `otel_llm.instrument()`."""

import openai

import otel_llm

otel_llm.instrument()

client = openai.OpenAI()
answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "The capital of France?"}])
print(answer.choices[0].message.content)
print(otel_llm.generate_latest().decode())
