"""What an answer means: status, Retry-After, foreign text and remedies."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest
from yarl import URL

from daemon.answers import (
    Answer,
    Verdict,
    answered,
    excerpt,
    held_back,
    probed,
    retry_after_s,
    unanswered,
    uptime_s,
    verdict_of,
)
from daemon.remedies import remedy

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
TOKEN = "hook-token-of-this-test"
URL_ = "http://127.0.0.1:18789"


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.ACCEPTED, [200, 202]),
        (Verdict.REJECTED, [400, 413, 422]),
        (Verdict.MISCONFIGURED, [301, 302, 304, 307, 308, 401, 403, 404, 405, 407, 410, 429]),
        (Verdict.UNAVAILABLE, [408, 409, 425, 502, 503, 504]),
        (Verdict.FAILED, [500, 501, 505, 507, 599, 406, 418, 451, 600]),
    ],
)
def test_every_status_has_its_verdict(verdict: Verdict, statuses: list[int]) -> None:
    """The rows of the gateway's table, and the statuses that it does not name."""
    assert dict.fromkeys(statuses, verdict) == {status: verdict_of(status) for status in statuses}


@pytest.mark.parametrize(
    ("expected", "header"),
    [
        (None, None),
        (None, ""),
        (None, "soon"),
        (None, "-5"),
        (None, "1.5"),
        (None, "nan"),
        (None, "²"),
        (0.0, "0"),
        (60.0, " 60 "),
        (3600.0, "86400"),
        (3600.0, "9" * 8000),
        (30.0, "Mon, 04 May 2026 12:00:30 GMT"),
        (30.0, "Mon, 04 May 2026 12:00:30 -0000"),
        (30.0, "Mon May  4 12:00:30 2026"),
        (0.0, "Mon, 04 May 2026 11:00:00 GMT"),
        (3600.0, "Tue, 05 May 2099 12:00:00 GMT"),
        (0.0, "Mon, 01 Jan 0001 00:00:00 +2359"),
        (None, "Mon, 04 May 2026 12:00:30 +99999999999"),
        (None, "Mon, 99 May 2026 12:00:30 GMT"),
    ],
)
def test_retry_after_is_read_and_bounded(expected: float | None, header: str | None) -> None:
    """Seconds and dates give 0 to 3600 seconds, anything else nothing."""
    assert expected == retry_after_s(header, NOW)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("Unauthorized", "Unauthorized\r\n"),
        ("a b c", " a\x00\x1b b\n\u202e\ud800c "),
        ("x" * 300, "x" * 5000),
        ("bad token [token] here", f"bad token {TOKEN} here"),
        ("y" * 290 + "[token]", "y" * 290 + TOKEN),
    ],
)
def test_an_excerpt_is_one_short_printable_line_without_the_token(expected: str, text: str) -> None:
    """Control characters, line ends, lone surrogates and the token never get out."""
    assert expected == excerpt(text, TOKEN)


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (Verdict.REJECTED, "text required"),
        (Verdict.REJECTED, "Message required"),
        (Verdict.REJECTED, "payload too large"),
        (Verdict.REJECTED, "Unexpected token '<', \"<html>\" is not valid JSON"),
        (Verdict.ROUTE_REFUSED, 'unknown agentId "text required"'),
        (Verdict.ROUTE_REFUSED, 'unknown agentId "json"'),
        (Verdict.ROUTE_REFUSED, "agentId is not allowed by hooks.allowedAgentIds"),
        (Verdict.ROUTE_REFUSED, "sessionKey is disabled for externally supplied hook payload values; set hooks."),
        (Verdict.ROUTE_REFUSED, "sessionKey must start with one of: hook:"),
        (Verdict.ROUTE_REFUSED, "sessionKey requires mode=now"),
        (Verdict.ROUTE_REFUSED, "channel must be last|telegram"),
        (Verdict.ROUTE_REFUSED, "model required"),
        (Verdict.REJECTED, "not this one"),
        (Verdict.REJECTED, ""),
    ],
)
def test_a_400_that_speaks_of_agent_or_session_is_the_routes_fault(expected: Verdict, error: str) -> None:
    """It would refuse each event of the route, and none of them may be lost for it; any other is this payload's."""
    answer = answered(400, json.dumps({"ok": False, "error": error}).encode(), None, token=TOKEN, now=NOW)
    assert expected is answer.verdict
    if expected is Verdict.ROUTE_REFUSED:
        line = remedy(answer, URL_, "/hooks")
        assert line.startswith(f"route refused by {URL_} (400, {answer.detail}): correct [[routes]] in the daemon's")


