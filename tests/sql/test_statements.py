"""No statement of ours is built from input: each is a literal in Python, and `migrate` quotes the names there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("vault", "daemon", "notifier", "sql")
RUNS = {
    "execute": 0,
    "executemany": 0,
    "executescript": 0,
    "fetch": 0,
    "_documents": 1,
    "_change": 1,
}  # and which argument is it
QUOTED = {"sql.Identifier", "sql.Literal"}

# What is no literal where it is run, and why it holds nothing of anybody's input all the same.
REASONS = {
    ("sql/line.py", "query.encode()"): "hands on what fetch is called with, and each such call is looked at here",
    ("sql/session.py", "query"): "the same",
    ("sql/learnings.py", "query"): "the same, of _documents",
    ("sql/migrate.py", "migration.text.encode()"): "a file of ours",
    ("sql/migrate.py", "privileges().encode()"): "files of ours",
    ("sql/migrate.py", "routines().encode()"): "files of ours",
    ("sql/supabase_types.py", "query"): "one of two constants",
    ("vault/spool_file.py", "f'pragma {pragma}'"): "constants of the module",
    ("vault/spool_file.py", "f'select {COLUMNS}, refused from delivery limit 0'"): "a constant of the module",
    (
        "vault/spool_file.py",
        "f'pragma max_page_count = {max(1, max_bytes // PAGE_BYTES)}'",
    ): "a number",
    ("vault/spool.py", "query"): "constants of the module",
    ("vault/spool.py", "statement"): "the same as above, of _change",
    ("vault/spool.py", "_INSERT"): "constants of the module",
    ("vault/spool.py", "_NEXT"): "constants of the module",
}
UNQUOTED = {
    "revoke all on function %s from %s": "a function by its oid, roles by quote_ident",
    "revoke all on public.jobs, public.agent_learnings from %s": "roles, likewise",
    "revoke all on all tables in schema agent_vault from %s": "roles, likewise",
    "revoke all on schema agent_vault from %s": "roles, likewise",
    "drop policy %I on %s": "a table by its oid",
    "create policy agent_vault_service on %s to service_role using (true) with check (true)": "a table by its oid",
    "revoke all on function %s from %I": "a function by its oid",
    "grant execute on function %s to anon": "a function by its oid",
    "grant execute on function %s to service_role": "a function by its oid",
    "grant execute on function %s to %I": "a function by its oid",
}


class Source:
    """A module of ours, and what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        self.values.setdefault(target.id, []).append(node.value)

    def statements(self) -> Iterator[ast.expr]:
        """Return what every call runs, except what is no database's."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in RUNS and len(node.args) > RUNS[called]:
                    yield node.args[RUNS[called]]

    def is_fixed(self, node: ast.expr) -> bool:
        """Tell whether this is a literal, a name for literals alone, or psycopg's composition of one."""
        match node:
            case ast.Name():
                found = self.values.get(node.id, [])
                return bool(found) and all(map(self.is_fixed, found))
            case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, op=ast.Add(), right=other):
                return self.is_fixed(one) and self.is_fixed(other)
            case ast.Call(func=ast.Attribute(value=inner, attr="format")):
                return self.is_composed(inner) and not node.keywords and all(map(self.is_quoted, node.args))
            case ast.Call(func=ast.Attribute(value=inner, attr="as_string")):
                return self.is_fixed(inner)
        return (isinstance(node, ast.Constant) and isinstance(node.value, str)) or self.is_composed(node)

    def is_composed(self, node: ast.expr) -> bool:
        """Tell whether this is psycopg's own text, of a literal."""
        if isinstance(node, ast.Name):
            found = self.values.get(node.id, [])
            return bool(found) and all(map(self.is_composed, found))
        return isinstance(node, ast.Call) and ast.unparse(node.func) == "sql.SQL" and self.is_fixed(node.args[0])

    def is_quoted(self, node: ast.expr) -> bool:
        """Tell whether psycopg quotes it."""
        if isinstance(node, ast.Name):
            found = self.values.get(node.id, [])
            return bool(found) and all(map(self.is_quoted, found))
        return isinstance(node, ast.Call) and ast.unparse(node.func) in QUOTED


def sources() -> Iterator[Source]:
    """Return every module of the product."""
    for package in PACKAGES:
        yield from map(Source, sorted((ROOT / package).rglob("*.py")))


def test_every_statement_in_python_is_fixed() -> None:
    """Each is a literal, psycopg's quoting of names in one, or stands here with the reason; no reason is left over."""
    others = {(one.name, ast.unparse(node)) for one in sources() for node in one.statements() if not one.is_fixed(node)}
    assert REASONS.keys() == others


def test_what_is_no_literal_is_seen() -> None:
    """The test above would see a statement that is put together in any of the usual ways."""
    for text in ('f"select {x}"', '"select " + x', '"select %s" % x', '"select {}".format(x)', "x", "sql.SQL(x)",
                 'sql.SQL("select {}").format(sql.SQL(x))', 'sql.SQL("{}").format(x)', '" ".join(x)'):  # fmt: skip
        assert not Source(Path(__file__)).is_fixed(ast.parse(text, mode="eval").body), text


def dynamic(path: Path) -> list[str]:
    """Return what stands behind every `execute` of a text, in a file of SQL; that of `grant execute on` is none."""
    text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
    return re.findall(
        r"(?:^|;|\b(?:in|query|for|then|else|loop|begin))\s*\bexecute\s+(?!function\b|procedure\b)([^;]*)",
        text,
        re.MULTILINE,
    )


def test_migrate_quotes_what_it_makes() -> None:
    """What `migrate` makes of names that are there is quoted, or stands here with the reason."""
    files = [*(ROOT / "sql").glob("*.sql"), *(ROOT / "sql" / "migrations").glob("*.sql")]
    seen = set()
    for statement in (one for path in files for one in dynamic(path)):
        found = re.match(r"format\(\s*'([^']*)'\s*[,)]", statement)
        assert found, statement
        if "%s" in found[1]:
            seen.add(found[1])
    assert UNQUOTED.keys() == seen
