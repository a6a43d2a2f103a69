"""`python -m tests.support.llama_cpp_server FILE --port N`: llama.cpp's HTTP server on loopback, until it is killed."""

from __future__ import annotations

import argparse
import os
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.port, settings.hostnames = chosen.file, chosen.port, ["127.0.0.1"]
    settings.n_ctx, settings.n_parallel, settings.warmup = 16_384, 8, False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    if key := os.environ.get("LLAMA_KEY"):
        settings.api_keys = [key]
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
