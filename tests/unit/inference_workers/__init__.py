"""Served versions, media, model folders, texts: tests of `inference_workers/` without servers."""
