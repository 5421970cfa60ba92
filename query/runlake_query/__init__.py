"""The query process: keeps a local read model in step with the lake, and serves the HTTP API from it."""
