"""Epochs of UniAD with the frozen backbone's features kept, against reading pictures and computing them every time.

Both variants run through the one training loop on the same rendered pictures, in the same order and with the same
noise. `first_s` holds reading and the backbone's pass over all pictures in both; `later_s` is the mean of the epochs
after it. What is left of them is the transformer's training step: the ratio says how much of an epoch that is.

    python scripts/bench.py anomaly-epochs [--model uniad-efficientnet-b4 --pictures 16 --epochs 3 --device cpu]
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.datasets import MVTecADConfig
from vla.conf.models import ModelConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.render_defects import RenderDefectsConfig
from vla.data.defects.writing import write_dataset
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.training import pretrain

EACH_TIME, KEPT = "read and computed in every epoch", "features kept"


def run(
    model: str = "uniad-efficientnet-b4", pictures: int = 16, epochs: int = 3, image_size: int = 1024,
    device: str = "cpu", num_workers: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Train both variants one after the other.

    Args:
        model: of the UniAD family; its weights start at random.
        pictures: for training, of two classes.
        epochs: of each variant, at least 2.
        image_size: pixels of the files, square; MVTec-AD's have 700 to 1024.
        device: auto | cpu | cuda.
        num_workers: processes that read ahead.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        classes = ("wood", "capsule")
        write_dataset(
            RenderDefectsConfig(
                root / "data", classes, train=pictures // 2, test_good=1, test_bad=0, image_size=image_size
            )
        )
        rows = [_train(root, model, epochs, kept, device, num_workers) for kept in (False, True)]
    return {"rows": rows, "baseline": EACH_TIME, "measure": "later_s", "model": model, "pictures": pictures}


def _train(root: Path, model_id: str, epochs: int, kept: bool, device: str, num_workers: int) -> dict[str, Any]:
    model = ModelConfig.get_choice_class(model_id)(pretrained=False)
    stage = replace(model.align, epochs=epochs, cache_frozen_features=kept)
    dataset = MVTecADConfig(root=root / "data", image_cache_mb=1024 if kept else 0)
    config = PretrainConfig(
        model=replace(model, align=stage), dataset=dataset, run_root_dir=root,
        run_id=f"kept-{kept}", log_every_steps=None, log_every_epochs=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=num_workers), evaluation=EvaluationConfig(every_epochs=None),
        checkpoint=CheckpointConfig(every_epochs=None), device=device,
    )  # fmt: skip
    dist = initialize_distributed(device)
    pretrain.train(config, dist)
    destroy_distributed(dist)
    lines = [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]
    logs = [line for line in lines if "train/step_time" in line]
    steps = -(-sum(1 for _ in (root / "data").glob("*/train/*/*.png")) // stage.global_batch_size)
    times = [line["train/step_time"] * steps for line in logs]
    return {
        "name": KEPT if kept else EACH_TIME, "first_s": times[0], "later_s": sum(times[1:]) / len(times[1:]),
        "last_loss": logs[-1]["train/loss"],
    }  # fmt: skip
