"""Pages of other origins: nothing while no origin is set, and then the API for those alone that are listed."""

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp.test_utils import TestClient
from deliveries import KEY, sample
from pytest_aiohttp import AiohttpClient

from notifier.configuration import SettingsError
from vault import api
from vault.app import PREFIXES, make_app
from vault.settings import VaultSettings

Configure = Callable[..., VaultSettings]

PAGE = "https://app.example.com"
OTHER = "http://localhost:3000"
STRANGERS = [
    "https://evil.example", f"{PAGE}.evil.example", "https://evil-app.example.com", f"{PAGE}:444", "http://app.example.com",
    f"{PAGE}/", PAGE.upper(), f"{PAGE}, {OTHER}", "null", "*", "",
]  # fmt: skip
GUARDED = [(method, prefix + path) for prefix in PREFIXES for method, path, _ in api.GUARDED]
SENDER = ("POST", "/agent-vault/composio/webhook")
OPEN = [SENDER, ("GET", "/health"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/nowhere")]


@pytest.fixture
async def shared(configure: Configure, aiohttp_client: AiohttpClient) -> AsyncIterator[TestClient]:
    """A vault that two origins' pages may use."""
    return await aiohttp_client(make_app(configure(cors_origins=f"{PAGE}, {OTHER}")))


def preflight(method: str, origin: str = PAGE) -> dict[str, str]:
    """Return what a browser asks before it sends a page's request with a key."""
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    return {"Origin": origin, **asked}


def access(headers: dict[str, str]) -> dict[str, str]:
    """Return what an answer tells a browser about pages."""
    return {name: value for name, value in headers.items() if name.lower().startswith("access-control-")}


async def ask(vault: TestClient, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Return an answer: its status, what it tells about pages, and its text."""
    async with vault.request(method, path, headers=headers) as response:
        return response.status, access(dict(response.headers)), await response.text()


async def test_without_origins(vault: TestClient) -> None:
    """Unless it is set, a preflight is an unknown request like any other, and no answer speaks of pages."""
    unknown = (404, {}, '{"error":"not found"}')
    for method, path in [*GUARDED, *OPEN]:
        assert unknown == await ask(vault, "OPTIONS", path, preflight(method))
        _, told, _ = await ask(vault, method, path, {"Origin": PAGE, "Authorization": f"Bearer {KEY}"})
        assert {} == told


@pytest.mark.parametrize("origin", [PAGE, OTHER])
async def test_a_listed_page(shared: TestClient, origin: str) -> None:
    """It may ask first, call with a key, and read the answer; no cookie of anybody's goes with it."""
    for method, path in GUARDED:
        status, told, text = await ask(shared, "OPTIONS", path, preflight(method, origin))
        assert (204, "") == (status, text)
        assert {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": method,
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": "600",
        } == told
        for key, expected in (("wrong", {401}), (KEY, {200, 204, 400})):
            async with shared.request(
                method, path, headers={"Origin": origin, "Authorization": f"Bearer {key}"}
            ) as response:
                assert response.status in expected
                assert {"Access-Control-Allow-Origin": origin} == access(dict(response.headers))
                assert "Origin" == response.headers["Vary"]


@pytest.mark.parametrize("origin", STRANGERS)
async def test_any_other_page(shared: TestClient, origin: str) -> None:
    """An origin that is not listed letter by letter is answered as if there were none, and may read nothing."""
    for method, path in GUARDED:
        assert (404, {}, '{"error":"not found"}') == await ask(shared, "OPTIONS", path, preflight(method, origin))
        _, told, _ = await ask(shared, method, path, {"Origin": origin, "Authorization": f"Bearer {KEY}"})
        assert {} == told


async def test_what_is_not_the_apis(shared: TestClient) -> None:
    """The webhook and the probes are no page's, nor is another method; two origins are none."""
    for method, path in OPEN:
        assert (404, {}, '{"error":"not found"}') == await ask(shared, "OPTIONS", path, preflight(method))
        assert {} == (await ask(shared, method, path, {"Origin": PAGE}))[1]
    assert 404 == (await ask(shared, "OPTIONS", "/jobs/next", preflight("GET")))[0]
    assert 404 == (await ask(shared, "OPTIONS", "/jobs/next", {"Origin": PAGE}))[0]
    assert (404, {}, '{"error":"not found"}') == await ask(shared, "GET", "/jobs/next", {"Origin": PAGE})
    twice = [("Origin", PAGE), ("Origin", PAGE), ("Access-Control-Request-Method", "POST")]
    async with shared.options("/jobs/next", headers=twice) as response:
        assert (404, {}) == (response.status, access(dict(response.headers)))
    async with shared.post(SENDER[1], data=sample(), headers={"Origin": PAGE}) as response:
        assert (401, {}) == (response.status, access(dict(response.headers)))


@pytest.mark.parametrize(
    "wrong",
    [
        "*", "null", "app.example.com", f"{PAGE}/", f"{PAGE}/page", PAGE.upper(), f"{PAGE}:443",
        "http://a:80", "https://u:p@a", f"{PAGE},*", "https://", "ftp://a", f"{PAGE} {OTHER}", "https://*.example.com", "https://é.de",
        f"{PAGE}:0",
    ],
)  # fmt: skip
def test_what_is_no_origin(configure: Configure, wrong: str) -> None:
    """What no browser sends letter by letter is refused at start, a star above all; the refusal says what to set."""
    with pytest.raises(SettingsError, match=r"^VAULT_CORS_ORIGINS: .*https://app\.example\.com"):
        configure(cors_origins=wrong)


def test_no_origin_is_none(configure: Configure) -> None:
    """Nothing between the commas is no origin."""
    assert () == configure().cors_origins == configure(cors_origins=" , ").cors_origins
