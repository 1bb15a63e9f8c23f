"""A run that was stopped and resumed ends with the bits of one that was not."""

from dataclasses import replace

import pytest
import torch
import toys
from toys import assert_same_run, metrics, resumable_config, stop_at, toy_strategy

from vla.conf.pretrain import EvaluationConfig
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore
from vla.training.run_contract import as_resumed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [3, 4, 6])  # 4 steps are an epoch
def test_resume_is_exact(tmp_path, workers, step):
    straight = resumable_config(tmp_path / "straight", workers)
    toy_strategy(straight).run_training()
    broken = resumable_config(tmp_path / "broken", workers)
    strategy = toy_strategy(broken)
    stop_at(strategy, step)
    with pytest.raises(KeyboardInterrupt):
        strategy.run_training()
    torch.manual_seed(99)
    resumed = toy_strategy(broken, resume_from=CheckpointStore(broken.run_dir).newest())
    assert resumed.state.global_step == step
    resumed.run_training()
    assert_same_run(straight.run_dir, broken.run_dir, 12)


def test_evaluation_leaves_no_trace(tmp_path):
    """How often a run is evaluated changes nothing in what it learns."""
    often, never = resumable_config(tmp_path / "often"), resumable_config(tmp_path / "never")
    never = replace(never, evaluation=EvaluationConfig(every_epochs=None))
    for config in (often, never):
        toy_strategy(config).run_training()
    ours, theirs = (
        read_tensors(CheckpointStore(c.run_dir).path(12) / "model/fusion.safetensors") for c in (often, never)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_later_lines_and_checkpoints_are_set_aside(tmp_path):
    config = resumable_config(tmp_path / "run")
    toy_strategy(config).run_training()
    expected = metrics(config.run_dir)
    with (config.run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 13, "tr')  # killed while writing
    store = CheckpointStore(config.run_dir)
    resumed = toy_strategy(config, resume_from=store.path(5))
    assert store.newest() == store.path(5)
    resumed.run_training()
    assert metrics(config.run_dir) == expected
    assert len(list(store.folder.glob("superseded-*"))) == 7


def test_resume_refuses_another_run(tmp_path):
    config = resumable_config(tmp_path / "run")
    strategy = toy_strategy(config)
    strategy.run_training()
    checkpoint = CheckpointStore(config.run_dir).newest()
    with pytest.raises(ValueError, match="num_samples 28, this run has 24"):
        data = toys.toy_datasets(24)
        toy_strategy(config, datasets=replace(data, processor=toys.toy_datasets().processor), resume_from=checkpoint)
    with pytest.raises(ValueError, match="the processor is another: statistics.actions"):
        toy_strategy(config, datasets=toys.toy_datasets(24), resume_from=checkpoint)
    with pytest.raises(ValueError, match="only one has action_head.bias"):
        toy_strategy(resumable_config(tmp_path / "run", trainable=("fusion",)), resume_from=checkpoint)


def test_another_contract_is_refused_unless_named(tmp_path, capsys):
    """With another picture size the run goes on only if the field is named, and then with the checkpoint's."""
    config = resumable_config(tmp_path / "run", max_steps=2)
    toy_strategy(config).run_training()
    checkpoint = CheckpointStore(config.run_dir).newest()
    assert as_resumed(replace(config, resume="auto"), checkpoint) == replace(config, resume="auto")
    assert "settings" not in capsys.readouterr().err
    hotter = replace(config, model=replace(config.model, align=replace(config.stage_config, learning_rate=0.5)))
    assert as_resumed(hotter, checkpoint) == hotter
    told = "resume: other settings than the checkpoint's: model.align.learning_rate 0.01 in the checkpoint, 0.5 in"
    assert told in capsys.readouterr().err
    processor = replace(config.model.processor, image_size=16, resize="bilinear")
    other = replace(config, model=replace(config.model, processor=processor))
    with pytest.raises(ValueError, match=r"processor.image_size 8 in the checkpoint, 16 in this run; processor.resize"):
        as_resumed(other, checkpoint)
    with pytest.raises(ValueError, match=r"pass --override_contract processor.resize"):
        as_resumed(replace(other, override_contract=("processor.image_size",)), checkpoint)
    named = replace(other, override_contract=("processor.image_size", "processor.resize"))
    assert as_resumed(named, checkpoint).model.processor == config.model.processor
