"""What may be sent where, and what may be shown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pairbench.errors import PairBenchError
from pairbench.results.folder import Store
from pairbench.results.heartbeat import RunLog, read_log
from pairbench.results.record import Failure
from pairbench.secrets import JUDGE_KEY, key_for, may_use_proxy, refuse_secrets, shown
from tests.support.records import record


def test_the_key_comes_from_one_variable_and_not_in_the_clear() -> None:
    far, clear = "https://example.org/v1", "http://example.org/v1"
    both = {JUDGE_KEY: " ours\n", "OPENAI_API_KEY": "theirs"}
    assert key_for(far, {"OPENAI_API_KEY": "theirs"}) is None
    assert key_for(far, both) == "ours"
    assert key_for(far, {JUDGE_KEY: ""}) is None
    for near in ("http://localhost:8000/v1", "http://127.0.0.2", "http://[::1]:80/v1"):
        assert key_for(near, both) == "ours"
        assert not may_use_proxy(near)
    assert may_use_proxy(far)
    assert key_for(clear, {}) is None
    for url in (clear, "http://localhost.example.org", "http://127.0.0.1.example.org"):
        with pytest.raises(PairBenchError, match=r"is not sent to .*example.org over http") as told:
            key_for(url, both)
        assert "ours" not in str(told.value)
    with pytest.raises(PairBenchError, match="holds a character that no key has") as told:
        key_for(far, {JUDGE_KEY: "the\nirs"})
    assert "irs" not in str(told.value)


URLS = {
    "s3://AKIA:wJal/rXUt+n@bucket/p": "s3://***@bucket/p",
    "see http://me:pw@host:8080/x?y=1 for": "see http://***@host:8080/x?y=1 for",
    "https://h/x?X-Amz-Signature=abc&b=2&api_key=x1": "https://h/x?X-Amz-Signature=***&b=2&api_key=***",
    "s3:/me:pw@bucket/x": "s3:/***@bucket/x",
    "ray://token@head:10001": "ray://***@head:10001",
    "s3://localhost:9000/bucket/hopper-v4@full/x": "s3://localhost:9000/bucket/hopper-v4@full/x",
    "s3://bucket/hopper-v4@full/x.json": "s3://bucket/hopper-v4@full/x.json",
    "a mail@example.org": "a mail@example.org",
}


@pytest.mark.parametrize("text", URLS)
def test_a_url_is_shown_without_its_password(text: str) -> None:
    assert shown(text) == URLS[text]
    if "***" in URLS[text] and " " not in text:
        with pytest.raises(PairBenchError, match="it must hold no user name"):
            refuse_secrets(text, "it", "leave them out")


def test_what_the_environment_holds_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("MYPASSWORD", "opensesame")
    assert shown("hf_abc and opensesame are false") == "*** and *** are false"


def test_no_piece_of_a_key_is_shown() -> None:
    key = "sk-0123456789abcdef"
    assert shown(f"{key}, {key[2:]}{key[:9]}; {key[:7]}", key) == f"***, ***; {key[:7]}"
    assert shown(key[3:12], key) == "***"
    assert shown("an x", "x") == "an x"


@pytest.mark.parametrize(
    "text", ["//" * 10**5, "?" * 10**5, "?key" * 10**5, "//a:" * 10**4, "x" * 10**6]
)
def test_hiding_takes_no_longer_than_reading(text: str) -> None:
    began = time.process_time()
    shown(text)
    assert time.process_time() - began < 10


def test_a_failure_is_kept_without_secrets(tmp_path: Path) -> None:
    why = "cannot reach http://me:opensesame@host/"
    failed = record("grpo", 0, status="failed", reason=why).model_copy(
        update={"failure": Failure(kind="OSError", message=why)}
    )
    told = Store(tmp_path).write(failed)
    with RunLog(tmp_path / "x.jsonl", failed.spec) as log:
        log.note("warning", text=why)
    assert told.failure is not None and "opensesame" not in told.failure.message
    assert read_log(tmp_path / "x.jsonl")[-1]["text"] == "cannot reach http://***@host/"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"opensesame" not in path.read_bytes()


SECRET = "s3://AKIAX:opensesame@bucket/x"

COMMANDS = [
    f"tune --algorithms grpo --task preference-bandit --trials 1 --results {SECRET}",
    f"judge --judge gold --results {SECRET}",
    f"submit x.json --into {SECRET}",
    f"submit {SECRET}",
    f"leaderboard --site {SECRET}",
    f"leaderboard --results {SECRET}",
    f"show {SECRET}.json",
    f"reproduce {SECRET}.json",
    f"compare {SECRET} x",
    f"run {SECRET}.toml",
    f"run bandit --results {SECRET}",
    f"new algorithm x --folder {SECRET}",
    f"models pull {SECRET}",
    f"list {SECRET}",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_or_makes_what_is_secret(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from pairbench.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert "opensesame" not in out + err
    assert "Traceback" not in err
    assert not any("opensesame" in str(path) for path in tmp_path.rglob("*"))
