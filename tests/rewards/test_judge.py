"""The judge, against a server of our own on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.catalog import score
from mmrl.rewards.judge import verdict
from mmrl.rewards.runtime import RewardScorer
from mmrl.types import RewardStatus
from tests.rewards.world import group, said, sample

S = sample("text", "the man opens the door", question="What does the man do?")


class Server(HTTPServer):
    """Answers with `replies`, the last one again and again; a number is a status, a text the judge's message."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[int | str] = ['{"score": 0.5}']
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append({"path": self.path, **body})
        self.server.keys.append(self.headers["Authorization"])
        reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        if isinstance(reply, int):
            self.send_error(reply)
            return
        usage = {"prompt_tokens": 1000, "completion_tokens": 10}
        content = json.dumps({"choices": [{"message": {"content": reply}}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_judge_sees_question_gold_and_answer_and_its_cost_is_counted(server: Server, monkeypatch: Any) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    options = {"url": server.url, "model": "m", "key_variable": "JUDGE_KEY", "price_in": 2.0, "price_out": 10.0}
    found = score("judge", said("he opens it"), S, **options)
    assert found.value == 0.5
    assert found.details["cost"] == pytest.approx(1000 * 2e-6 + 10 * 10e-6)
    (request,) = server.seen
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "m"
    prompt = request["messages"][0]["content"]
    for part in ("What does the man do?", "the man opens the door", "<answer>he opens it</answer>"):
        assert part in prompt
    assert server.keys == ["Bearer secret"]


def test_a_judge_is_asked_again_after_passing_trouble_and_never_twice_for_the_same(
    server: Server, tmp_path: Path
) -> None:
    server.replies = [503, '{"score": 1}', '{"score": 0}']
    options = {"url": server.url, "model": "m", "cache": str(tmp_path / "verdicts")}
    assert score("judge", said("he opens it"), S, **options).value == 1.0
    again = score("judge", said("he opens it"), S, **options)
    assert (again.value, again.details["cached"]) == (1.0, True)
    assert len(server.seen) == 2
    assert score("judge", said("he sits"), S, **options).value == 0.0


def test_no_answer_is_worth_nothing_and_asks_nobody(server: Server) -> None:
    options = {"url": server.url, "model": "m"}
    for text in ("", "he opens it", "<answer></answer>", "<answer>a</answer><answer>b</answer>"):
        assert score("judge", text, S, **options).value == 0.0
    assert score("judge", said("x" * 5000), S, **options).value == 0.0
    assert server.seen == []


def test_trouble_of_the_judge_fails_the_reward_and_not_the_policy(server: Server) -> None:
    options = {"url": server.url, "model": "m", "retries": 0}
    entry = {"name": "judge", "timeout_seconds": 20, "on_failure": "leave_out", "options": options}
    with RewardScorer(reward_uses({"default": [entry, {"name": "format"}]}), workers=1) as rewards:
        server.replies = ['{"score": 0.75}', "I would say 1", 400]
        (scored,), dropped = rewards.score([group(S, [said(text).text for text in ("one", "two", "three")])])
        assert scored.totals == (1.75,)
        assert scored.results[0]["judge"].status is RewardStatus.OK
        assert "0 verdicts" in dropped[0].detail
        assert "status 400" in dropped[1].detail
        assert rewards.metrics()["reward/judge_cost"] == 0.0


def test_a_verdict_is_one_number_in_the_judges_own_reply() -> None:
    def reply(content: str) -> dict[str, Any]:
        return {"choices": [{"message": {"content": content}}]}

    assert verdict(reply('```json\n{"score": 0.25}\n```')) == 0.25
    for content in ('{"score": 2}', '{"score": 10}', '{"score": -1}', "1", '{"score": 1} no, {"score": 0}', ""):
        with pytest.raises(ValueError, match="verdicts"):
            verdict(reply(content))
    with pytest.raises(ValueError, match="no message"):
        verdict({"error": "overloaded"})


def test_the_judge_is_off_until_it_has_an_address() -> None:
    with pytest.raises(RewardError, match=r"off until.*url"):
        score("judge", said("x"), S)
    with pytest.raises(RewardError, match="NO_SUCH_KEY"):
        score("judge", said("x"), S, url="http://127.0.0.1:9/v1", model="m", key_variable="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match=r"cannot be filled in.*gold"):
        score("judge", said("x"), S, prompt='{answer} {"score": 1}')
    with pytest.raises(ConfigError, match="http"):
        score("judge", said("x"), S, url="file:///etc/passwd", model="m")
