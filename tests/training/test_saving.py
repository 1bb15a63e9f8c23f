"""Saves that do not go wrong in silence: damage is found, room is tried out first, no loop waits for the disk."""

import contextlib
import json
import resource
import threading
from dataclasses import replace

import pytest
from test_checkpoint import write
from toys import assert_same_run, metrics, resumable_config, toy_config, toy_strategy

from vla.conf.pretrain import CheckpointConfig
from vla.overwatch.distributed import DistState
from vla.overwatch.launch import restart_count
from vla.training import pretrain, saving
from vla.training.checkpoint import gather_optimizer
from vla.training.checkpoint_files import CheckpointWriter, read_manifest, verify_checkpoint
from vla.training.checkpoint_store import CheckpointStore, find_checkpoint, resolve_resume
from vla.training.result import NonFiniteError, TrainingResult


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_altered_files_are_named_and_passed_over(tmp_path, capsys):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        write(store, step, best=2)
    flip_a_bit(store.path(2) / "model/a.safetensors")
    read_manifest(store.path(2))  # the sizes are right
    with pytest.raises(ValueError, match=r"step-000002: model/a.safetensors was altered or damaged"):
        verify_checkpoint(store.path(2))
    assert resolve_resume(tmp_path, "auto") == store.path(1)
    assert "passed over" in (shown := capsys.readouterr().err) and "model/a.safetensors was altered" in shown
    assert find_checkpoint(tmp_path, "best") == store.path(1)
    with pytest.raises(ValueError, match="resume: .*altered"):
        resolve_resume(tmp_path, str(store.path(2)))
    flip_a_bit(store.path(1) / "model/a.safetensors")
    with pytest.raises(ValueError, match="none of the 2 checkpoints in .* is whole; move them away"):
        resolve_resume(tmp_path, "auto")


def test_broken_ones_take_no_whole_one_s_place(tmp_path):
    """Two are kept. Those that were torn don't count, and go when whole ones follow."""
    store = CheckpointStore(tmp_path, CheckpointConfig(keep_last=2))
    for step in (1, 2, 3):
        write(store, step)
        if step > 1:
            (store.path(step) / "model/a.safetensors").unlink()
    write(store, 4)
    assert store.steps() == [1, 4]


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("trainer/state.json", "{}", "'optimizer' is missing"),
        ("trainer/state.json", '{"optimizer": {"name": "adamw", "groups": 3}}', "broken, or of another version"),
        ("trainer/state.json", '{"optimizer"', "can't be read"),
        ("trainer/state.json", "[" * 10**5, "can't be read"),
        ("trainer/optimizer.safetensors", "", "can't be read"),
        ("manifest.json", '{"format": 1}', "'files' is missing"),
        ("manifest.json", '{"format": 1, "files": [1]}', "broken, or of another version"),
        ("manifest.json", '{"format": 1, "files": {"../../x": 1}}', "must list files of its folder"),
    ],
)
def test_content_that_is_no_checkpoint_is_one_line(tmp_path, run_dir, file, content, message):
    """Written by a hand that keeps sizes and checksums right: what is inside is checked all the same."""
    folder = CheckpointStore(run_dir).newest()
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    copy = CheckpointStore(tmp_path / "run").path(8)
    with CheckpointWriter(copy) as writer:
        for name in set(names) - {"manifest.json"}:
            writer.data(name, content.encode() if name == file else (folder / name).read_bytes())
        writer.commit({key: value for key, value in read_manifest(folder).items() if key not in ("files", "sha256")})
    if file == "manifest.json":
        (copy / file).write_text(content)
    with pytest.raises(ValueError) as caught:
        toy_strategy(toy_config(tmp_path / "run"), resume_from=copy)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    config = toy_config(tmp_path_factory.mktemp("runs") / "done")
    toy_strategy(config).run_training()
    return config.run_dir


