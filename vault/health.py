"""Whether this vault can take deliveries, looked up in the background so that a probe costs no database work."""

import asyncio

import psycopg
import structlog

from notifier.complaint import Complaint, one_line
from sql.learnings import NoRecorderError, require_recorder
from sql.migrate import SchemaTooOldError, latest
from sql.session import Session

CHECK_S = 2.0

log = structlog.get_logger()


class Health:
    """The latest answer of the database: reachable, with a schema and a login that this program can use."""

    def __init__(self, session: Session) -> None:
        """Look through this session, which nobody else uses: a busy one would look dead."""
        self._session = session
        self._complain = Complaint()
        self._version = 0
        self.ready = False
        self.too_old = False
        self.may_record = True

    @property
    def usable(self) -> bool:
        """Whether the database would take events if it answered: not with an old schema, or a login that may not."""
        return self.may_record and not self.too_old

    async def watch(self) -> None:
        """Look every two seconds; only cancelling ends it."""
        while True:
            await self.look()
            await asyncio.sleep(CHECK_S)

    async def look(self, *, refuse_old_schema: bool = False) -> None:
        """Look once. Raises SchemaTooOldError where that is asked for, at start."""
        try:
            self._found(await require_recorder(self._session))
        except SchemaTooOldError as error:
            if refuse_old_schema:
                raise
            self.too_old = True
            self._unready("schema_too_old", error)
        except NoRecorderError as error:
            self.may_record = False
            self._unready("login_not_allowed", error)
        except psycopg.Error as error:
            self._unready("database_away", error)
        else:
            self.ready, self.too_old, self.may_record = True, False, True
            if self._complain.over():
                log.info("vault_ready")

    def _found(self, version: int) -> None:
        if version > max(self._version, latest()):
            log.info("schema_newer", found=version, known=latest())
        self._version = version

    def _unready(self, event: str, error: Exception) -> None:
        self.ready = False
        self._complain(event, error=one_line(error))
