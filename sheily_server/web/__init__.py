"""HTTP: the server, access checks, routes, and errors as statuses. Knows nothing of models."""
