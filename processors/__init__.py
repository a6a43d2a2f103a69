"""Functions over single records, and what they share with workers: features in the request path. See README.md."""
