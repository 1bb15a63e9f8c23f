"""Steps that are not finite: skipped and counted, their batches kept, the run ended after several in a row."""

import json
import math
import resource
from dataclasses import replace

import pytest
import torch
from toys import metrics, toy_config, toy_datasets, toy_model, toy_strategy

from vla.training.checkpoint_store import CheckpointStore
from vla.training.nonfinite import load_window
from vla.training.result import NonFiniteError

FILE_SIZE = resource.RLIMIT_FSIZE


def poisoned(strategy, steps, what: str = "loss"):
    """The model's loss, or only its gradient, is not a number at `steps`."""
    forward = strategy.forward

    def poison(batch):
        output = forward(batch)
        if strategy.state.global_step in steps:
            if what == "loss":
                output.step_loss = output.step_loss * math.nan
            else:
                output.step_loss.register_hook(lambda gradient: gradient * math.inf)
        return output

    strategy.forward = poison
    return strategy


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_skipped_and_counted(tmp_path, what, precision, capsys):
    """The run goes on and learns; means are of the other steps. fp16 takes a gradient for an overflow."""
    config = toy_config(tmp_path / "run", precision=precision)
    strategy = poisoned(toy_strategy(config), (2, 5), what)
    result = strategy.run_training()
    overflow = precision == "fp16" and what == "gradient"
    assert result.global_step == 8
    assert strategy.state.nonfinite_steps == (0 if overflow else 2)
    assert strategy.state.overflow_steps == (2 if overflow else 0)
    assert all(parameter.isfinite().all() for parameter in strategy.model.parameters())
    lines = [line for line in metrics(config.run_dir) if "train/learning_rate" in line]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    if not overflow:
        assert [line["global_step"] for line in lines if "train/loss" not in line] == [3, 6]
        assert lines[-1]["train/nonfinite_steps"] == 2
        assert f"step 2: the {what} is not finite" in capsys.readouterr().err


def test_a_skipped_step_changes_nothing(tmp_path):
    """Weights are those of a run that has not seen the batch."""
    config = toy_config(tmp_path / "run", max_steps=1)
    strategy = poisoned(toy_strategy(config), (0,))
    strategy.run_training()
    start = toy_model(config).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in strategy.model.state_dict().items())
    assert not any(strategy.optimizer.state.values())


def test_batches_are_kept_for_replay(tmp_path):
    config = toy_config(tmp_path / "run")
    strategy = poisoned(toy_strategy(config), (2,))
    seen, step = {}, strategy.train_step
    strategy.train_step = lambda window, weights: (
        seen.setdefault(strategy.state.global_step, window), step(window, weights)
    )  # fmt: skip
    strategy.run_training()
    folder = config.run_dir / "nonfinite"
    assert [path.name for path in folder.iterdir()] == ["step-000002"]
    kept = load_window(folder / "step-000002")
    for ours, theirs in zip(kept, seen[2], strict=True):
        assert type(ours) is type(theirs) and ours.instructions == theirs.instructions
        for name in ("sample_ids", "images", "actions", "action_mask", "rng_seeds"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    notes = json.loads((folder / "step-000002/rank-00000.json").read_text())
    assert notes["sample_ids"] == [batch.sample_ids.tolist() for batch in seen[2]] and notes["losses"] == ["nan", "nan"]
    (folder / "step-000002/rank-00000.json").write_text('{"batches": [{"type": "torch"}]}')
    with pytest.raises(ValueError, match="'torch' is no kind of batch"):
        load_window(folder / "step-000002")


def test_several_in_a_row_end_the_run(tmp_path):
    """In a row: 2 of them, then others, then 3. The count is kept over a resumption."""
    config = toy_config(tmp_path / "run", max_nonfinite_steps=3, max_steps=20)
    config = replace(config, checkpoint=replace(config.checkpoint, every_steps=1, keep_last=20))
    strategy = poisoned(toy_strategy(config), (2, 3, 6, 7, 8))
    with pytest.raises(NonFiniteError, match=r"step 8: the loss is not finite \(norm .*, 3 steps in a row"):
        strategy.run_training()
    store = CheckpointStore(config.run_dir)
    assert store.newest() == store.path(8)  # all that was learnt
    resumed = poisoned(toy_strategy(config, resume_from=store.path(8)), (8,))
    assert (resumed.state.nonfinite_steps, resumed.state.nonfinite_in_a_row) == (4, 2)
    with pytest.raises(NonFiniteError):
        resumed.run_training()


def test_dumps_are_bounded_and_a_full_disk_is_no_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vla.training.nonfinite.MOST_DUMPS", 1)
    config = toy_config(tmp_path / "run")
    strategy = poisoned(toy_strategy(config), (1, 3))
    assert strategy.run_training().global_step == 8
    assert [path.name for path in (config.run_dir / "nonfinite").iterdir()] == ["step-000001"]
    config = toy_config(tmp_path / "other")
    strategy = poisoned(toy_strategy(config), (1,))
    config.run_dir.mkdir()
    (config.run_dir / "nonfinite").write_text("in the way")
    assert strategy.run_training().global_step == 8
    assert "the batches could not be kept" in capsys.readouterr().err
    strategy, limits = poisoned(toy_strategy(toy_config(tmp_path / "third")), (1,)), resource.getrlimit(FILE_SIZE)
    skipped = strategy.guard.skipped

    def skip_on_a_full_disk(*arguments):
        resource.setrlimit(FILE_SIZE, (100, limits[1]))
        try:
            skipped(*arguments)
        finally:
            resource.setrlimit(FILE_SIZE, limits)

    monkeypatch.setattr(strategy.guard, "skipped", skip_on_a_full_disk)
    assert strategy.run_training().global_step == 8
    assert "the batches could not be kept: Error while serializing" in capsys.readouterr().err


def test_masked_micro_batches_among_others(tmp_path):
    """A micro-batch without a value to learn from takes no part; no mean of nothing spoils the others."""
    config = toy_config(tmp_path / "run", per_device_batch_size=1, loss_reduction="microbatch")
    strategy = toy_strategy(config, datasets=toy_datasets(masked=lambda index: index % 2 == 0))
    strategy.run_training()
    assert strategy.state.nonfinite_steps == 0
    assert all(math.isfinite(line["train/loss"]) for line in metrics(config.run_dir) if "train/loss" in line)
