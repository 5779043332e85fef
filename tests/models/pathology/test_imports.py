"""What a service loads of this model."""

import subprocess
import sys

SERVED = ("onnx_sessions", "calibration", "operating_point", "abstention", "card", "policy", "decision", "patient_risk")


def test_serving_this_model_loads_neither_torch_nor_scipy():
    code = (
        "import importlib, sys; "
        f"[importlib.import_module('models.pathology.' + name) for name in {SERVED}]; "
        "print([name for name in ('torch', 'scipy', 'sklearn', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
