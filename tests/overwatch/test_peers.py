"""Processes that notice the end of another: here threads with a connection each, in one process."""

import contextlib
import threading
import time

import pytest

from vla.overwatch import peers
from vla.overwatch.distributed import DistState
from vla.overwatch.peers import PeerWatch


@pytest.fixture
def group(monkeypatch):
    """Makes the watches of a group of processes; `ended` holds the ranks that would have been ended."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr(peers, "GRACE", 0.05)
    monkeypatch.setattr(peers, "BEAT", 0.05)
    box, ended, watches = {}, [], []
    monkeypatch.setattr(peers.os, "_exit", lambda code: ended.append((threading.current_thread().name, code)))

    def broadcast(value, dist):
        return box.setdefault("value", value)

    monkeypatch.setattr(peers, "broadcast_object", broadcast)

    def make(world_size: int) -> list[PeerWatch]:
        for rank in range(world_size):
            watches.append(PeerWatch(DistState(rank=rank, world_size=world_size)).__enter__())
            watches[-1]._thread.name = str(rank)
        wait_until(lambda: sorted(watches[0]._ranks.values()) == list(range(1, world_size)))
        return watches

    yield make, ended
    for watch in watches:
        watch.__exit__(None, None, None)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def die(watch: PeerWatch) -> None:
    """As the kernel does when a process is killed: its connections are closed, and nothing is said."""
    watch._tell = lambda message: None
    watch._notice = lambda text: None
    for link in list(watch._ranks):
        with contextlib.suppress(OSError):  # its thread has closed it already
            link.shutdown(2)
    watch._closing.set()


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_dead_process_is_named_by_all_others(group, dead, capsys):
    make, ended = group
    watches = make(3)
    die(watches[dead])
    others = [rank for rank in range(3) if rank != dead]
    for rank in others:
        assert watches[rank].wait_for_loss(60).startswith(f"{dead} it ended without a word")
    wait_until(lambda: sorted(ended) == [(str(rank), 1) for rank in others])
    assert f"process {dead} is gone: it ended without a word" in capsys.readouterr().err


def test_the_reason_is_passed_on(group):
    make, _ = group
    watches = make(3)
    watches[1].__exit__(ValueError, ValueError("no such\nfile"), None)
    for rank in (0, 2):
        assert watches[rank].wait_for_loss(60) == "1 ValueError: no such file"


def test_silence_is_an_end(group, monkeypatch):
    """A machine without power closes no connection."""
    make, _ = group
    watches = make(2)
    monkeypatch.setattr(watches[1], "_tell", lambda message: None)
    monkeypatch.setattr(peers, "SILENCE", 0.3)
    assert watches[0].wait_for_loss(60) == "1 nothing was heard of it for 0 seconds"


def test_a_process_that_is_done_is_not_missed(group):
    make, ended = group
    watches = make(3)
    watches[0].__exit__(None, None, None)
    watches[2].__exit__(None, None, None)
    assert watches[1].wait_for_loss(0.5) is None and not ended


def test_what_must_be_finished_is_finished_first(group):
    make, ended = group
    watches = make(2)
    order = []
    watches[0].last_will = lambda: order.append(list(ended))
    die(watches[1])
    wait_until(lambda: ended)
    assert order == [[]]


def test_strangers_are_turned_away(group):
    make, _ = group
    watches = make(2)
    with peers.socket.create_connection(watches[0]._listener.getsockname()[:2]) as stranger:
        stranger.sendall(b"lost 1 nonsense\n")
        stranger.settimeout(60)
        while stranger.recv(100):
            pass
    assert watches[0].lost is None and list(watches[0]._ranks.values()) == [1]


def test_one_process_watches_nobody():
    with PeerWatch(DistState()) as watch:
        assert watch.wait_for_loss(100) is None and watch._thread is None
