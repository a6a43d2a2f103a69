"""An HTTP server with the interface of OpenAI's: it produces requests and follows topics, and computes nothing."""
