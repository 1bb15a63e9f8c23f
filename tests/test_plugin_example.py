"""The example of a third-party package trains, as it would after `pip install`."""

import os
import subprocess
import sys
from pathlib import Path

import toml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "experiments" / "plugin_example"


def test_example_trains(tmp_path: Path) -> None:
    project = toml.load(EXAMPLE / "pyproject.toml")["project"]
    metadata = tmp_path / "tabletop_robots-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))

    search = os.pathsep.join(str(folder) for folder in (ROOT, EXAMPLE, tmp_path))
    flags = (
        f"--model.type tabletop-tiny --dataset.type tabletop --model.align.strategy.type verbose-ddp "
        f"--model.align.max_steps 2 --model.align.global_batch_size 4 --model.align.per_device_batch_size 4 "
        f"--loader.num_workers 0 --report false --evaluation.every_epochs none --evaluation.max_batches 1 "
        f"--run_root_dir {tmp_path} --run_id run --dataset.max_episodes_per_task 2 "
        f"--dataset.tasks pick_up_the_alphabet_soup_and_place_it_in_the_basket"
    )
    command = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), *flags.split()]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tabletop: step 2 taken" in done.stderr
    assert "type: tabletop-tiny" in (tmp_path / "run" / "config.yaml").read_text()
