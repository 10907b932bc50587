"""A judge behind an endpoint: what it is asked, what it is forgiven, and what is kept."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

pytest.importorskip("requests", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.language.judges import endpoint as module
from pairbench.language.judges.endpoint import Address, Endpoint, Verdict, parse_address
from tests.support.fake_judge import FakeJudge, Trouble

PROMPT = (("user", "Name a colour."),)
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key or proxy of this machine's takes part."""
    for name in ("PAIRBENCH_JUDGE_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def fake() -> Iterator[FakeJudge]:
    with FakeJudge() as server:
        yield server


class Asking:
    """Endpoints of one server and folder, whose pauses are noted and not waited for."""

    def __init__(self, fake: FakeJudge, results: Path) -> None:
        self.fake, self.results = fake, results
        self.pauses: list[float] = []

    def __call__(self, budget: int = 100, key: str | None = None) -> Endpoint:
        address = Address(self.fake.url, "judge-1")
        return Endpoint(address, self.results, budget=budget, key=key, pause=self.pauses.append)

    @property
    def file(self) -> Path:
        (path,) = (self.results / "judgements").glob("*.jsonl")
        return path

    @property
    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()


@pytest.fixture
def asking(fake: FakeJudge, tmp_path: Path) -> Asking:
    return Asking(fake, tmp_path / "results")


def test_a_question_shows_the_texts_in_order_and_asks_for_one_word(
    asking: Asking, fake: FakeJudge
) -> None:
    with asking() as judge:
        verdict = judge.ask(PROMPT, "Red.", "Orange, I think.")
    assert verdict is not None
    assert (verdict.verdict, verdict.served, verdict.judge) == ("B", "fake-1", fake.url)
    assert fake.asked == [("Red.", "Orange, I think.")]
    (body,) = fake.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge-1", 0.0, 8)
    question = body["messages"][0]["content"]
    assert "Human: Name a colour." in question
    assert question.endswith("Reply with one word and nothing else: A, B or tie.")
    assert fake.keys == [None]


def test_a_verdict_is_a_line_at_once_and_never_asked_for_again(
    asking: Asking, fake: FakeJudge
) -> None:
    with asking() as judge:
        first = judge.ask(PROMPT, "Red.", "Orange.")
        assert [Verdict.model_validate_json(line) for line in asking.lines] == [first]
        assert judge.ask(PROMPT, "Red.", "Orange.") == first
        assert judge.ask(PROMPT, "Orange.", "Red.") != first  # another order, another question
    with asking(budget=0) as judge:
        assert judge.ask(PROMPT, "Red.", "Orange.") == first
        assert (judge.requests, judge.stopped) == (0, None)
    assert len(fake.asked) == 2


def test_another_model_or_prompt_version_is_another_judge(
    asking: Asking, fake: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asking() as judge:
        judge.ask(PROMPT, "Red.", "Orange.")
    monkeypatch.setattr(module, "PROMPT_VERSION", "next")
    with asking() as judge:
        judge.ask(PROMPT, "Red.", "Orange.")
    with Endpoint(Address(fake.url, "judge-2"), asking.results, budget=9) as judge:
        judge.ask(PROMPT, "Red.", "Orange.")
    assert len(fake.asked) == 3
    assert len(list((asking.results / "judgements").glob("*.jsonl"))) == 3


@pytest.mark.parametrize("cut", [1, 2, 40, 400])
def test_a_line_cut_short_by_a_kill_is_ignored_and_damages_no_other(
    asking: Asking, fake: FakeJudge, cut: int
) -> None:
    texts = ["Red.", "Orange.", "Turquoise."]
    with asking() as judge:
        kept = [judge.ask(PROMPT, text, "x") for text in texts]
    data = asking.file.read_bytes()
    asking.file.write_bytes(data[:-cut])
    with asking() as judge:
        again = [judge.ask(PROMPT, text, "x") for text in texts]
    assert [v and v.verdict for v in again] == [v and v.verdict for v in kept]
    lost = (cut > 1) + (cut >= len(data.splitlines()[-1]) + 1)
    assert len(fake.asked) == 3 + lost
    with asking(budget=0) as judge:
        assert [judge.ask(PROMPT, text, "x") for text in texts] == again


def test_the_endpoint_is_asked_again_after_longer_and_longer_pauses(
    asking: Asking, fake: FakeJudge
) -> None:
    fake.troubles = [
        Trouble(429, headers=(("Retry-After", "7"),)),
        Trouble(503),
        Trouble(0),
        Trouble(200, "<html>not found</html>"),
        Trouble(200, '{"choices": []}'),
    ]
    with asking() as judge:
        verdict = judge.ask(PROMPT, "Red.", "Orange.")
        assert (verdict and verdict.verdict, judge.requests, judge.stopped) == ("B", 6, None)
    assert asking.pauses == [7.0, 2.0, 4.0, 8.0, 16.0]


def test_a_slow_endpoint_is_asked_again(
    asking: Asking, fake: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, waits = threading.Event(), [True]

    def slow(a: str, b: str) -> str:
        if waits:
            waits.pop()
            over.wait(300)
        return "A"

    fake.better = slow
    monkeypatch.setattr(module, "PATIENCE", 3.0)
    with asking() as judge:
        verdict = judge.ask(PROMPT, "Red.", "Orange.")
        assert verdict and verdict.verdict == "A"
        assert judge.requests >= 2
    over.set()


def test_an_endpoint_that_stays_away_stops_the_asking(asking: Asking, fake: FakeJudge) -> None:
    fake.troubles = [Trouble(500)] * module.ATTEMPTS
    with asking() as judge:
        assert judge.ask(PROMPT, "Red.", "Orange.") is None
        assert judge.failed
        assert f"{fake.url} answered with HTTP status 500 6 times in a row" in str(judge.stopped)
        assert judge.ask(PROMPT, "Red.", "Blue.") is None  # no request is made any more
        assert judge.requests == module.ATTEMPTS
    assert len(asking.pauses) == module.ATTEMPTS - 1


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with FakeJudge() as gone:
        address = Address(gone.url, "judge-1")
    with Endpoint(address, tmp_path, budget=100, pause=lambda seconds: None) as judge:
        assert judge.ask(PROMPT, "Red.", "Orange.") is None
        assert f"{gone.url} could not be reached 6 times in a row" in str(judge.stopped)


def test_an_endpoint_that_asks_for_a_long_pause_is_left_for_later(
    asking: Asking, fake: FakeJudge
) -> None:
    fake.troubles = [Trouble(429, headers=(("Retry-After", "3600"),))]
    with asking() as judge:
        assert judge.ask(PROMPT, "Red.", "Orange.") is None
        assert "asks to wait 3600 s" in str(judge.stopped)
    assert asking.pauses == []


def test_a_retry_after_may_be_a_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < module._retry_after(format_datetime(then, usegmt=True), 1.0) <= 90
    assert module._retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1.0) == 0.0
    assert module._retry_after("soon", 4.0) == 4.0
    assert module._retry_after(None, 2.0) == 2.0


def test_the_budget_counts_every_request_and_the_next_call_goes_on(
    asking: Asking, fake: FakeJudge
) -> None:
    fake.troubles = [Trouble(503)]
    texts = ["Red.", "Orange.", "Turquoise."]
    with asking(budget=3) as judge:
        verdicts = [judge.ask(PROMPT, text, "x") for text in texts]
        assert [v is None for v in verdicts] == [False, False, True]
        assert (judge.requests, judge.failed) == (3, False)
        assert "budget of 3 requests is used up" in str(judge.stopped)
        assert judge.ask(PROMPT, texts[0], "x") == verdicts[0]  # what is known is still told
    with asking(budget=3) as judge:
        assert None not in [judge.ask(PROMPT, text, "x") for text in texts]
        assert (judge.requests, judge.stopped) == (1, None)


def test_an_unreadable_answer_is_asked_for_once_more(asking: Asking, fake: FakeJudge) -> None:
    replies = ["Answer A is better because", "tie.", "Both!", "neither"]
    fake.better = lambda a, b: replies.pop(0)
    with asking() as judge:
        first, second = judge.ask(PROMPT, "Red.", "x"), judge.ask(PROMPT, "Blue.", "x")
        assert judge.requests == 4
    assert first and (first.verdict, first.reply) == ("tie", "tie.")
    assert second and (second.verdict, second.reply) == ("unreadable", "neither")


def test_a_model_that_never_answers_the_question_is_not_asked_for_ever(
    asking: Asking, fake: FakeJudge
) -> None:
    fake.better = lambda a, b: "As a language model, I"
    with asking() as judge:
        for number in range(module.UNREADABLE_RUN + 5):
            judge.ask(PROMPT, f"Answer {number}", "x")
        assert judge.requests == 2 * module.UNREADABLE_RUN
        assert judge.failed
        assert "neither A, B nor tie (the last: 'As a language model, I')" in str(judge.stopped)


@given(st.text(max_size=12))
def test_only_one_word_is_a_verdict(text: str) -> None:
    words = {"a": "A", "b": "B", "tie": "tie"}
    bare = text.strip().casefold()
    expected = words.get(bare, words.get(bare[:-1], "unreadable") if bare[-1:] == "." else None)
    assert module._parsed(text) == (expected or "unreadable")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [("A", "A"), (" b.\n", "B"), ("TIE", "tie"), ("A B", "unreadable"), ("", "unreadable"),
     ("A is better", "unreadable"), ("A..", "unreadable"), ("C", "unreadable")],
)  # fmt: skip
def test_verdicts_are_parsed_strictly(reply: str, verdict: str) -> None:
    assert module._parsed(reply) == verdict


def test_a_refusal_of_one_text_is_an_unreadable_verdict_and_of_the_first_an_error(
    asking: Asking, fake: FakeJudge
) -> None:
    fake.troubles = [Trouble(400, '{"error": "unknown model"}')]
    with asking() as judge:
        assert judge.ask(PROMPT, "Red.", "x") is None
        assert "refuses to answer as judge-1 (HTTP status 400:" in str(judge.stopped)
        assert "unknown model" in str(judge.stopped)
    with asking() as judge:
        assert judge.ask(PROMPT, "Red.", "x")
        fake.troubles = [Trouble(400, "filtered")]
        refused = judge.ask(PROMPT, "Blue.", "x")
        assert refused and (refused.verdict, refused.reply) == (
            "unreadable", "HTTP status 400: filtered",
        )  # fmt: skip
        assert (judge.requests, judge.stopped) == (2, None)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (Trouble(401, f"wrong key {KEY}"), "refuses the key that was sent (HTTP status 401)"),
        (Trouble(404, f"no such path, {KEY}"), "no such path, ***"),
        (Trouble(302, headers=(("Location", "http://127.0.0.1:1/"),)), "HTTP status 302"),
    ],
)
def test_the_key_is_sent_and_never_told_even_if_the_server_repeats_it(
    asking: Asking, fake: FakeJudge, trouble: Trouble, message: str
) -> None:
    fake.better = lambda a, b: f"Your key is {KEY}"
    with asking(key=KEY) as judge:
        verdict = judge.ask(PROMPT, "Red.", "x")
        fake.troubles = [trouble]
        assert judge.ask(PROMPT, "Blue.", "x") is None
    assert set(fake.keys) == {f"Bearer {KEY}"}
    assert verdict and verdict.reply == "Your key is ***"
    assert message in str(judge.stopped)
    assert KEY not in str(judge.stopped)
    for path in asking.results.rglob("*"):
        assert path.is_dir() or KEY not in path.read_text()


