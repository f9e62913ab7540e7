"""The types of public for supabase-js, written in the shape of Supabase's own generator.

    python -m sql.supabase_types < database_url > deploy/supabase/types.ts

The connection string is read from standard input, since a command line shows it to all. It is of a freshly migrated
database: the columns that an adopted install's owner added are not ours.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

TYPESCRIPT = {
    **dict.fromkeys(["int2", "int4", "int8", "float4", "float8", "numeric"], "number"),
    **dict.fromkeys(["json", "jsonb"], "Json"),
    "bool": "boolean",
    "void": "undefined",
}
WIDTH = 80  # of the generator's lines

HEAD = """\
export type Json =
  | string
  | number
  | boolean
  | null
  | { [key: string]: Json | undefined }
  | Json[]

export type Database = {
  public: {
    Tables: {
"""
NONE = "      [_ in never]: never\n"
TAIL = f"    }}\n    Enums: {{\n{NONE}    }}\n    CompositeTypes: {{\n{NONE}    }}\n  }}\n}}\n"

COLUMNS = """
select c.relname, a.attname, t.typname, not a.attnotnull, a.atthasdef
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
where c.relnamespace = 'public'::regnamespace and c.relname in ('jobs', 'agent_learnings')
order by c.relname, a.attname
"""
ARGUMENTS = """
select p.proname, a.name, t.typname, false, a.place > p.pronargs - p.pronargdefaults
from pg_proc p
cross join unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a (name, type, place)
join pg_type t on t.oid = a.type
where p.pronamespace = 'public'::regnamespace and p.proname in ('claim_next_job', 'complete_job')
order by p.proname, a.name
"""
RESULTS = """
select p.proname, t.typname, p.proretset
from pg_proc p
join pg_type t on t.oid = p.prorettype
where p.pronamespace = 'public'::regnamespace and p.proname in ('claim_next_job', 'complete_job')
order by p.proname
"""


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table or an argument of a function; `of` is its name, `type` Postgres's own."""

    of: str
    name: str
    type: str
    nullable: bool
    has_default: bool

    @property
    def typescript(self) -> str:
        """The type as JSON carries it; an array's name begins with an underscore."""
        element = self.type.removeprefix("_")
        return TYPESCRIPT.get(element, "string") + ("[]" if element != self.type else "")


@dataclass(frozen=True, slots=True)
class Result:
    """What a function returns: a type, or the rows of a table."""

    of: str
    type: str
    is_set: bool


def render(columns: Sequence[Field], arguments: Sequence[Field], results: Sequence[Result]) -> str:
    """Write the file; everything comes in the order of its name."""
    tables = "".join(_table(name, _of(columns, name)) for name in dict.fromkeys(field.of for field in columns))
    functions = "".join(_function(one, _of(arguments, one.of), _of(columns, one.type)) for one in results)
    return f"{HEAD}{tables}    }}\n    Views: {{\n{NONE}    }}\n    Functions: {{\n{functions}{TAIL}"


def _of(fields: Iterable[Field], name: str) -> list[Field]:
    return [field for field in fields if field.of == name]


def _table(name: str, columns: Sequence[Field]) -> str:
    row = [_column(one) for one in columns]
    insert = [_column(one, optional=one.nullable or one.has_default) for one in columns]
    update = [_column(one, optional=True) for one in columns]
    kinds = [("Row", row), ("Insert", insert), ("Update", update)]
    return (
        f"      {name}: {{\n"
        + "".join(f"        {kind}: {_block(lines, 8)}\n" for kind, lines in kinds)
        + "        Relationships: []\n      }\n"
    )


def _column(column: Field, *, optional: bool = False) -> str:
    return f"{column.name}{'?' if optional else ''}: {column.typescript}{' | null' if column.nullable else ''}"


def _block(lines: Sequence[str], indent: int) -> str:
    return "{\n" + "".join(f"{' ' * (indent + 2)}{line}\n" for line in lines) + " " * indent + "}"


def _function(result: Result, arguments: Sequence[Field], rows: Sequence[Field]) -> str:
    words = [_column(one, optional=one.has_default) for one in arguments]
    inline = f"        Args: {{ {'; '.join(words)} }}"
    taken = inline if len(inline) <= WIDTH else f"        Args: {_block(words, 8)}"
    returned = _block([_column(one) for one in rows], 8) if rows else TYPESCRIPT.get(result.type, "string")
    options = ['from: "*"', f'to: "{result.type}"', "isOneToOne: false", "isSetofReturn: true"]
    return (
        f"      {result.of}: {{\n{taken}\n        Returns: {returned}{'[]' if result.is_set else ''}\n"
        + (f"        SetofOptions: {_block(options, 8)}\n" if rows else "")
        + "      }\n"
    )


def generate(connection: psycopg.Connection) -> str:
    """Read the catalog of a migrated database and write its types."""
    columns, arguments = (
        [Field(*row) for row in connection.execute(query).fetchall()] for query in (COLUMNS, ARGUMENTS)
    )
    return render(columns, arguments, [Result(*row) for row in connection.execute(RESULTS).fetchall()])


def main() -> None:
    """Write the types of the database whose string stands on standard input to standard output."""
    with psycopg.connect(sys.stdin.readline().strip()) as connection:
        sys.stdout.write(generate(connection))


if __name__ == "__main__":
    main()
