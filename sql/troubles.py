"""What keeps a connection from being opened: how servers, poolers and networks say it, and what to do.

The words are those of libpq, Postgres and PgBouncer (https://www.pgbouncer.org/faq.html), and of Supabase's pooler as
its source has them (https://github.com/supabase/supavisor, lib/supavisor/errors), in its present and earlier releases.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """One trouble: the words by which it is known (a pattern without case), or its SQLSTATEs; its cause and remedy."""

    words: str
    cause: str
    remedy: str
    sqlstates: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tell a person."""
        return f"{self.cause}: {self.remedy}"


COPY = "copy it again (supabase: Connect, Session pooler)"
FEWER = (
    "a daemon keeps at most 2 and a vault 4, a session pooler allows about 15 to a role: "
    "close others, or raise the pool size (supabase: Database Settings, Connection pooling)"
)
STARTING = Trouble(
    r"starting up|shutting down|recovery mode|recovery state has not|not (?:yet |currently )?accepting connections"
    r"|due to administrator command",
    "the database is starting up, shutting down or closed to connections",
    "wait; if it stays so, look at the server's log (supabase: whether the project is paused, in the dashboard)",
    ("57P01", "57P02", "57P03"),
)
NO_ANSWER = Trouble(
    r"timeout expired|timed out|timeout while waiting",
    "no answer from the database in time",
    "check host and port, that the database runs, and that a firewall or vpn lets this machine through",
)
UNREACHABLE = Trouble(
    r"network is unreachable|no route to host|cannot assign requested address|host is (?:down|unreachable)",
    "there is no way from this machine to the database's host",
    "check the network or vpn, and the host",
)
ONLY_IPV6 = Trouble(
    "",
    "the database's host has only an ipv6 address, and this machine has no ipv6",
    "take the session pooler's connection string, which has ipv4 (supabase: Connect, Session pooler)",
)
BAD_HOST = Trouble("", "the connection string has a host that cannot be", COPY)

