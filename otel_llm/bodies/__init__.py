"""The bytes of requests and answers, as far as somebody else does not decode them.

`body` puts an answer together from what passes by: `codings` undo its compression, `split` finds the events of a
stream, `excerpt` keeps of a long text what matters. `form` reads what is sent with files. What they say is read by
`otel_llm.wire`.
"""
