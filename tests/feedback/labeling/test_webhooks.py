"""The outbox: events exist when their cause does, are signed as the scheme says, and arrive in the end."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks.webhooks import Webhook as Oracle
from standardwebhooks.webhooks import WebhookVerificationError

from accord.errors import DataError
from accord.feedback.labeling import webhooks
from accord.feedback.labeling.webhooks import BACKOFF, EVENTS, announce, deliver, sign
from accord.store.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/accord.db")
    yield store
    store.close()


class Receiver:
    """A real server that keeps what it is sent and answers with the next of ``statuses``, then 200."""

    def __init__(self):
        self.got, self.statuses = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?from=accord"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def tell(store, event="label.created", payload=None, now=0.0):
    with store.database.write() as connection:
        announce(connection, event, payload or {"prompt": "p1"}, now)


def test_the_signature_is_the_published_one():
    """The example in the reference libraries of the scheme."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_with_the_schemes_own_library_accepts_what_is_sent(store, receiver):
    hook, secret = webhooks.add_webhook(store, receiver.url, ["label.created"], 0.0)
    assert secret.startswith("whsec_")
    tell(store, payload={"prompt": "p1", "note": "naïve ☃ \x00"}, now=1_700_000_000.25)
    tell(store, "queue.complete")
    assert deliver(store, time.time()) == 1, "only the events asked for"
    path, headers, body = receiver.got[0]
    assert path == "/hook?from=accord"
    assert Oracle(secret).verify(body, headers) == {
        "type": "label.created",
        "timestamp": "2023-11-14T22:13:20.250+00:00",
        "data": {"prompt": "p1", "note": "naïve ☃ \x00"},
    }
    with pytest.raises(WebhookVerificationError):
        Oracle(secret).verify(body.replace(b"p1", b"p2"), headers)
    with pytest.raises(WebhookVerificationError):
        Oracle("whsec_" + "A" * 44).verify(body, headers)
    (sent,) = webhooks.deliveries(store)
    assert (sent.webhook_id, sent.state, sent.attempts, sent.error) == (hook.id, "sent", 1, None)
    assert deliver(store, time.time() + 1e6) == 0, "what was received is not sent again"


def test_an_event_exists_exactly_when_its_transaction_does(store, receiver):
    webhooks.add_webhook(store, receiver.url, [], 0.0)
    with pytest.raises(RuntimeError), store.database.write() as connection:  # noqa: PT012
        announce(connection, "label.created", {}, 0.0)
        raise RuntimeError("the label was not stored after all")
    assert webhooks.deliveries(store) == []
    for event in EVENTS:
        tell(store, event)
    assert {each.event for each in webhooks.deliveries(store)} == set(EVENTS), "no events named means all"


def test_a_failure_is_tried_again_later_with_the_same_id(store, receiver):
    webhooks.add_webhook(store, receiver.url, [], 0.0)
    tell(store)
    receiver.statuses = [500, 302]
    assert deliver(store, 100.0) == 0
    assert deliver(store, 100.0 + BACKOFF[0] - 0.01) == 0, "not before its time"
    assert len(receiver.got) == 1
    (waiting,) = webhooks.deliveries(store, "waiting")
    assert (waiting.attempts, waiting.next_at) == (1, 100.0 + BACKOFF[0])
    assert "500" in waiting.error
    assert deliver(store, 200.0) == 0, "a redirect is not followed, and is no success"
    assert deliver(store, 200.0 + BACKOFF[1]) == 1
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    stamps = [headers["webhook-timestamp"] for _, headers, _ in receiver.got]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert stamps == ["100", "200", "500"], "the time of the attempt, against replays"
    assert {path for path, _, _ in receiver.got} == {"/hook?from=accord"}


def test_it_is_given_up_in_the_end_and_says_so(store):
    webhooks.add_webhook(store, "http://127.0.0.1:1/", [], 0.0)
    tell(store)
    now = 0.0
    for pause in (*BACKOFF, 0.0):
        assert webhooks.deliveries(store)[0].state == "waiting"
        deliver(store, now)
        now += pause
    (failed,) = webhooks.deliveries(store, "failed")
    assert failed.attempts == len(BACKOFF) + 1
    assert "ConnectionRefused" in failed.error


def test_a_delivery_that_was_killed_midway_is_made_again(store, receiver, monkeypatch):
    webhooks.add_webhook(store, receiver.url, [], 0.0)
    tell(store)
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "_post", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            deliver(store, 0.0)
    assert deliver(store, BACKOFF[0]) == 1


def test_a_stopped_webhook_keeps_what_waits(store, receiver):
    hook, _ = webhooks.add_webhook(store, receiver.url, [], 0.0)
    tell(store)
    webhooks.set_active(store, hook.id, False)
    assert deliver(store, 10.0) == 0
    assert not webhooks.webhooks(store)[0].active
    webhooks.set_active(store, hook.id, True)
    assert deliver(store, 10.0) == 1
    with pytest.raises(DataError, match="no webhook"):
        webhooks.set_active(store, "other", True)


def test_processes_that_deliver_at_once_send_each_event_once(store, receiver):
    webhooks.add_webhook(store, receiver.url, [], 0.0)
    for i in range(3 * webhooks.BATCH):
        tell(store, payload={"i": i})
    sent = []
    threads = [threading.Thread(target=lambda: sent.append(deliver(store, 1.0))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [json.loads(body)["data"]["i"] for _, _, body in receiver.got]
    assert sorted(told) == list(range(3 * webhooks.BATCH))
    assert sum(sent) == len(told)


def test_one_that_is_down_holds_up_nobody_and_is_not_asked_for_everything(store, receiver):
    down, _ = webhooks.add_webhook(store, "http://127.0.0.1:1/", [], 0.0)
    webhooks.add_webhook(store, receiver.url, [], 0.0)
    for i in range(4):
        tell(store, payload={"i": i}, now=float(i))
    assert deliver(store, 10.0) == 4
    assert [json.loads(body)["data"]["i"] for _, _, body in receiver.got] == [0, 1, 2, 3], "oldest first"
    tries = {each.payload["i"]: each.attempts for each in webhooks.deliveries(store, "waiting")}
    assert tries == {0: 1, 1: 0, 2: 0, 3: 0}
    assert {each.webhook_id for each in webhooks.deliveries(store, "waiting")} == {down.id}


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host/", "write https://"),
        ("//host", "write https://"),
        ("https:///path", "write https://"),
        ("https://[", "not an address"),
        ("https://host:port/", "not an address"),
        ("https://host/a b", "write https://"),
        ("https://host/\r\nX: y", "write https://"),
        ("https://user:password@host/", "leave them out"),
    ],
)
def test_an_address_that_cannot_be_told_is_refused(store, url, complaint):
    with pytest.raises(DataError, match=complaint):
        webhooks.add_webhook(store, url, [], 0.0)
    assert webhooks.webhooks(store) == []


def test_unknown_events_and_broken_secrets_are_refused(store):
    with pytest.raises(DataError, match=r"'label\.made'.*label\.created"):
        webhooks.add_webhook(store, "https://host/", ["label.made"], 0.0)
    with pytest.raises(DataError, match="no event"):
        tell(store, "label.made")
    with pytest.raises(DataError, match="not base64"):
        sign("whsec_???", "msg_1", 0, "{}")