def test_the_loop_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The first save only ends when two more steps are done."""
    go_on, finish = threading.Event(), saving.DeferredWriter.finish

    def wait_and_finish(writer):
        assert go_on.wait(60)
        finish(writer)

    monkeypatch.setattr(saving.DeferredWriter, "finish", wait_and_finish)
    config = replace(toy_config(tmp_path / "run"), checkpoint=CheckpointConfig(every_steps=3, keep_last=9))
    strategy = toy_strategy(config)
    advance, seen = strategy.state.advance, {}

    def advance_and_look():
        advance()
        seen[strategy.state.global_step] = strategy.store.steps()
        if strategy.state.global_step == 4:  # no evaluation's worker processes have been started yet
            go_on.set()

    strategy.state.advance = advance_and_look
    strategy.run_training()
    assert seen[4] == [] and strategy.store.steps() == [3, 4, 6, 8]


def test_copies_are_those_of_their_step(tmp_path):
    """Whether it is written in the background or not, a checkpoint holds the same."""
    runs = {}
    for asynchronous in (True, False):
        config = resumable_config(tmp_path / f"{asynchronous}")
        config = replace(config, checkpoint=replace(config.checkpoint, asynchronous=asynchronous))
        toy_strategy(config).run_training()
        runs[asynchronous] = config.run_dir
    for step in (1, 7, 12):
        assert_same_run(runs[True], runs[False], step)


def test_a_disk_that_fills_up_ends_no_run(tmp_path, capsys):
    """No file may grow past 4 kB: saves and metrics fail, the run goes on; what was saved before stays."""
    config = resumable_config(tmp_path / "run")
    strategy = toy_strategy(config)
    advance, limits = strategy.state.advance, resource.getrlimit(resource.RLIMIT_FSIZE)

    def advance_and_fill_up():
        advance()
        if strategy.state.global_step == 3:
            strategy.saver.finish()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))

    strategy.state.advance = advance_and_fill_up
    try:
        result = strategy.run_training()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.global_step == 12 and result.last_checkpoint == strategy.store.path(2)
    assert "step 12 is NOT saved" in result.save_error
    shown = capsys.readouterr().err
    assert "step 3 is NOT saved" in shown and "metrics.jsonl" in shown
    assert [line["global_step"] for line in metrics(config.run_dir)][:2] == [2, 3]  # and every line is whole
    resumed = toy_strategy(config, resume_from=resolve_resume(config.run_dir, "auto"))
    resumed.run_training()
    straight = resumable_config(tmp_path / "straight")
    toy_strategy(straight).run_training()
    assert_same_run(straight.run_dir, config.run_dir, 12)


def test_what_others_write_into_a_checkpoint_fails_like_the_rest(tmp_path, monkeypatch, capsys):
    """Tokenizers raise a plain Exception on a full disk: it ends no run, and leaves no trace."""

    def fail(folder):
        raise Exception("No space left on device (os error 28)")

    for asynchronous in (True, False):
        config = toy_config(tmp_path / f"{asynchronous}")
        config = replace(config, checkpoint=replace(config.checkpoint, asynchronous=asynchronous))
        strategy = toy_strategy(config)
        monkeypatch.setattr(strategy.model, "save_assets", fail)
        result = strategy.run_training()
        assert result.global_step == 8 and "step 8 is NOT saved" in result.save_error
        assert list(strategy.store.folder.iterdir()) == [] and "os error 28" in capsys.readouterr().err


def test_an_index_that_cannot_be_written_keeps_no_old_checkpoint(tmp_path, monkeypatch, capsys):
    """What is saved is saved, and room is made."""
    store = CheckpointStore(tmp_path, CheckpointConfig(keep_last=1))
    write(store, 1)
    (store.folder / "index.json.tmp").mkdir()  # in the way
    write(store, 2)
    assert store.steps() == [2] and "can't note the newest checkpoint" in capsys.readouterr().err


def test_metrics_are_on_the_disk_before_the_checkpoint(tmp_path, monkeypatch):
    """In this order: a machine that crashes in between leaves no step without its metrics."""
    config, done = toy_config(tmp_path / "run", max_steps=1), []
    strategy = toy_strategy(config)
    finish = saving.DeferredWriter.finish
    monkeypatch.setattr(saving.checkpoint_files, "flush", lambda path: done.append(path.name))
    monkeypatch.setattr(saving.DeferredWriter, "finish", lambda writer: (done.append("checkpoint"), finish(writer)))
    strategy.run_training()
    assert done[:4] == ["metrics.jsonl", "run", tmp_path.name, "checkpoint"]
    assert json.loads((config.run_dir / "metrics.jsonl").read_text().splitlines()[0])["global_step"] == 1


def test_only_the_process_that_writes_holds_whole_tensors(tmp_path):
    """With 8 processes on a machine, all of them with weights and optimizer would need 8 times the memory."""
    strategy = toy_strategy(toy_config(tmp_path / "run", max_steps=1))
    strategy.run_training()
    assert gather_optimizer(strategy)
    gathered = []
    strategy.gather = lambda tensor: gathered.append(tensor)
    strategy.dist = DistState(rank=1, world_size=2)
    assert gather_optimizer(strategy) == {} and len(gathered) > 3  # it takes part all the same


def test_rehearsal(tmp_path, monkeypatch):
    """It leaves nothing but the folder."""
    config = toy_config(tmp_path / "run")
    strategy = toy_strategy(config)
    written, lack_of_room = [], strategy.saver._lack_of_room
    look = lambda folder: written.append(read_manifest(folder)) or lack_of_room(folder)  # noqa: E731
    monkeypatch.setattr(strategy.saver, "_lack_of_room", look)
    strategy.saver.rehearse()
    assert written[0]["global_step"] == 0 and "model/fusion.safetensors" in written[0]["files"]
    assert list(strategy.store.folder.iterdir()) == []


def test_rehearsal_without_room(tmp_path, monkeypatch):
    strategy = toy_strategy(toy_config(tmp_path / "run"))
    usage = saving.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ValueError, match=r"run_root_dir: 4 checkpoints of about 0\.00 GB .*keep_last"):
        strategy.saver.rehearse()


def test_rehearsal_where_nothing_can_be_written(tmp_path, monkeypatch):
    """The run ends before its first step."""
    config = toy_config(tmp_path / "run")
    strategy = toy_strategy(config)
    config.run_dir.mkdir()
    strategy.store.folder.write_text("in the way")
    monkeypatch.setattr(pretrain, "build_strategy", lambda *_: strategy)
    with pytest.raises(ValueError, match="run_root_dir: a rehearsal of saving failed"):
        pretrain.train(config, DistState())
    assert not (config.run_dir / "metrics.jsonl").exists()


def test_index_is_no_authority(tmp_path):
    """A broken or forged index.json loses nothing and leads nowhere."""
    store = CheckpointStore(tmp_path)
    write(store, 1, best=1)
    for content in ("", "[]", '{"best": 3}', json.dumps({"best": "../.."}), '{"best": "step-000099"}'):
        (store.folder / "index.json").write_text(content)
        assert store.best() is None and find_checkpoint(tmp_path, "best") == store.path(1)


def test_a_run_that_is_started_again_resumes_by_itself(tmp_path):
    """As torchrun and Slurm start it: with the same words, and a count in the environment."""
    assert restart_count({}) == 0 and restart_count({"TORCHELASTIC_RESTART_COUNT": "2"}) == 2
    assert restart_count({"SLURM_RESTART_COUNT": "1", "TORCHELASTIC_RESTART_COUNT": "0"}) == 1
    other = CheckpointStore(tmp_path / "other")
    write(other, 7)
    for resume in (None, str(tmp_path / "other")):
        start = None if resume is None else other.path(7)
        assert resolve_resume(tmp_path / "run", resume, restarted=True) == start  # it had not saved yet
    write(CheckpointStore(tmp_path / "run"), 3)
    for resume in (None, "auto", str(tmp_path / "other")):
        found = resolve_resume(tmp_path / "run", resume, restarted=True)
        assert found == CheckpointStore(tmp_path / "run").path(3)


@pytest.mark.parametrize(
    "reason, error, code",
    [
        ("SIGTERM", None, 75),
        ("SIGUSR1", "full", 75),
        ("a signal to another process", None, 75),
        ("SIGINT", None, 130),
        ("completed", "full", 1),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, reason, error, code):
    result = TrainingResult(3, reason, None, None, None, error)
    monkeypatch.setattr(pretrain, "train", lambda *_: result)
    monkeypatch.setattr(pretrain, "summarise", lambda *_: None)
    assert pretrain.run(toy_config(tmp_path / "run")) == code


@pytest.mark.parametrize(
    "end", [None, KeyError("x"), NonFiniteError("x"), TrainingResult(3, "SIGTERM", None, None, None)]
)
def test_only_processes_that_end_together_leave_the_group(tmp_path, monkeypatch, end):
    """Leaving it waits for what was begun with the others: for ever, where they are gone."""

    def train(*_):
        if isinstance(end, Exception):
            raise end
        return end

    left = []
    monkeypatch.setattr(pretrain, "initialize_distributed", lambda device: DistState(world_size=2))
    monkeypatch.setattr(pretrain, "destroy_distributed", left.append)
    monkeypatch.setattr(pretrain, "_agreed", lambda decide, dist: decide())
    monkeypatch.setattr(pretrain, "PeerWatch", lambda dist: contextlib.nullcontext())
    monkeypatch.setattr(pretrain, "_train_with_others", train)
    with pytest.raises(KeyError) if isinstance(end, KeyError) else contextlib.nullcontext():
        assert pretrain.run(toy_config(tmp_path / "run")) == (75 if isinstance(end, TrainingResult) else 1)
    assert len(left) == isinstance(end, NonFiniteError | TrainingResult)
