"""Many MuJoCo walkers at once, bit for bit what Gymnasium computes one at a time.

The simulations are rows of `mujoco.batch.Batch` on Gymnasium's own XML. A row is the integration
state (mjSTATE_INTEGRATION: time, positions, velocities, warm start, controls), so copying a row
branches a simulation exactly. Rewards and terminations are computed afterwards from recorded
positions and velocities, for whole trajectories at once.
"""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from pairbench.errors import PairBenchError

Float = NDArray[np.float64]
Single = NDArray[np.float32]

_loading = threading.Lock()


@dataclass(frozen=True)
class Walker:
    """The facts of one Gymnasium locomotion id; defaults are HalfCheetah-v4's.

    Attributes:
        xml: file name among Gymnasium's assets, or a path.
        frame_skip: physics steps per environment step.
        control_cost: weight of the squared action in the reward.
        healthy_reward: added to every step's reward, 0 where nothing can fall.
        height: open interval of qpos[1] outside of which the episode ends, or None.
        angle: the same of qpos[2].
        state_bound: the episode ends when a position from qpos[2] on or a velocity reaches it.
        velocity_clip: bound of the velocities in the observation.
        reset_noise: half-width of the uniform noise on the initial positions, and the scale of that
            on the velocities.
        velocity_noise: distribution of the noise on the initial velocities.
        total_mass: kilograms the compiled model must weigh, or None to accept any.
        time_limit: steps after which an episode is cut off.
    """

    xml: str
    frame_skip: int
    control_cost: float
    healthy_reward: float = 0.0
    height: tuple[float, float] | None = None
    angle: tuple[float, float] | None = None
    state_bound: float = math.inf
    velocity_clip: float = math.inf
    reset_noise: float = 0.1
    velocity_noise: Literal["normal", "uniform"] = "normal"
    total_mass: float | None = None
    time_limit: int = 1000

    @property
    def terminates(self) -> bool:
        """Whether an episode can end before its time limit."""
        return self.height is not None or self.angle is not None

    @property
    def path(self) -> Path:
        """The XML file."""
        if Path(self.xml).is_absolute():
            return Path(self.xml)
        found = find_spec("gymnasium")  # not imported: it is slow, and only its files are needed
        if found is None or found.origin is None:
            raise PairBenchError("control tasks use gymnasium's models; pip install gymnasium")
        return Path(found.origin).parent / "envs" / "mujoco" / "assets" / self.xml

    def compile(self) -> mujoco.MjModel:
        """Returns the compiled model.

        Raises:
            PairBenchError: if the file is missing or wrong, or its total mass is not `total_mass`.
        """
        try:
            with _loading:  # MuJoCo would append its notice on settotalmass to a file in the cwd
                before = mujoco.get_mju_user_warning()
                mujoco.set_mju_user_warning(lambda message: None)
                try:
                    model = mujoco.MjModel.from_xml_path(str(self.path))
                finally:
                    mujoco.set_mju_user_warning(before)
        except ValueError as error:
            raise PairBenchError(
                f"MuJoCo {mujoco.__version__} cannot load {self.path.name}: {error}; "
                "reinstall gymnasium and mujoco at the versions in constraints.txt"
            ) from error
        mass = float(model.body_mass.sum())
        if self.total_mass is not None and abs(mass - self.total_mass) > 1e-9:
            raise PairBenchError(
                f"{self.path.name} weighs {mass:.6g} kg in MuJoCo {mujoco.__version__} where "
                f"{self.total_mass:.6g} kg is meant, so its returns could not be compared; "
                "install the mujoco version in constraints.txt, which honours settotalmass"
            )
        return model

    def observe(self, physics: Float) -> Float:
        """Returns the observations (..., nq + nv - 1) of `physics` (..., nq + nv): all but x."""
        seen = physics[..., 1:]
        if self.velocity_clip == math.inf:
            return seen
        seen = seen.copy()
        velocities = seen[..., physics.shape[-1] // 2 - 1 :]  # planar walkers have nq = nv
        np.clip(velocities, -self.velocity_clip, self.velocity_clip, out=velocities)
        return seen

    def healthy(self, physics: Float) -> NDArray[np.bool_]:
        """Returns (...) whether each of `physics` (..., nq + nv) lets its episode go on."""
        ok = np.ones(physics.shape[:-1], bool)
        for index, interval in ((1, self.height), (2, self.angle)):
            if interval is not None:
                ok &= (interval[0] < physics[..., index]) & (physics[..., index] < interval[1])
        if self.state_bound != math.inf:
            ok &= (np.abs(physics[..., 2:]) < self.state_bound).all(-1)
        return ok

    def effort(self, actions: Single) -> Single:
        """Returns (...) what a step's reward loses to its actions (..., A), float32."""
        effort: Single = self.control_cost * np.sum(np.square(actions), axis=-1)
        return effort

    def reward(self, before: Float, after: Float, actions: Single, dt: float) -> Float:
        """Returns (...) rewards of steps from physics `before` to `after` (..., nq + nv).

        Args:
            actions: (..., A) float32, squared in float32 as Gymnasium does.
            dt: seconds of an environment step.
        """
        cost = self.effort(actions)
        reward: Float = (after[..., 0] - before[..., 0]) / dt + self.healthy_reward - cost
        return reward


class Simulations:
    """`count` simulations of a walker, stepped together.

    Attributes:
        state: (count, S) float64 integration states; writing a row sets that simulation.
        physics: (count, nq + nv) float64 view of the positions and velocities in `state`.
        dt: seconds of an environment step.
        actions: number of actuators; each takes a control in [-1, 1].
    """

    def __init__(self, walker: Walker, count: int, threads: int = 1) -> None:
        """Compiles the model; `threads` changes the speed and no bit of any result."""
        self.walker = walker
        model = walker.compile()
        self._batch = mujoco.batch.Batch(model, count, nthread=max(1, min(threads, count)))
        self.count = count
        self.state: Float = self._batch.state
        start = mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_TIME))
        self.physics: Float = self.state[:, start : start + model.nq + model.nv]
        self.control: Float = self._batch.bind("ctrl")
        self._nq = int(model.nq)
        self._initial = np.concatenate([model.qpos0, np.zeros(model.nv)])
        self.dt = float(model.opt.timestep * walker.frame_skip)
        self.actions = int(model.nu)
        self.observations = int(model.nq + model.nv - 1)

    def step(self) -> None:
        """Advances every simulation by one environment step under `control`."""
        self._batch.step(nstep=self.walker.frame_skip)

    def place(self, ids: NDArray[np.integer], physics: Float) -> None:
        """Starts episodes of the simulations `ids` at `physics` (n, nq + nv)."""
        self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self.physics[ids] = physics
        self._batch.forward(ids)

    def reset(self, ids: NDArray[np.integer], generator: np.random.Generator) -> None:
        """Starts episodes of the simulations `ids` at Gymnasium's random initial states."""
        walker, half = self.walker, self._nq
        noise = generator.uniform(-walker.reset_noise, walker.reset_noise, (len(ids), half))
        shape = (len(ids), self.physics.shape[1] - half)
        if walker.velocity_noise == "normal":
            velocities = walker.reset_noise * generator.standard_normal(shape)
        else:
            velocities = generator.uniform(-walker.reset_noise, walker.reset_noise, shape)
        self.place(ids, self._initial + np.concatenate([noise, velocities], axis=1))


def provenance(walker: Walker) -> dict[str, str]:
    """Returns the SHA-256 of the walker's XML and the versions that decide its physics."""
    return {
        "xml": walker.path.name,
        "xml_sha256": hashlib.sha256(walker.path.read_bytes()).hexdigest(),
        "mujoco": version("mujoco"),
        "gymnasium": version("gymnasium"),
    }
