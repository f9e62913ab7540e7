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
    probed,
    remedy,
    retry_after_s,
    unanswered,
    verdict_of,
)

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
        (Answer(Verdict.UNAVAILABLE, detail="TimeoutError"), TimeoutError()),
        (Answer(Verdict.UNAVAILABLE, detail="OSError: no [token]"), OSError(f"no {TOKEN}")),
        (Answer(Verdict.MISCONFIGURED, detail="InvalidURL: nowhere"), aiohttp.InvalidURL(URL("nowhere"))),
    ],
)
def test_a_transports_error_is_named(expected: Answer, error: Exception) -> None:
    """The error's name comes first; a malformed URL is one that no retry heals."""
    assert expected == unanswered(error, token=TOKEN)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (Verdict.ACCEPTED, Answer(Verdict.REJECTED, 400, detail="text required")),
        (Verdict.MISCONFIGURED, Answer(Verdict.REJECTED, 400, detail="Bad Request")),
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
        (f"unexpected answer from {URL_} (302): set GATEWAY_HTTP_URL to the OpenClaw gateway itself", 302),
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
        ("(405)", Answer(Verdict.MISCONFIGURED, 405)),
        ("(429)", Answer(Verdict.MISCONFIGURED, 429)),
        ("GATEWAY_HTTP_URL", Answer(Verdict.UNAVAILABLE, detail="{braces} are foreign")),
    ],
)
def test_every_trouble_has_a_remedy(expected: str, answer: Answer) -> None:
    """Each names the gateway's address and a setting."""
    line = remedy(answer, URL_, "/hooks")
    assert (expected in line, URL_ in line, ": " in line) == (True, True, True)
