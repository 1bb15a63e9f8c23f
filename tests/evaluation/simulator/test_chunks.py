import numpy as np
import pytest

from vla.evaluation.simulator.chunks import ChunkExecutor, FrameHistory, environment_action
from vla.evaluation.simulator.protocol import Protocol


def chunk_from(step, size=4):
    """A chunk whose action for step t is t everywhere."""
    return np.repeat(np.arange(step, step + size, dtype=float)[:, None], 7, axis=1)


def test_action_t_of_a_chunk_is_executed_at_step_t():
    executor = ChunkExecutor(execute_steps=3)
    for step in range(10):
        if executor.wants_chunk(step):
            executor.add(step, chunk_from(step))
        assert executor.action(step)[0] == step
    assert [step for step in range(10) if executor.wants_chunk(step)] == [0, 3, 6, 9]


def test_open_loop_takes_the_newest_chunk():
    executor = ChunkExecutor(execute_steps=2)
    executor.add(0, np.zeros((4, 7)))
    executor.add(2, np.ones((4, 7)))
    assert executor.action(2)[0] == 1


def test_ensemble_weighs_the_oldest_chunk_most():
    executor = ChunkExecutor(execute_steps=1, ensemble=0.5)
    values = [0.0, 1.0, 5.0]
    for step, value in enumerate(values):
        executor.add(step, np.full((3, 7), value))
    weights = np.exp([-0.0, -0.5, -1.0])
    assert executor.action(2)[0] == pytest.approx(np.dot(values, weights) / weights.sum())
    executor.add(3, np.full((3, 7), 9.0))  # the first chunk ends before step 3
    assert executor.action(3)[0] == pytest.approx(np.dot([1.0, 5.0, 9.0], weights) / weights.sum())


def test_ensemble_of_agreeing_chunks_changes_nothing():
    executor = ChunkExecutor(execute_steps=2, ensemble=0.01)
    for step in range(8):
        if executor.wants_chunk(step):
            executor.add(step, chunk_from(step, size=5))
        assert executor.action(step)[0] == pytest.approx(step)


def test_chunk_must_be_long_enough():
    with pytest.raises(ValueError, match="execute_steps: must be at most the chunk's 4, got 8"):
        ChunkExecutor(execute_steps=8).add(0, np.zeros((4, 7)))


def test_gripper_becomes_a_command_by_its_sign():
    for value, command in [(0.02, 1.0), (1.7, 1.0), (-0.02, -1.0), (-3.0, -1.0), (0.0, -1.0)]:
        assert environment_action(np.array([0, 0, 0, 0, 0, 0, value]))[6] == command
    assert environment_action(np.array([2.0, -2.0, 0.5, 0, 0, 0, 1])).tolist()[:3] == [1.0, -1.0, 0.5]


def test_action_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        environment_action(np.array([0, np.nan, 0, 0, 0, 0, 1.0]))


def frames(step, cameras=2):
    return np.stack([np.full((4, 4, 3), (step * 10 + camera) % 256, np.uint8) for camera in range(cameras)])


def test_history_looks_backward_and_stops_at_the_first_frame():
    history = FrameHistory(num_frames=3, stride=2)
    windows = {}
    for step in range(8):
        history.add(step, frames(step))
        windows[step] = history.window(step)[:, 0, 0, 0].tolist()
    assert windows[0] == [0, 1, 0, 1, 0, 1]
    assert windows[1] == [0, 1, 0, 1, 10, 11]
    assert windows[3] == [0, 1, 10, 11, 30, 31]
    assert windows[7] == [30, 31, 50, 51, 70, 71]  # time-major, all cameras of the oldest frame first


def test_history_names_a_missing_frame():
    history = FrameHistory(num_frames=2, stride=1)
    history.add(0, frames(0))
    history.add(5, frames(5))
    with pytest.raises(KeyError, match="no frame of step 4"):
        history.window(5)


@pytest.mark.parametrize("execute_steps", [1, 2, 3, 8])
@pytest.mark.parametrize(("num_frames", "stride"), [(1, 1), (2, 1), (2, 2), (3, 5), (2, 11)])
def test_only_needed_frames_are_rendered_and_none_is_missing(execute_steps, num_frames, stride):
    protocol = Protocol("libero_object", 280, num_frames=num_frames, frame_stride=stride, execute_steps=execute_steps)
    history, rendered, looked_at = FrameHistory(num_frames, stride), set(), set()
    for step in range(48):
        if protocol.frame_needed(step):
            rendered.add(step)
            history.add(step, frames(step))
        if step % execute_steps == 0:
            history.window(step)  # raises if a frame is missing
            looked_at |= {max(step - i * stride, 0) for i in range(num_frames)}
    last = 48 - num_frames * max(stride, execute_steps)  # later frames are for windows after the end
    assert {step for step in rendered if step < last} == {step for step in looked_at if step < last}
