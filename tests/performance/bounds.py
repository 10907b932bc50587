"""What the performance tests require, and docs/ says; times are compared within one process."""

BOUNDS = {
    # times faster than TRL, a step
    "grpo, tiny": 2.5,
    "grpo, smollm2-135m": 2.5,
    "dpo, tiny": 1.9,
    "dpo, smollm2-135m": 1.5,
    # Shares of the raw simulator. The .85 of the closed loop at 64 simulations is the engine's
    # promise. Eight chains leave one step of physics only 8 simulations long to hide the loop's
    # fixed cost in, and the groups' time includes fitting the teacher's value; their bounds only
    # catch a slide.
    "collection, steps 64x125": 0.85,
    "collection, ppo 8x128": 0.6,
    "collection, groups 32x4x8": 0.6,
    "ppo": 0.35,
    "group methods": 0.5,
    "a standard run": 0.28,
    # times faster than Stable-Baselines3
    "sb3, 16 environments": 3.0,
    "sb3, 1 environment": 12.0,
    # share of a run
    "progress, checkpoints and records": 0.02,
    # processor seconds
    "ten thousand records": 5.0,
    "intervals of a board": 2.0,
}
