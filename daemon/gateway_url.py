"""Where the gateway is: a URL that is worth sending the hook token to."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def check_gateway_url(text: str, *, remote: bool) -> str:
    """Return the URL without a final slash; raises ValueError unless it is on this machine or remote is set."""
    url = _split(text.strip())
    if url is None or url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("it is no http or https url with a host: write it like http://127.0.0.1:18789")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("it has a user, a query or a fragment: leave it at scheme, host, port and path")
    if url.path.rstrip("/").endswith(("/hooks", "/wake", "/agent")):
        raise ValueError("it holds the path of a hook: leave out /hooks and what follows")
    if not (remote or _is_loopback(url.hostname)):
        raise ValueError(
            "it is not on this machine, so the hook token would leave it: "
            "write http://127.0.0.1:18789, or set DAEMON_ALLOW_REMOTE_GATEWAY=true"
        )
    return url.geturl().rstrip("/")


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        _ = url.port  # raises where it is no number up to 65535
    except ValueError:
        return None
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