RUN = {"ok": True, "runId": "run-1"}


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (Answer(Verdict.ACCEPTED, 200, run_id="run-1"), RUN),
        (Answer(Verdict.ACCEPTED, 200, run_id="run-1", completion="ok"), {**RUN, "completion": {"status": "ok"}}),
        (
            Answer(Verdict.FAILED, 200, "the agent's run ended with error", 310, run_id="run-1", completion="error"),
            {**RUN, "completion": {"status": "error"}},
        ),
        (
            Answer(Verdict.FAILED, 200, "the agent's run ended with a [token]", 310, completion="a [token]"),
            {"ok": True, "runId": 7, "completion": {"status": f"a\n{TOKEN}"}},
        ),
        (
            Answer(Verdict.FAILED, 200, "the agent's run ended with no status", 310, completion="no status"),
            {"ok": True, "completion": {}},
        ),
        (Answer(Verdict.ACCEPTED, 200), {"ok": True, "completion": "ok"}),
    ],
)
def test_a_run_is_delivery_only_where_it_ended_well(expected: Answer, body: object) -> None:
    """A 200 may stand for an error; the gateway gives that one again for 300 s, so a retry comes after them."""
    for status in (200, 202):
        answer = answered(status, json.dumps(body).encode(), None, token=TOKEN, now=NOW)
        assert replace(expected, status=status) == answer


def test_a_longer_retry_after_of_a_failed_run_counts() -> None:
    """310 s is the least."""
    body = json.dumps({**RUN, "completion": {"status": "error"}}).encode()
    assert 900 == answered(200, body, "900", token=TOKEN, now=NOW).retry_after_s


@pytest.mark.parametrize(("expected", "header"), [(15, None), (15, "1"), (60, "60")])
def test_a_run_that_could_not_begin_is_postponed(expected: float, header: str | None) -> None:
    """The gateway is well and busy: no reason to pause other deliveries."""
    error = "hook agent run did not start before admission timeout"
    answer = answered(
        503, json.dumps({"ok": False, "error": error, "runId": "r"}).encode(), header, token=TOKEN, now=NOW
    )
    assert Answer(Verdict.POSTPONED, 503, error, expected, run_id="r") == answer


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (Answer(Verdict.FAILED, detail="no completion within 630 s", may_be_taken=True), TimeoutError()),
        (Answer(Verdict.FAILED, detail="no completion within 630 s", may_be_taken=True), aiohttp.SocketTimeoutError()),
        (Answer(Verdict.UNAVAILABLE, detail="ConnectionTimeoutError"), aiohttp.ConnectionTimeoutError()),
        (
            Answer(Verdict.UNAVAILABLE, detail="ServerDisconnectedError", may_be_taken=True),
            aiohttp.ServerDisconnectedError(""),
        ),
    ],
)
def test_only_a_run_that_was_begun_can_be_late(expected: Answer, error: Exception) -> None:
    """Before the connection there is nothing to wait for, and one that breaks tells nothing of the run."""
    assert expected == unanswered(error, token=TOKEN, awaited_s=630)


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (691.113, b'{"ready":true,"uptimeMs":691113}'),
        (0, b'{"ready":false,"uptimeMs":0}'),
        (None, b'{"ready":true}'),
        (None, b'{"uptimeMs":true}'),
        (None, b'{"uptimeMs":-1}'),
        (None, b'{"uptimeMs":"9"}'),
        (None, b'{"uptimeMs":NaN}'),
        (None, b'{"uptimeMs":Infinity}'),
        (None, b'{"uptimeMs":1' + b"0" * 400 + b"}"),
        (None, b"Not Found"),
        (None, b"\xff"),
    ],
)
def test_the_age_of_the_gateways_process(expected: float | None, body: bytes) -> None:
    """A number of milliseconds, ready or not; anything else tells nothing."""
    assert expected == uptime_s(body)


def test_a_call_that_we_gave_up() -> None:
    """It says so, and waits for nothing."""
    expected = Answer(Verdict.POSTPONED, detail="the daemon stops", posts=0)
    assert expected == held_back("the daemon stops")


def test_an_excerpt_without_a_token_is_left_whole() -> None:
    """An empty token must not be found between all letters."""
    assert excerpt("no token", "") == "no token"


@pytest.mark.parametrize(
    ("detail", "body"),
    [
        ("text required", b'{"ok":false,"error":"text required"}'),
        ('{"error":{"code":1}}', b'{"error":{"code":1}}'),
        ("suspending or restarting", b'{"error":{"message":"suspending or restarting","code":"x"}}'),
        ('{"error":""}', b'{"error":""}'),
        ("Bad Request", b"Bad Request"),
        ("[" * 300, b"[" * 65536),
        ("\N{REPLACEMENT CHARACTER}" * 2, b"\xff\xfe"),
        ("", b""),
    ],
)
def test_the_detail_is_the_gateways_error_text(detail: str, body: bytes) -> None:
    """The error of a JSON answer, else the text itself; deep nesting and bytes that are no text are survived."""
    assert detail == answered(400, body, None, token=TOKEN, now=NOW).detail


