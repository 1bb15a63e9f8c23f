"""A suite of four tasks in the simulator's stand-in."""

from vla.evaluation.simulator.golden import Check
from vla.evaluation.simulator.pool import SimulatorPool

LANGUAGES = ["pick up the soup", "pick up the milk", "open the drawer", "turn on the stove"]


class FakePool(SimulatorPool):
    """Plays in `fake_simulator`, and answers questions about the suite by itself."""

    checks = (Check("golden-frame", "passed", "as stored"),)

    def __init__(self, log, workers=1):
        super().__init__(workers, factory="fake_simulator:make", time_limit=20.0, log=log)
        self.played = []

    def call(self, target, **arguments):
        if target.endswith("describe_suite"):
            tasks = [
                {"index": i, "name": f"task_{i}", "language": text, "initial_states": 50, "horizon": 280}
                for i, text in enumerate(LANGUAGES)
            ]
            return {"tasks": tasks, "versions": {"mujoco": "3.2.3"}, "gl_backend": "none"}
        return list(self.checks)

    def run(self, jobs, act, on_done):
        self.played += jobs
        super().run(jobs, act, on_done)
