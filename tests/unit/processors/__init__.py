"""Rules for single records, enrichment, views: tests of `processors/` without servers."""
