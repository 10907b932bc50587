"""A local server that speaks as much of OpenAI's interface as a judge needs, and misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Better = Callable[[str, str], str]
"""What the judge replies to the answers shown as A and as B."""


def longer(a: str, b: str) -> str:
    """Prefers the longer answer, wherever it stands."""
    return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"


@dataclass
class Trouble:
    """One response that is no verdict; status 0 closes the connection without a word."""

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class FakeJudge:
    """The server, in a thread of its own; a context manager.

    Attributes:
        better: what it replies.
        troubles: responses that come before any verdict, first to last.
        asked: the answers (A, B) of each request.
        keys: the Authorization header of each, None where there is none.
        bodies: what was posted.
    """

    def __init__(self, better: Better = longer, served: str = "fake-1") -> None:
        self.better = better
        self.troubles: list[Trouble] = []
        self.asked: list[tuple[str, str]] = []
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # http.server calls it so
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                a, b = answers(body["messages"][0]["content"])
                fake.asked.append((a, b))
                fake.keys.append(self.headers["Authorization"])
                fake.bodies.append(body)
                assert self.path == "/v1/chat/completions"
                if fake.troubles:
                    trouble = fake.troubles.pop(0)
                    if trouble.status:
                        self.say(trouble.status, trouble.text, trouble.headers)
                    return
                message = {"role": "assistant", "content": fake.better(a, b)}
                self.say(200, json.dumps({"model": served, "choices": [{"message": message}]}))

            def say(
                self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()
            ) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeJudge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answers(question: str) -> tuple[str, str]:
    """Returns the answers that a question shows as A and as B."""
    _, _, rest = question.partition(" answer A\n")
    mark = question.partition("lines marked ")[2][:16]
    a, _, rest = rest.partition(f"\n{mark} answer B\n")
    return a, rest.partition(f"\n{mark} end\n")[0]
