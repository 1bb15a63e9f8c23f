import numpy as np

from vla.evaluation.simulator.episode_log import EpisodeLog
from vla.evaluation.simulator.messages import Episode, Outcome


def episode(init_id, task=0):
    return Episode("libero_object", task, init_id)


def outcome(init_id, status="success", steps=5):
    actions = np.full((steps, 7), init_id / 7)
    return Outcome(episode(init_id), status, steps, actions, f"state-{init_id}", "states", {"reset": 1.0}, 3)


def test_finished_episodes_are_known_after_a_restart(tmp_path):
    log = EpisodeLog(tmp_path, "variant")
    log.append(outcome(0))
    log.append(outcome(1, "failure"))
    log.append(outcome(2, "error", steps=0))
    again = EpisodeLog(tmp_path, "variant")
    assert [again.finished(episode(i)) for i in range(4)] == [True, True, False, False]  # errors are tried again
    found = again.outcomes(episode(i) for i in (1, 0))
    assert [item.status for item in found] == ["failure", "success"]
    assert found[1].initial_state_hash == "state-0" and found[1].rendered == 3
    assert np.array_equal(again.actions(episode(1)), outcome(1).actions)  # all bits: they replay the episode
    assert again.actions(episode(2)) is None


def test_another_policy_or_protocol_starts_anew(tmp_path):
    EpisodeLog(tmp_path, "one").append(outcome(0))
    other = EpisodeLog(tmp_path, "other")
    assert not other.finished(episode(0))
    other.append(outcome(0, "failure"))
    assert EpisodeLog(tmp_path, "one").outcomes([episode(0)])[0].status == "success"


def test_line_that_was_cut_off_is_played_again(tmp_path):
    log = EpisodeLog(tmp_path, "v")
    log.append(outcome(0))
    log.append(outcome(1))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    again = EpisodeLog(tmp_path, "v")
    assert again.finished(episode(0)) and not again.finished(episode(1))
    again.append(outcome(1, "failure"))
    last = EpisodeLog(tmp_path, "v")
    assert [item.status for item in last.outcomes([episode(0), episode(1)])] == ["success", "failure"]


def test_last_line_of_an_episode_counts(tmp_path):
    log = EpisodeLog(tmp_path, "v")
    log.append(outcome(0, "error"))
    log.append(outcome(0, "success"))
    assert EpisodeLog(tmp_path, "v").finished(episode(0))
