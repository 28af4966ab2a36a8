"""The pages over HTTP: one answer beneath a port of its own, ASGI and WSGI; TLS, passwords and web config files."""
