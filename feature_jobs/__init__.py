"""PyFlink jobs and the feature repository. See README.md."""
