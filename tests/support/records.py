"""Synthetic run records for tests: several rows, seeds, curves, failures and skips, all seeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairbench.evaluation import Cost, Evaluation
from pairbench.language.task import MEASURES
from pairbench.results.record import CurvePoint, Failure, Protocol, RunRecord, RunSpec, Stability
from pairbench.seeding import generator

ROWS: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "ppo": ("ppo", {"clip": 0.2, "gae_lambda": 0.95}, 1950.0, 900.0),
    "grpo": ("grpo", {"group_size": 4, "clip": 0.2}, 2300.0, 900.0),
    "grpo+trust-region": ("grpo", {"group_size": 4, "clip": 0.2, "hinge": 1.0}, 3200.0, 400.0),
    "soft-pair-grpo": ("soft-pair-grpo", {"group_size": 4, "kl_beta": 0.01}, 2500.0, 380.0),
    "hard-pair-grpo": ("hard-pair-grpo", {"group_size": 4, "delta_0": 0.2}, 3900.0, 450.0),
    "online-dpo": ("dpo", {"beta": 1.0, "fresh_pairs": True}, 2200.0, 1200.0),
    "reference": ("reference", {}, 0.0, 3.0),
    "random": ("random", {}, -280.0, 4.0),
}
"""Row -> (algorithm, settings, level of its reward, spread over seeds)."""


def record(
    row: str = "grpo",
    seed: int = 0,
    *,
    algorithm: str | None = None,
    config: dict[str, Any] | None = None,
    task: str = "halfcheetah-v4",
    task_version: str = "1",
    task_config: dict[str, Any] | None = None,
    steps: int = 200_000,
    scores: Sequence[float] | None = None,
    mean_scores: Sequence[float] | None = None,
    level: float | None = None,
    spread: float | None = None,
    status: str = "finished",
    reason: str | None = None,
    regime: str | None = None,
    contexts: int = 16,
    evaluations: int = 10,
    **fields: Any,
) -> RunRecord:
    """Returns one record; `scores` are the held-out scores, drawn around `level` by default."""
    known = ROWS.get(row, (row, {}, 1000.0, 100.0))
    algorithm = algorithm or known[0]
    config = known[1] if config is None else config
    level = known[2] if level is None else level
    spread = known[3] if spread is None else spread
    floor = algorithm in ("reference", "random")
    if regime is None:
        regime = "no training" if floor else "on-policy groups, scores"
    spec = RunSpec(
        algorithm=algorithm,
        algorithm_config=config,
        task=task,
        task_version=task_version,
        task_config=task_config or {"oracle": "critic-scored"},
        protocol=Protocol.model_validate({"budget": {"steps": steps}, "evaluations": evaluations}),
        seed=seed,
        row=row,
    )
    base = {**spec.model_dump(), "identity": spec.identity, "status": status, "regime": regime}
    base |= {"step_unit": "environment steps", "reason": reason}
    if status == "failed":
        base["failure"] = Failure(kind="DivergedError", message=reason or "loss", iteration=17)
    if status != "finished":
        return RunRecord(**(base | fields))
    stream = generator(seed, f"test:{row}:{steps}")
    if scores is None:
        run = level + spread * stream.standard_normal()
        scores = (run + 60 * stream.standard_normal(contexts)).round(3).tolist()
    if mean_scores is None:
        mean_scores = [1.1 * score for score in scores]
    reward = float(np.mean(scores))
    share = np.array([1.0]) if floor else np.linspace(1, evaluations, evaluations) / evaluations
    wobble = 0.05 * abs(reward) * stream.standard_normal(len(share)) * (share < 1)
    curve = reward * (1 - np.exp(-3 * share)) / (1 - np.exp(-3)) + wobble
    iterations = 0 if floor else steps // 1024
    base |= {
        "evaluation": Evaluation(
            scores={"stochastic": list(scores), "mean": list(mean_scores)},
            measures={"episode_length": 1000.0},
        ),
        "curve": [
            CurvePoint(
                steps=0 if floor else int(steps * at),
                labels=0 if floor else int(steps * at / 8),
                gradient_steps=int(iterations * 80 * at),
                reward=float(value),
                means={"stochastic": float(value), "mean": 1.1 * float(value)},
            )
            for at, value in zip(share, curve, strict=True)
        ],
        "stability": Stability()
        if floor
        else Stability(
            gradient_noise=float(20 + 5 * stream.random()),
            kl_std=float(0.01 + 0.01 * stream.random()),
            kl_max=0.2,
            drawdown=float(np.max(np.maximum.accumulate(curve) - curve)),
        ),
        "cost": Cost()
        if floor
        else Cost(
            steps=steps,
            scores=steps // 8,
            gradient_steps=iterations * 80,
            iterations=iterations,
            evaluation_steps=evaluations * contexts * 1000,
            seconds=float(12 + stream.random()),
        ),
        "weights_sha256": "0" * 64,
        "provenance": {
            "started": f"2026-01-01T00:00:{seed:02d}+00:00",
            "git_commit": "c" * 40,
            "python": "3.11.9",
            "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
            "platform": "Linux x86_64",
            "cpu": "Example CPU",
            "cores": 2,
            "torch_threads": 1,
            "task": {"xml_sha256": "d" * 64},
        },
    }
    return RunRecord(**(base | fields))


def board_records(seeds: int = 5, **options: Any) -> list[RunRecord]:
    """Returns a board: every row of `ROWS`, one with a failed seed, one failed, one skipped."""
    records = [record(row, seed, **options) for row in ROWS for seed in range(seeds)]
    diverged = "loss is not finite in iteration 17"
    for seed in range(seeds):
        records.append(
            record(
                "hard-pair-grpo-no-trust-region",
                seed,
                algorithm="hard-pair-grpo",
                config={"group_size": 4, "trust_region": False},
                level=700.0,
                status="failed" if seed == 1 else "finished",
                reason=diverged if seed == 1 else None,
                **options,
            )
        )
        records.append(
            record("dpo-fast", seed, algorithm="dpo", config={"lr": 1e-3}, status="failed",
                   reason=diverged, **options)
        )  # fmt: skip
        records.append(
            record("orpo", seed, status="skipped", regime="fresh on-policy pairs",
                   reason="log odds need probabilities, and this policy gives densities", **options)
        )  # fmt: skip
    return records


def language_records(seeds: int = 3) -> list[RunRecord]:
    """Returns a board with KL to the untrained policy, two scores, judges' cards and a caveat.

    "far" reaches 2 x KL in reward, "near" never passes 2 nats, "idle" gains nothing.
    """
    known: dict[str, Any] = {
        "task": "hh-rlhf-helpful",
        "task_config": {"model": "tiny"},
        "evaluations": 4,
        "scores_of": "measure",
        "measures": MEASURES,
    }
    card = {"kind": "minilm-l3", "accuracy": "0.600 ± 0.010", "head_sha256": "a" * 64}
    provenance = {
        "task": {
            "data_sha256": "d" * 64,
            "caveat": "Smoke test only.",
            "judges": {"helpful-gold": card},
        }
    }
    records = []
    for seed in range(seeds):
        for row, slope, reach in (
            ("far", 2.0, 10.0),
            ("near", 2.0, 2.0),
            ("idle", 0.0, 10.0),
            ("reference", 0.0, 0.0),
        ):
            floor = row == "reference"
            kls = [0.0] if floor else [reach * k / 4 for k in (1, 2, 3, 4)]
            curve = [
                CurvePoint(
                    steps=0 if floor else 100 * (k + 1),
                    labels=0,
                    gradient_steps=0,
                    reward=slope * kl + 0.01 * seed,
                    means={"gold judge": slope * kl + 0.01 * seed, "proxy judge": 3 * kl},
                    measures={"kl_ref": kl, "beats_sft": 0.5 + 0.04 * kl},
                )
                for k, kl in enumerate(kls)
            ]
            final = slope * kls[-1] + 0.01 * seed
            records.append(
                record(
                    row,
                    seed,
                    scores=[final - 0.5, final + 0.5],
                    curve=curve,
                    provenance=provenance,
                    read={"data": "d" * 64},
                    regime="no training" if floor else "on-policy groups, scores",
                    **known,
                ).model_copy(
                    update={
                        "evaluation": Evaluation(
                            scores={
                                "gold judge": [final - 0.5, final + 0.5],
                                "proxy judge": [3 * kls[-1]] * 2,
                            },
                            measures=curve[-1].measures,
                        )
                    }
                )
            )
    return records
