"""The typed keys of what the application carries."""

from collections.abc import Callable

from aiohttp import web

from sql.session import Session
from vault.circuit import Circuit
from vault.failures import Failures
from vault.guest import Direct
from vault.health import Health
from vault.inbox import Inbox
from vault.settings import VaultSettings
from vault.spooler import Spooler

SETTINGS = web.AppKey("SETTINGS", VaultSettings)
CLOCK = web.AppKey[Callable[[], float]]("CLOCK")  # unix seconds
INBOX = web.AppKey("INBOX", Inbox)
DIRECT = web.AppKey[Direct]("DIRECT")  # what answers webhooks, by method and path
ROUTES = web.AppKey[frozenset[tuple[str, str]]]("ROUTES")  # method and path of each
CIRCUIT = web.AppKey("CIRCUIT", Circuit)
SPOOLER = web.AppKey[Spooler | None]("SPOOLER")
HEALTH = web.AppKey("HEALTH", Health)
FAILURES = web.AppKey("FAILURES", Failures)
JOBS = web.AppKey("JOBS", Session)
LEARNINGS = web.AppKey("LEARNINGS", Session)
