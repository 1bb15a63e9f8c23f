"""Batches of packs without end: streams dealt out to processes and workers, in an order that depends on neither."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from vla.batches import PackedBatch
from vla.data.loader import Failure, Parcel, leave_signals_to_parent, watch_workers
from vla.data.vqa.collator import PackCollator
from vla.data.vqa.lane import Lane
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState, gather_objects

overwatch = initialize_overwatch(__name__)

OpenLane = Callable[[int, int], Lane]  # stream, streams -> its packs from the beginning


@dataclass(frozen=True)
class Deal:
    """
    Which stream gives which micro-batch.

    Micro-batch m of the M that all processes together take per step comes from one stream: with `streams` <= M, each
    stream gives M / streams of them in a row; with more, the streams take turns from step to step. A process takes the
    r-th part of a step's micro-batches, so that each stream belongs to one process.

    Args:
        streams: a divisor or a multiple of M, and of the number of processes if it is a divisor.
        micro_batches: M.
        rank, world_size: this process.
    """

    streams: int
    micro_batches: int
    rank: int
    world_size: int

    @staticmethod
    def fits(streams: int, micro_batches: int, world_size: int) -> bool:
        """Whether so many streams can be dealt out to so many processes."""
        if streams % micro_batches == 0:
            return True
        return micro_batches % streams == 0 and streams % world_size == 0

    @classmethod
    def at_least(cls, per_process: int, micro_batches: int, rank: int, world_size: int) -> "Deal":
        """The fewest streams of which each process has at least `per_process`."""
        streams = per_process * world_size
        while not cls.fits(streams, micro_batches, world_size):
            streams += 1
        return cls(streams, micro_batches, rank, world_size)

    @property
    def per_step(self) -> int:
        """Micro-batches of this process per step."""
        return self.micro_batches // self.world_size

    def stream_of(self, number: int) -> int:
        """The stream that gives this process's micro-batch `number`, counted over all steps."""
        step, place = divmod(number, self.per_step)
        place += self.rank * self.per_step
        if self.streams <= self.micro_batches:
            return place * self.streams // self.micro_batches
        return step % (self.streams // self.micro_batches) * self.micro_batches + place

    def own(self) -> list[int]:
        """The streams of this process, in the order in which it meets them."""
        turns = max(1, self.streams // self.micro_batches) * self.per_step
        return list(dict.fromkeys(self.stream_of(number) for number in range(turns)))


class PackStream:
    """
    The training batches of one process, from any step on; stands where a sampler and a loader stand for other data.

    A stream is packed by one worker, and its packs depend on data, seed and the number of streams alone. What a batch
    leaves behind (where its streams stand) comes with it, so that a checkpoint holds where the loop is, not how far
    ahead the workers have read.

    Args:
        open_lane: opens a stream; is called in workers.
        collator: makes batches of packs.
        dist: this process.
        deal: which stream gives which micro-batch.
        global_batch_size, batch_size: sequences per step of all processes, and per micro-batch.
        steps_per_epoch: that are counted as an epoch; the streams know no end.
        identity: what a checkpoint's position depends on, by name.
        num_workers, prefetch_factor, pin_memory: see `vla.data.loader.get_dataloader`.
    """

    def __init__(
        self, open_lane: OpenLane, collator: PackCollator, dist: DistState, deal: Deal, *, global_batch_size: int,
        batch_size: int, steps_per_epoch: int, identity: dict[str, Any], num_workers: int = 0, prefetch_factor: int = 4,
        pin_memory: bool = False,
    ) -> None:  # fmt: skip
        self.global_batch_size, self.steps_per_epoch, self.deal = global_batch_size, steps_per_epoch, deal
        self._open_lane, self._collator, self._batch_size, self._dist = open_lane, collator, batch_size, dist
        self._identity = identity
        self._workers = {"num_workers": num_workers, "prefetch_factor": prefetch_factor, "pin_memory": pin_memory}
        self._states: dict[int, Any] = {}  # by stream, where it stands for the loop; those not begun are not there
        self._before: dict[int, Any] = {}  # of the step that was begun last
        self._given = 0  # micro-batches that the loop has taken since the run began
        self._remaining = steps_per_epoch
        self._running: list[Iterator[Any]] | None = None

    @property
    def samples_per_epoch(self) -> int:
        """Sequences that are counted as an epoch."""
        return self.steps_per_epoch * self.global_batch_size

    def set_position(self, epoch: int, step: int = 0) -> None:
        """Make the next iteration give the rest of an epoch of which `step` steps are done."""
        if epoch < 0 or not 0 <= step <= self.steps_per_epoch:
            raise ValueError(f"no step {step} in epoch {epoch}: an epoch has {self.steps_per_epoch} steps")
        self._remaining = self.steps_per_epoch - step

    def __iter__(self) -> Iterator[PackedBatch]:
        """Micro-batches to the end of the epoch; the next iteration goes on behind them."""
        if self._running is None:
            self._running = self._start()
        sources = {stream: self._running[turn % len(self._running)] for turn, stream in enumerate(self.deal.own())}
        for _ in range(self._remaining * self.deal.per_step):
            if self._given % self.deal.per_step == 0:
                self._before = dict(self._states)
            batch = next(sources[self.deal.stream_of(self._given)])
            if isinstance(batch, Failure):
                self.close()
                raise batch.error
            self._states.update(batch.cursors)
            self._given += 1
            yield replace(batch, cursors={})

    def give_back(self) -> None:
        """The step that was taken last will not be used: a checkpoint that is written now has it come again."""
        self._states, self._given = self._before, self._given - self.deal.per_step

    @property
    def left_out(self) -> dict[str, int]:
        """Samples that were left out so far by this process's streams, by reason."""
        counts: dict[str, int] = {}
        for state in self._states.values():
            for kind, count in state["left_out"].items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def state_dict(self) -> dict[str, Any]:
        """Where all streams of all processes stand, as JSON values. All processes must call it."""
        states: dict[str, Any] = {}
        for part in gather_objects({str(stream): state for stream, state in self._states.items()}, self._dist):
            states |= part
        steps = self._given // self.deal.per_step
        return {**self._identity, "streams": self.deal.streams, "steps": steps, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go to where another run of the same data and settings stood, with any number of processes that fits.

        Raises:
            UserError: it was of another order, or its streams can't be dealt out to so many processes.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise UserError(
                    f"resume: the checkpoint was written with {name} {state.get(name)}, this run has {value}"
                )
        streams, deal = state["streams"], self.deal
        if not Deal.fits(streams, deal.micro_batches, deal.world_size):
            raise UserError(
                f"resume: the checkpoint's {streams} streams of packs can't be dealt out to {deal.world_size} "
                f"processes; resume with a divisor of {streams}"
            )
        self.close()
        self.deal = replace(deal, streams=streams)
        own = set(self.deal.own())
        self._states = {int(stream): value for stream, value in state["states"].items() if int(stream) in own}
        self._given = state["steps"] * self.deal.per_step

    def close(self) -> None:
        """Stop the workers at once, and tell what was left out."""
        if self._running is not None and self.left_out:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))
            overwatch.warning(f"samples that this process's streams have left out: {counts}")
        for batches in self._running or ():
            stop = getattr(batches, "_shutdown_workers", None)
            if stop is not None:
                stop()
        self._running = None

    def _start(self) -> list[Iterator[Any]]:
        own, workers = self.deal.own(), self._workers
        number = min(int(workers["num_workers"]), len(own))
        parts = [
            _Part(self._open_lane, self._collator, self.deal, own[turn :: number or 1], self._batch_size, self._given,
                  {stream: self._states[stream] for stream in own[turn :: number or 1] if stream in self._states})
            for turn in range(number or 1)
        ]  # fmt: skip
        if not number:
            return [iter(parts[0])]
        loaders = [
            DataLoader(
                part, batch_size=None, num_workers=1, prefetch_factor=int(workers["prefetch_factor"]),
                pin_memory=bool(workers["pin_memory"]), collate_fn=_as_it_is, worker_init_fn=leave_signals_to_parent,
                generator=torch.Generator().manual_seed(0),
            )
            for part in parts
        ]  # fmt: skip
        return [watch_workers(iter(loader)) for loader in loaders]


class _Part(IterableDataset):
    """The micro-batches of some streams of a process, in the order in which the process takes them."""

    def __init__(
        self, open_lane: OpenLane, collator: PackCollator, deal: Deal, streams: list[int], batch_size: int, start: int,
        states: dict[int, Any],
    ) -> None:  # fmt: skip
        self._open_lane, self._collator, self._deal = open_lane, collator, deal
        self._streams, self._batch_size, self._start, self._states = set(streams), batch_size, start, states

    def __iter__(self) -> Iterator[Any]:
        lanes: dict[int, Lane] = {}
        number = self._start
        while True:
            stream = self._deal.stream_of(number)
            number += 1
            if stream not in self._streams:
                continue
            try:
                if stream not in lanes:
                    lanes[stream] = self._open_lane(stream, self._deal.streams)
                    if stream in self._states:
                        lanes[stream].load_state_dict(self._states[stream])
                packs = [{"samples": lanes[stream].take()} for _ in range(self._batch_size)]
                batch = self._collator(packs)
            except Exception as error:
                yield Failure(error, f"stream {stream} of packs")
                return
            batch = replace(batch, cursors={stream: lanes[stream].state_dict()})
            yield Parcel.wrap(batch)


def _as_it_is(item: Any) -> Any:
    return item
