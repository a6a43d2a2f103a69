"""PyFlink jobs and the feature repository. Empty until the first lands; see README.md."""