# Tried from first to last. Several addresses may have failed, each in its own way: what was said by a server that
# could be reached comes before what was said of the way there.
TROUBLES = (
    STARTING,
    Trouble(
        r"too many (?:clients|connections)|max(?:imum)?[ _]?client|emaxconn|no more connections|connection slots"
        r"|max pools",
        "the database or its pooler has no connection left",
        FEWER,
        ("53300",),
    ),
    Trouble(
        r"query_wait_timeout|unable to check out|failed to check out",
        "the pooler had no connection to the database to give in time",
        f"check that the database runs; {FEWER}",
    ),
    Trouble(
        r"ecircuitbreaker|temporarily blocked",
        "the pooler lets nobody in for some minutes, because too many connections failed",
        "correct user and password; the block ends by itself",
    ),
    Trouble(
        r"enotfound|tenant or user not found|tenant/user .*not found",
        "supabase's pooler knows no such project or user",
        "copy host and user again under Connect, Session pooler (the user is postgres.REF, and each project has a "
        "pooler of its own); a paused project must be restored in the dashboard first",
    ),
    Trouble(
        r"enoidentifier|no tenant identifier|einvaliduserinfo|invalid format for user",
        "supabase's pooler cannot tell which project is meant",
        "the user there is postgres.REF, as shown under Connect, Session pooler",
    ),
    Trouble(r"\(ebanned\)|tenant is banned", "supabase has closed this project", "see its dashboard"),
    Trouble(
        r"eaddrnotallowed|not in tenant allow_list",
        "supabase refuses this machine's address",
        "add it in the project's Database Settings under Network Restrictions",
    ),
    Trouble(
        r"esslrequired|ssl connection is required|ssl required|tls required",
        "the database takes only encrypted connections",
        "leave sslmode=disable out of the connection string",
    ),
    Trouble(
        r"pg_hba\.conf|(?:peer|ident|cert\w*|gssapi) authentication failed",
        "the database lets this user in from here in no way",
        "check user, database and host, leave sslmode=disable out, and see the server's pg_hba.conf",
    ),
    Trouble(r"no password supplied", "the connection string has no password", "put it between the user and the @"),
    Trouble(
        r"server login (?:has been failing|failed)|server_login_retry|cannot connect to server|eauthquery|eauthsecrets"
        r"|failed to connect to database|credentials are invalid",
        "the pooler itself cannot log in to the database",
        "check that the database runs, and user and password; after a change of the password wait some minutes",
    ),
    Trouble(
        r"authentication failed|wrong password|scram|auth failed|no such user|role .* does not exist"
        r"|not permitted to log in",
        "the database refused the login",
        "check user and password (what is not a letter or a digit is percent-encoded: @ is %40, % is %25; "
        "supabase: Database Settings, Reset database password)",
        ("28000", "28P01"),
    ),
    Trouble(
        r"permission denied for database",
        "this user may not connect to that database",
        "grant it connect there, or take the string of the tables' owner",
    ),
    Trouble(
        r"database .* does not exist|no such database",
        "the server has no such database",
        "correct the name at the connection string's end (supabase: it is postgres)",
        ("3D000",),
    ),
    Trouble(
        r"read-only|read only|hot standby",
        "the database is read-only",
        "connect to the primary server (supabase: see whether the disk is full, in the dashboard)",
        ("25006",),
    ),
    Trouble(
        r"does not match host name",
        "the database's certificate is another host's",
        "write the host as its certificate names it, and check that it is your server's",
    ),
    Trouble(
        r"certificate|self.signed",
        "the database's certificate does not prove who it is",
        "name the file of its authority in sslrootcert (supabase: Database Settings, SSL Configuration), or say "
        "sslmode=require, which encrypts and does not check",
    ),
    Trouble(
        r"does not support ssl|ssl was required",
        "the server offers no encryption, and sslmode asks for it",
        "set it up there (ssl = on), or, where the network is your own, leave sslmode out and set "
        "VAULT_ALLOW_PLAINTEXT_DATABASE=true (for the daemon DAEMON_ALLOW_PLAINTEXT_DATABASE)",
    ),
    Trouble(
        r"unsupported startup parameter",
        "the pooler does not take a parameter of the connection string",
        "leave out options and other settings of the session",
    ),
    Trouble(
        r"invalid response to ssl negotiation|expected authentication request|unsupported frontend protocol",
        "what answers at that host and port is no postgres",
        "check both",
    ),
    Trouble(
        r"connections on that socket|permission denied(?! for)",
        "no database can be reached through that unix socket",
        "check the folder in host, and that the database runs and this user may open it",
    ),
    Trouble(r"connection refused", "nothing listens at that host and port", "check both, and that the database runs"),
    NO_ANSWER,
    UNREACHABLE,
    Trouble(
        r"temporary failure in name resolution|try again",
        "no name server answers",
        "check this machine's network",
    ),
    Trouble(
        r"failed to resolve|could not translate|name or service not known|nodename nor servname|no address associated",
        "the connection string's host is not to be found",
        "copy it again (supabase: Connect, Session pooler; db.REF.supabase.co has only ipv6, and a paused project "
        "none: restore it in the dashboard)",
    ),
    Trouble(
        r"closed the connection|connection reset|eof detected|closed unexpectedly|broken pipe|lost synchroni",
        "the connection was cut",
        "try again; if it stays so, check port and sslmode, and what stands between this machine and the database",
    ),
    Trouble(
        r"too many open files", "this process has no file descriptor left", "raise its limit (LimitNOFILE, ulimit -n)"
    ),
    Trouble(
        r"invalid \S+ value",
        "a parameter of the connection string has a value that libpq does not know",
        "correct it, or leave it out",
    ),
    Trouble(
        r"definition of service|service file",
        "the connection string names a service that is not in pg_service.conf",
        "add it there, or write the whole string",
    ),
)


def find(said: str, sqlstate: str | None) -> Trouble | None:
    """Return the first trouble that an error's text in one line, or its SQLSTATE, is about."""
    for trouble in TROUBLES:
        if sqlstate in trouble.sqlstates or re.search(trouble.words, said, re.IGNORECASE):
            return trouble
    return None
