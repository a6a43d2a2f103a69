"""The chat engine on a GPU: what differs there from a CPU, and nothing else."""
