"""What a person changes to make deliveries flow again: a line for each trouble with the gateway."""

from daemon.answers import Answer, Verdict

_HOOKS_OFF = (
    "no hook at {url}{path} ({status}): set hooks.enabled to true and hooks.path to {path} in openclaw.json, "
    "or set GATEWAY_HTTP_URL to the gateway"
)
_REMEDIES = {
    None: "no answer from {url} ({detail}): start the OpenClaw gateway, or set GATEWAY_HTTP_URL to where it listens",
    401: "hooks token refused by {url} (401): set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json",
    403: "request refused by {url} (403): set GATEWAY_HTTP_URL to the gateway itself, "
    "not to a proxy that adds X-Forwarded-* headers",
    404: _HOOKS_OFF,
    405: _HOOKS_OFF,
    429: "too many refused hooks tokens at {url} (429): "
    "set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json, in every client of this gateway",
}
# it took the connection and the request
_HANGS = (
    "no answer from {url} in time: the gateway runs and hangs, or has too much to do; look into its log, "
    "or start it anew (openclaw gateway restart)"
)
_ROUTE = (
    "route refused by {url} ({status}, {detail}): correct [[routes]] in the daemon's TOML file, or openclaw.json; "
    "agent-daemon routes TYPE shows what is sent"
)
_UNEXPECTED = (
    "unexpected answer from {url} ({status}): set GATEWAY_HTTP_URL to the OpenClaw gateway itself, or look into its log"
)


def remedy(answer: Answer, url: str, hooks_path: str) -> str:
    """Say in one line what a person changes to make deliveries flow again."""
    template = _REMEDIES.get(answer.status, _UNEXPECTED)
    if answer.verdict is Verdict.ROUTE_REFUSED:
        template = _ROUTE
    elif answer.status is None and answer.detail == TimeoutError.__name__:
        template = _HANGS
    return template.format(url=url, path=hooks_path, status=answer.status, detail=answer.detail)
