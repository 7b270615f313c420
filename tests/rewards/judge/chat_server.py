"""A small OpenAI-compatible chat server for the tests: says what it is told to, in a thread, over real HTTP."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = json.dumps({"reason": "the same city", "label": "correct"})
Body = dict[str, Any]


class ChatServer:
    """Answers with `say(body)`. `faults` are taken first: a status, `(status, headers)`, or raw bytes under status 200.

    `refused_forms` are the types of `response_format` that it calls bad requests.
    """

    def __init__(self) -> None:
        self.say: Callable[[Body], str] = lambda body: GOOD
        self.usage: Body | None = {"prompt_tokens": 100, "completion_tokens": 20}
        self.faults: list[Any] = []
        self.always: int | None = None
        self.refused_forms: set[str] = set()
        self.error_text = "the server says so"
        self.delay_s = 0.0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def spec(self, **settings: Any) -> Body:
        """The judge that asks this server; pauses are short."""
        return {"kind": "endpoint", "url": self.url, "model": "m", "first_pause_s": 0.01, "retries": 2, **settings}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has given up is no news."""


class _Handler(BaseHTTPRequestHandler):
    served: ChatServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with served.lock:
            served.bodies.append(body)
            served.headers.append({**dict(self.headers), "path": self.path})
            served.at_once += 1
            served.most_at_once = max(served.most_at_once, served.at_once)
            fault = served.faults.pop(0) if served.faults else served.always
        try:
            time.sleep(served.delay_s)
        finally:
            with served.lock:
                served.at_once -= 1
        if isinstance(fault, bytes):
            return self._send(200, fault)
        if fault is not None:
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            return self._send(status, json.dumps({"error": served.error_text}).encode(), headers)
        form = body.get("response_format", {}).get("type", "text")
        if form in served.refused_forms:
            return self._send(400, b'{"error": "response_format is not supported"}')
        answer: Body = {"choices": [{"message": {"role": "assistant", "content": served.say(body)}}]}
        if served.usage is not None:
            answer["usage"] = served.usage
        return self._send(200, json.dumps(answer).encode())

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass
