"""HTTP: the server, who may call, routes, and errors as statuses; knows nothing of a model."""
