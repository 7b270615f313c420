"""A server that answers with the bytes it was given, whatever it is asked."""

import json
import socket
import threading
import time

from tests.retrieval.server.fakes import FakeRetriever

FAKE = FakeRetriever()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answer(*queries: str, k: int = 1) -> bytes:
    lists = [
        [
            {"document": {"id": h.passage.id, "title": h.passage.title, "text": h.passage.text}, "score": h.score}
            for h in FAKE.expected(query, k)
        ]
        for query in queries
    ]
    return http("200 OK", json.dumps({"result": lists}).encode())


class Scripted:
    """A server that answers one connection after the other with the bytes it was given; the last ones go on."""

    def __init__(self, *answers: bytes, pause_s: float = 0.0) -> None:
        self._answers = list(answers)
        self._pause_s = pause_s
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65_536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                while length and len(body) < int(length[0].split(b":")[1]):
                    body += connection.recv(65_536)
                self.asked.append(head.split(b"\r\n")[0])
                content = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                try:
                    for start in range(0, len(content), 50) if self._pause_s else [0]:
                        connection.sendall(content[start : start + 50] if self._pause_s else content)
                        time.sleep(self._pause_s)
                except OSError:
                    pass
