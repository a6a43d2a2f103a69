"""Functions over single records, and the features in the request path, which workers use too. See README.md."""