def test_no_key_of_the_machine_s_netrc_is_sent(
    asking: Asking, fake: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with asking() as judge:
        judge.ask(PROMPT, "Red.", "x")
    assert fake.keys == [None]


def test_a_key_that_an_error_s_end_cuts_is_not_told(asking: Asking, fake: FakeJudge) -> None:
    for length in range(180, 215):
        fake.troubles = [Trouble(404, "x" * length + KEY + "x" * 4000)]
        with asking(key=KEY) as judge:
            judge.ask(PROMPT, "Red.", "x")
        told = str(judge.stopped)
        assert not any(KEY[at : at + 8] in told for at in range(len(KEY) - 7))
    fake.troubles = [Trouble(404, f"{KEY[:-3]} is the key, as is {KEY[6:]}")]
    with asking(key=KEY) as judge:
        judge.ask(PROMPT, "Red.", "x")
    assert "*** is the key, as is ***" in str(judge.stopped)


def test_no_proxy_stands_before_this_machine(
    asking: Asking, fake: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would read the key of a judge at http://localhost."""
    with FakeJudge() as proxy:
        monkeypatch.delenv("NO_PROXY")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with asking(key=KEY) as judge:
            assert judge.ask(PROMPT, "Red.", "x")
        assert (len(fake.asked), proxy.asked) == (1, [])


def _dripping(answer: Callable[[socket.socket], None]) -> tuple[str, threading.Thread]:
    """The address of a server that answers one request as it likes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as connection, suppress(OSError):
            connection.recv(2**16)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{server.getsockname()[1]}/v1", thread


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_an_answer_that_drips_has_a_time_limit_as_a_whole(
    head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "ATTEMPTS", 1)

    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:  # until nobody listens any more
            connection.sendall(b"x")
            time.sleep(0.02)

    url, _ = _dripping(drip)
    with Endpoint(Address(url, "m"), tmp_path, budget=9) as judge:
        assert judge.ask(PROMPT, "Red.", "x") is None
    assert "gave no answer in 0.3 s" in str(judge.stopped)


@pytest.mark.parametrize(
    ("head", "body", "why"),
    [(b"", b"x" * 4096, "answered with more than"),
     (b"Content-Encoding: gzip\r\n", gzip.compress(b"x"), "in a packed form"),
     (b"Content-Length: 9\r\n", b"[" * 9, "no chat completion"),
     (b"Transfer-Encoding: chunked\r\n", b"zz\r\n", "could not be reached")],
)  # fmt: skip
def test_an_answer_without_end_is_none(
    head: bytes, body: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setattr(module, "MOST_BYTES", 1000)

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)

    url, _ = _dripping(answer)
    with Endpoint(Address(url, "m"), tmp_path, budget=9) as judge:
        assert judge.ask(PROMPT, "Red.", "x") is None
    assert why in str(judge.stopped)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_verdicts_are_added_to_an_ordinary_file_only(
    kind: str, asking: Asking, fake: FakeJudge, tmp_path: Path
) -> None:
    with asking() as judge:
        judge.ask(PROMPT, "Red.", "x")
    file, outside = asking.file, tmp_path / "outside"
    file.rename(outside)
    before = outside.read_bytes()
    if kind == "link":
        file.symlink_to(outside)
    else:
        os.mkfifo(file)
    with pytest.raises(PairBenchError, match="cannot be read"), asking() as judge:
        judge.ask(PROMPT, "Blue.", "x")
    assert outside.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["", "http://localhost", "http://localhost,", ",model", "localhost:8000/v1,model",
     "ftp://localhost/v1,model", "http://[::1,model", "http://localhost:port/v1,model"],
)  # fmt: skip
def test_an_address_needs_a_url_and_a_model(text: str) -> None:
    with pytest.raises(PairBenchError, match="needs an address and a model"):
        parse_address(text)


def test_an_address_holds_no_secret_and_no_last_slash() -> None:
    address = parse_address("https://example.org/v1/, org/model:7b,x ")
    assert address == Address("https://example.org/v1", "org/model:7b,x")
    for secret in ("https://me:pw@example.org/v1,m", "https://example.org/v1?key=pw,m"):
        with pytest.raises(PairBenchError, match="must hold no user name") as told:
            parse_address(secret)
        assert "pw" not in str(told.value)


def test_two_calls_do_not_pay_for_the_same_verdicts(asking: Asking, fake: FakeJudge) -> None:
    with asking() as ours, asking() as theirs:
        ours.ask(PROMPT, "Red.", "x")
        with pytest.raises(PairBenchError, match="another call is asking this judge"):
            theirs.ask(PROMPT, "Red.", "x")
    with asking(budget=1) as before:  # had read the file before another call added to it
        with asking() as other:
            other.ask(PROMPT, "Blue.", "x")
        assert before.ask(PROMPT, "Blue.", "x")
        assert before.requests == 0
    assert len(fake.asked) == 2


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_spent(
    asking: Asking, fake: FakeJudge
) -> None:
    asking.results.mkdir()
    (asking.results / "judgements").write_text("in the way")
    with pytest.raises(PairBenchError, match=r"cannot be (read|written)"), asking() as judge:
        judge.ask(PROMPT, "Red.", "x")
    assert fake.asked == []


def test_lines_name_texts_by_hash_and_hold_no_text_of_them(asking: Asking) -> None:
    with asking() as judge:
        judge.ask(PROMPT, "Something only this answer says.", "x")
    (line,) = asking.lines
    assert "only this answer" not in line and "colour" not in line
    assert sorted(json.loads(line)) == sorted(Verdict.model_fields)
