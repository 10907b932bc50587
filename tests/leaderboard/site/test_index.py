"""The front page: methods by tasks with their gaps, noise in one card, claims beside it."""

from __future__ import annotations

import json
from pathlib import Path

from pairbench.leaderboard import build, write_site
from pairbench.leaderboard.site.index import claims_of, columns_of, matrix, series_of
from pairbench.leaderboard.site.names import plain_title
from tests.support.records import record

NOISE = {"mistake": 0.1}


def _records() -> list:  # type: ignore[type-arg]
    def of(task: str, rows: dict[str, float], **options: object) -> list:  # type: ignore[type-arg]
        return [
            record(row, seed, algorithm=row, task=task, scores=[level + seed] * 4, **options)  # type: ignore[arg-type]
            for row, level in rows.items()
            for seed in range(3)
        ]

    plain = {"grpo": 10.0, "ppo": 5.0, "reference": 0.0}
    noisy = [
        of(f"preference-bandit@noise-{x}", plain, task_config={"size": 4, "mistake": x})
        for x in (0.1, 0.2)
    ]
    return [
        *of("halfcheetah-v4", {"grpo": 1.0, "dpo": 100.0, "reference": 0.0}),
        *of("preference-bandit", plain, task_config={"size": 4}),
        *noisy[0],
        *noisy[1],
    ]


def test_every_trained_row_has_a_line_and_what_was_not_run_is_a_gap() -> None:
    boards = build(_records())
    series = series_of(boards)
    columns = columns_of(boards, [board for _, own in series for _, board in own[1:]])
    assert [board.task for board in columns] == ["halfcheetah-v4", "preference-bandit"]
    lines = matrix(columns)
    assert [(line["row"], line["on"]) for line in lines] == [("grpo", 2), ("dpo", 1), ("ppo", 1)]
    grpo, dpo, ppo = (line["cells"] for line in lines)
    assert dpo[1] is None
    assert ppo[0] is None
    assert grpo[1]["rank"] == 1
    assert grpo[1]["tint"] == 100  # the best there; on the other board 1 of the scale's 100
    assert grpo[0]["tint"] == 1
    assert [line["row"] for line in matrix(columns, 2)] == ["grpo"]


def test_variants_that_differ_in_one_number_are_one_series() -> None:
    ((name, several),) = series_of(build(_records()))
    assert name == "mistake"
    assert [(x, board.task) for x, board in several] == [
        (0.0, "preference-bandit"),
        (0.1, "preference-bandit@noise-0.1"),
        (0.2, "preference-bandit@noise-0.2"),
    ]


def test_the_front_page_has_the_picture_one_card_for_noise_and_the_claims(tmp_path: Path) -> None:
    claim = {"id": "c1", "statement": "A < B", "verdict": "holds only if"}
    (tmp_path / "claims.json").write_text(json.dumps({"claims": [claim]}))
    (tmp_path / "claims.html").write_text("")
    write_site(_records(), tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.index('id="picture-table"') < text.index('id="boards"')
    assert text.count("not run</span>") == 2
    assert "Preference bandit against mistake" in text
    assert "preference-bandit%40noise-0.1--200k-steps.html" in text
    assert text.count('<section class="card">\n<h3><a href="preference-bandit') == 1
    assert '<a href="claims.html#c1">A &lt; B</a>' in text
    assert 'class="verdict holds-only-if"' in text
    for part in ('<a class="skip" href="#main">', '<nav aria-label="Site">', '<main id="main"'):
        assert part in text
    listing = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| grpo     |" in listing


def test_claims_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert claims_of(tmp_path) == []
    (tmp_path / "claims.json").write_text("[1]")
    assert claims_of(tmp_path) == []


def test_titles_are_in_words_where_there_are_some() -> None:
    (board,) = build([record("grpo", 0, task="hh-rlhf-helpful")])
    assert plain_title(board) == "HH-RLHF helpful, tiny policy, 200k steps"
    (other,) = build([record("grpo", 0, task="mine")])
    assert plain_title(other) == "mine, 200k steps"