@pytest.mark.parametrize("body", [b"", b"OK", b'["queued"]', b'{"ok": false}', b'{"ok": 1}'])
def test_a_200_that_is_not_the_gateways_own_is_not_delivery(body: bytes) -> None:
    """A wrong server that says 200 to everything would swallow every event: deliveries pause instead."""
    answer = answered(200, body, None, token=TOKEN, now=NOW)
    assert Verdict.MISCONFIGURED is answer.verdict
    assert "unexpected answer from http://g (200)" in remedy(answer, "http://g", "/hooks")
    assert Verdict.MISCONFIGURED is probed(replace(answer, verdict=Verdict.ACCEPTED)).verdict


@pytest.mark.parametrize(
    ("outcome", "body"),
    [
        ("queued", {"ok": True, "mode": "now", "eventOutcome": "queued"}),
        ("coalesced", {"ok": True, "mode": "now", "eventOutcome": "coalesced"}),
        (None, {"ok": True, "eventOutcome": 7}),
    ],
)
def test_an_accepted_answer_tells_what_became_of_the_event(outcome: str | None, body: object) -> None:
    """The event's outcome is kept, and a success has no detail."""
    expected = Answer(Verdict.ACCEPTED, 200, event_outcome=outcome)
    assert expected == answered(200, json.dumps(body).encode(), None, token=TOKEN, now=NOW)


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (Answer(Verdict.UNAVAILABLE, detail="TimeoutError", may_be_taken=True), TimeoutError()),
        (Answer(Verdict.UNAVAILABLE, detail="OSError: no [token]", may_be_taken=True), OSError(f"no {TOKEN}")),
        (Answer(Verdict.UNAVAILABLE, detail="ConnectionTimeoutError"), aiohttp.ConnectionTimeoutError()),
        (Answer(Verdict.MISCONFIGURED, detail="InvalidURL: nowhere"), aiohttp.InvalidURL(URL("nowhere"))),
    ],
)
def test_a_transports_error_is_named(expected: Answer, error: Exception) -> None:
    """The error's name comes first; a malformed URL is one that no retry heals, and nothing was sent to it."""
    assert expected == unanswered(error, token=TOKEN)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (Verdict.ACCEPTED, Answer(Verdict.REJECTED, 400, detail="text required")),
        (Verdict.MISCONFIGURED, Answer(Verdict.REJECTED, 400, detail="Bad Request")),
        (Verdict.MISCONFIGURED, Answer(Verdict.ROUTE_REFUSED, 400, detail="unknown agentId")),
        (Verdict.MISCONFIGURED, Answer(Verdict.REJECTED, 413, detail="text required")),
        (Verdict.MISCONFIGURED, Answer(Verdict.MISCONFIGURED, 401)),
        (Verdict.UNAVAILABLE, Answer(Verdict.UNAVAILABLE, 503)),
    ],
)
def test_only_text_required_proves_the_gateway(expected: Verdict, answer: Answer) -> None:
    """Another 400 comes from something that is not the gateway's hook."""
    assert expected is probed(answer).verdict


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (f"hooks token refused by {URL_} (401): set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json", 401),
        (
            (
                f"no hook at {URL_}/hooks (404): set hooks.enabled to true and hooks.path to /hooks "
                "in openclaw.json, or set GATEWAY_HTTP_URL to the gateway"
            ),
            404,
        ),
        (
            (
                f"unexpected answer from {URL_} (302): set GATEWAY_HTTP_URL to the OpenClaw gateway itself, "
                "or look into its log"
            ),
            302,
        ),
    ],
)
def test_a_remedy_names_the_thing_and_what_to_change(expected: str, status: int) -> None:
    """A person can act on the line alone."""
    assert expected == remedy(Answer(verdict_of(status), status), URL_, "/hooks")


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("(OSError)", Answer(Verdict.UNAVAILABLE, detail="OSError")),
        ("(403)", Answer(Verdict.MISCONFIGURED, 403)),
        ("the gateway runs and hangs", unanswered(TimeoutError(), token=TOKEN)),
        ("start the OpenClaw gateway", unanswered(aiohttp.ConnectionTimeoutError(), token=TOKEN)),
        ("(405)", Answer(Verdict.MISCONFIGURED, 405)),
        ("(429)", Answer(Verdict.MISCONFIGURED, 429)),
        ("GATEWAY_HTTP_URL", Answer(Verdict.UNAVAILABLE, detail="{braces} are foreign")),
    ],
)
def test_every_trouble_has_a_remedy(expected: str, answer: Answer) -> None:
    """Each names the gateway's address and a setting."""
    line = remedy(answer, URL_, "/hooks")
    assert (expected in line, URL_ in line, ": " in line) == (True, True, True)
