"""Answers of chat that an OpenAI-compatible server computes. No topics."""
