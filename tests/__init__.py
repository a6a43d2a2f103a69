"""Tests of all packages. See README.md."""
