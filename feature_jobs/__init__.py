"""Features: Flink jobs, online and offline stores, generated traffic. See README.md."""
