"""`ControlTask`: locomotion as contexts (simulator states) and responses (segments of actions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pairbench.algorithm import Method, Needs
from pairbench.control.gaussian import UniformPolicy
from pairbench.control.mujoco_env import Walker, provenance
from pairbench.control.session import ControlConfig, ControlSession
from pairbench.evaluation import Measure
from pairbench.seeding import Streams
from pairbench.task import Task


class ControlTask(Task):
    """A Gymnasium locomotion task; a subclass gives its facts as `walker`, and
    `gymnasium_id` for libraries that make the environment themselves.

    Under "steps" each of `contexts` chains takes `segment` steps with their rewards. Under "groups"
    each chain's exact simulator state (warm start included) is a context, `group_size` segments of
    `segment` actions branch from it, and the end of a member drawn at random is the chain's next
    context; a chain starts anew when its episode ended or fewer than `segment` steps of the time
    limit remain. Under "pairs" only the two members the teacher told apart stay as rows. The ages
    of the chains are staggered at the start, so that they do not start anew together.

    The learner sees no reward but under "steps": a segment's score, or comparisons of segments. A
    score of several components is two: the segment's progress (closed by the teacher's value where
    the score is) and what its actions cost, negative; they sum to the score.

    Validation episodes have starts and noise from streams of their own.
    """

    version = "1"
    kind = "control"
    unit = "environment steps"
    measures = (
        Measure(
            name="episode_length", title="episode length", meaning="Mean length of an episode",
            unit="steps",
        ),
    )  # fmt: skip
    packages = ("gymnasium", "mujoco")
    walker: ClassVar[Walker]
    gymnasium_id: ClassVar[str]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic-free": {"oracle": "return", "log_std": -1.0, "log_std_floor": -1.4}
    }

    class Config(ControlConfig):
        """A control task's settings."""

    config: ControlConfig

    def skip(self, algorithm: Method) -> str | None:
        needs = algorithm.needs
        if needs.probabilities:
            return (
                f"{algorithm.name}'s log odds need probabilities below one; "
                "continuous actions have densities"
            )
        if needs.offline:
            return f"{algorithm.name} learns from offline pairs, and {self.name} has no data set"
        if needs.enumerable:
            return f"{algorithm.name} enumerates all responses, and actions here are continuous"
        if self.config.oracle == "return" and (needs.critic or needs.data == "steps"):
            return (
                f"{algorithm.name} needs a critic or step rewards; the critic-free variant gives "
                "only scores or comparisons of segments"
            )
        return None

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> ControlSession:
        return ControlSession(self.name, self.walker, self.config, algorithm, streams, threads)

    def random_policy(self) -> UniformPolicy:
        return UniformPolicy()

    def provenance(self, needs: Needs) -> dict[str, Any]:
        return dict(provenance(self.walker))
