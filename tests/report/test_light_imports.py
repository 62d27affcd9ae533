"""Traces, evaluation, metrics and reports work on a laptop without the training stack."""

import subprocess
import sys


def test_reading_a_run_loads_neither_torch_nor_transformers() -> None:
    modules = "mmrl.traces.reader, mmrl.evaluation.evaluate, mmrl.evaluation.table, mmrl.report.build"
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'pydantic'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
