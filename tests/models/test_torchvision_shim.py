"""torchvision, timm and transformers' image code can be imported, in whatever order and beside whatever torch."""

import importlib.util
import subprocess
import sys

import pytest

needs_torchvision = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="no torchvision")
TRY_FIRST = "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
PREPARE = "from vla.torchvision_shim import prepare_torchvision\nprepare_torchvision()\nprepare_torchvision()\n"


def _run(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


@needs_torchvision
@pytest.mark.parametrize("before", ["", TRY_FIRST], ids=["first", "after a failure"])
def test_imports_work(before: str) -> None:
    timm = "import timm\ntimm.create_model('resnet10t')\n" if importlib.util.find_spec("timm") else ""
    _run(f"{before}{PREPARE}from transformers import LlamaConfig\nimport torchvision.transforms\n{PREPARE}{timm}")


def test_nothing_happens_without_torchvision() -> None:
    hide = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    _run(f"import sys\n{hide}{PREPARE}assert 'torch' not in sys.modules\n")


def test_nothing_is_declared_beside_a_healthy_one() -> None:
    healthy = "import vla.torchvision_shim as shim\nshim._load_operators = lambda package: True\n"
    refuse = "import torch\ndef define(*args):\n    raise AssertionError('declared')\ntorch.library.define = define\n"
    _run(f"{healthy}{refuse}shim.prepare_torchvision()\n")
