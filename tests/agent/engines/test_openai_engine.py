"""A served model over real HTTP, with a small server that answers as vLLM does, or as one that knows text alone."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.openai import OpenAIEngine, left_out_stop
from agent.engines.openai_settings import OpenAISettings
from agent.engines.opening import OpenAISpec, open_engine
from tests.agent.engines.small_engine import TOKENIZER, VOCAB, sample

OWN_FIELDS = {"top_k", "return_token_ids", "include_stop_str_in_output", "prompt_logprobs"}


class Server:
    """Says one text; `token_ids` with its ids, `processed` with logprobs of the filtered distribution."""

    def __init__(self, *, token_ids: bool = True, processed: bool = True) -> None:
        self.token_ids, self.processed = token_ids, processed
        self.text, self.stop_reason, self.finish = "the of</search>", "</search>", "stop"
        self.logprob = -0.5
        self.models = [{"id": "policy", "max_model_len": 64}]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[int | str] = []
        self.delay_s = 0.0
        handler = type("Handler", (_Handler,), {"served": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("top_k") == 1:
            second = -9999.0 if self.processed else -2.0
            logprobs = {"token_logprobs": [0.0], "top_logprobs": [{"a": 0.0, "b": second}]}
            return {"text": "a", "finish_reason": "length", "token_ids": [7], "logprobs": logprobs}
        if not self.token_ids:
            text = self.text.removesuffix(self.stop_reason or "never")
            return {"text": text, "finish_reason": self.finish}
        ids = TOKENIZER.encode(self.text)
        choice = {"text": self.text, "finish_reason": self.finish, "stop_reason": self.stop_reason, "token_ids": ids}
        choice["logprobs"] = {"token_logprobs": [self.logprob] * len(ids)}
        if "prompt_logprobs" in body:
            rows = [{str(i): {"logprob": -float(i)}} for i in body["prompt"]]
            choice["prompt_logprobs"] = [None, *rows[1:]]
        return choice


class _Handler(BaseHTTPRequestHandler):
    served: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.served.headers.append(dict(self.headers))
        self._answer(200, {"data": self.served.models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served.bodies.append(body)
        self.served.headers.append(dict(self.headers))
        if not self.served.token_ids and OWN_FIELDS & body.keys():
            return self._answer(400, {"error": f"unknown fields {sorted(OWN_FIELDS & body.keys())}"})
        fault = self.served.faults.pop(0) if self.served.faults else None
        if fault == "cut":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        time.sleep(self.served.delay_s)
        if fault == "no completion":
            return self._answer(200, {"error": "the model is overloaded"})
        if fault is not None:
            return self._answer(int(fault), {"error": "the server says so"})
        return self._answer(200, {"choices": [self.served.choice(body)]})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def text_server() -> Iterator[Server]:
    made = Server(token_ids=False)
    yield made
    made.close()


def settings(server: Server, **options: object) -> OpenAISettings:
    return OpenAISettings.model_validate({"url": server.url, "timeout_s": 20, **options})


def ask(engine: OpenAIEngine, **params: object) -> Completion:
    return sample(engine, [[5, 9]], **{"max_new_tokens": 20, "stop": ("</search>", "</answer>"), **params})[0]


def test_ids_and_logprobs_come_back_as_they_were_sampled(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER, purpose="rollouts", version=5)
    completion = ask(engine, temperature=0.7, seeds=[2**64 + 3])
    assert list(completion.token_ids) == TOKENIZER.encode("the of</search>") and completion.exact
    assert set(completion.logprobs) == {-0.5} and set(completion.versions) == {5} and completion.finish == "stop"
    body = server.bodies[-1]
    assert body["prompt"] == [5, 9] and body["max_tokens"] == 20 and body["temperature"] == 0.7 and body["seed"] == 3
    assert body["return_token_ids"] and body["include_stop_str_in_output"] and body["skip_special_tokens"] is False
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)
    assert engine.context_window == 64 and engine.exact


@pytest.mark.parametrize(
    ("finish", "stop_reason", "expected"), [("stop", None, "eos"), ("stop", 289, "eos"), ("length", None, "length")]
)
def test_how_sampling_ended(server: Server, finish: str, stop_reason: int | None, expected: str) -> None:
    server.finish, server.stop_reason = finish, stop_reason  # type: ignore[assignment]
    assert ask(OpenAIEngine(settings(server), TOKENIZER)).finish == expected


def test_text_alone_is_encoded_marked_and_refused_for_rollouts(text_server: Server) -> None:
    engine = OpenAIEngine(settings(text_server), TOKENIZER)
    text_server.text = "the <search>of</search>"
    completion = ask(engine)
    assert TOKENIZER.decode(list(completion.token_ids)) == "the <search>of</search>", "the cut stop string is back"
    assert completion.exact is False and completion.finish == "stop" and set(completion.logprobs) == {0.0}
    assert not OWN_FIELDS & text_server.bodies[-1].keys()
    with pytest.raises(ValueError, match=r"does not give the sampled token ids.*it can be evaluated, not trained on"):
        OpenAIEngine(settings(text_server), TOKENIZER, purpose="rollouts")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think> <search>who", "</search>"),
        ("<search>a</search> <answer>b", "</answer>"),
        ("<search>a</search> and no more", ""),
        ("nothing at all", ""),
    ],
)
def test_the_stop_string_that_a_server_left_out(text: str, expected: str) -> None:
    assert left_out_stop(text, ("</search>", "</answer>")) == expected
    assert left_out_stop(text, ("END",)) == "END"


def test_logprobs_that_are_not_those_sampled_from_are_refused_for_rollouts() -> None:
    server = Server(processed=False)
    engine = OpenAIEngine(settings(server), TOKENIZER, purpose="rollouts")
    assert ask(engine, temperature=1.0).exact
    with pytest.raises(ValueError, match="start it with --logprobs-mode processed_logprobs"):
        ask(engine, temperature=0.7)
    with pytest.raises(ValueError, match="top_k 3"):
        ask(engine, top_k=3)
    assert ask(OpenAIEngine(settings(server), TOKENIZER), temperature=0.7).exact
    server.close()


def test_passing_faults_are_tried_again_and_others_are_not(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    server.faults = [503, "cut", 429]
    assert ask(engine).finish == "stop"
    server.faults = [400]
    with pytest.raises(EngineError, match=r"POST http.*/v1/completions: 400 Bad Request: .*the server says so"):
        ask(engine)
    few = OpenAIEngine(settings(server, retries=1), TOKENIZER)
    server.faults = [500, 500]
    with pytest.raises(EngineError, match="failed: ReadError: 500"):
        ask(few)


def test_an_answer_without_a_completion_fails_its_request_alone(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    server.faults = ["no completion"]
    with pytest.raises(EngineError, match=r"completions answered without a completion: .*the model is overloaded"):
        ask(engine)
    assert ask(engine).finish == "stop"


def test_text_that_takes_more_tokens_than_were_asked_for_is_cut(text_server: Server) -> None:
    """A tokenizer that is not the server's may need more; an episode's budget is in ours."""
    engine = OpenAIEngine(settings(text_server), TOKENIZER)
    text_server.text = "the <search>of</search>"
    whole = ask(engine).token_ids
    cut = ask(engine, max_new_tokens=len(whole) - 1)
    assert cut.token_ids == whole[:-1] and cut.finish == "length"
    assert ask(engine, max_new_tokens=len(whole)).finish == "stop"


def test_a_server_that_hangs_fails_the_request_at_its_deadline(server: Server) -> None:
    engine = OpenAIEngine(settings(server, timeout_s=0.4), TOKENIZER)
    server.delay_s = 5.0
    began = time.monotonic()
    with pytest.raises(EngineError, match="failed: "):
        ask(engine)
    assert time.monotonic() - began < 3


def test_bad_requests_are_refused_with_every_engines_words(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    for prompt, params, message in (
        ([], {}, "the prompt is empty"),
        ([VOCAB], {}, f"the model knows 0 to {VOCAB - 1}"),
        ([1] * 64, {}, "the prompt has 64 tokens and the model's context window is 64"),
        ([1], {"temperature": -1.0}, "temperature is -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(engine, [prompt], **params)  # type: ignore[arg-type]
    sample(engine, [[1] * 60], max_new_tokens=50)
    assert server.bodies[-1]["max_tokens"] == 4


def test_many_requests_from_several_event_loops(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    for _ in range(2):
        group = asyncio.run(engine.generate_n([5], SamplingParams(max_new_tokens=4, seed=10), 8, key="g"))
        assert len(group) == 8
    assert sorted(body["seed"] for body in server.bodies[-8:]) == list(range(10, 18))


def test_a_prompt_is_scored_at_temperature_1_alone(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    assert engine.score([5, 9, 3]) == [0.0, -9.0, -3.0]
    with pytest.raises(ValueError, match="a server scores a prompt at temperature 1 alone"):
        engine.score([5], temperature=0.5)


def test_logits_that_are_not_finite_are_said(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)
    server.logprob = float("nan")
    with pytest.raises(EngineError, match="the logits of request '000' are not finite"):
        ask(engine)


def test_weights_are_not_the_engines_to_change(server: Server) -> None:
    with pytest.raises(ValueError, match="is served by somebody else, whose weights this engine cannot change"):
        OpenAIEngine(settings(server), TOKENIZER).update_weights([], 1)


def test_the_model_is_the_one_that_is_served(server: Server) -> None:
    server.models = [{"id": "a", "max_model_len": 64}, {"id": "b"}]
    with pytest.raises(ValueError, match="serves a, b; say which one is meant"):
        OpenAIEngine(settings(server), TOKENIZER)
    with pytest.raises(ValueError, match="has no model 'c'; it serves a, b"):
        OpenAIEngine(settings(server, model="c"), TOKENIZER)
    with pytest.raises(ValueError, match="does not say how long a context b takes; set context_window"):
        OpenAIEngine(settings(server, model="b"), TOKENIZER)
    assert OpenAIEngine(settings(server, model="b", context_window=32), TOKENIZER).context_window == 32


def test_the_key_is_sent_and_never_written_back(server: Server, tmp_path: object) -> None:
    TOKENIZER.save_pretrained(tmp_path)  # type: ignore[arg-type]
    spec = OpenAISpec.model_validate({"url": server.url + "/v1/", "api_key": "s3cret", "timeout_s": 5})
    engine = open_engine(spec, tmp_path)  # type: ignore[arg-type]
    ask(engine)  # type: ignore[arg-type]
    assert {headers.get("Authorization") for headers in server.headers} == {"Bearer s3cret"}
    assert "s3cret" not in settings(server, api_key="s3cret").model_dump_json()
    assert "s3cret" not in repr(spec) + spec.model_dump_json()


def test_a_server_that_is_not_there_is_said(server: Server) -> None:
    server.close()
    with pytest.raises(EngineError, match=r"GET http.*/v1/models failed: ConnectError"):
        OpenAIEngine(settings(server, retries=1), TOKENIZER)


def test_closing_ends_later_requests(server: Server) -> None:
    engine = OpenAIEngine(settings(server), TOKENIZER)

    async def run() -> None:
        await engine.generate([5], SamplingParams(max_new_tokens=4), key="a")
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError, match="the engine is closed"):
            await engine.generate([5], SamplingParams(max_new_tokens=4), key="a")

    asyncio.run(run())
