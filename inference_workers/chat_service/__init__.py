"""The chat task: requests from a topic into an engine, its tokens and answers onto topics."""
