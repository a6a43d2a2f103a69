"""Commands of the packages, run in this process: what they import is here already, and an import of MLflow or torch takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch


def command(main: Callable[[], None], *words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `python -m PACKAGE WORDS …` with these variables set; main: the package's."""
    code = 0
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as errors,
        patch.dict(os.environ, env),
        patch.object(sys, "argv", [main.__module__, *words]),
        redirect_stdout(out),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            if isinstance(ended.code, str):
                errors.write(ended.code)
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess([main.__module__, *words], code, out.read(), errors.read())
