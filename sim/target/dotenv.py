"""The grammar of `.env` files as Laravel reads them (vlucas/phpdotenv 5): quotes, comments, escapes, `${NAME}`.

Other readers of such files differ where it hurts: for phpdotenv an unquoted `#` begins a comment without a blank before it,
nothing expands within single quotes, an unknown `${NAME}` stays as it is written, text after a closing quote is an error, and a
quote that is never closed silently loses all that follows, also in a comment.
Source: `Dotenv\\Parser\\{Lines,Lexer,EntryParser}` and `Dotenv\\Loader\\Resolver` of version 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

NAME = re.compile(r"[a-zA-Z0-9_.]+")
EXPORT = re.compile(r"export[ \t\n\r\f\v](?=..)")
TOKEN = re.compile(r"[\r\n]+|[^\S\r\n]+|\\|'|\"|#|\$|[^\s\\'\"#$]+", re.ASCII)
VARIABLE = re.compile(r"\$\{([a-zA-Z0-9_.]+)\}")
UNESCAPED_QUOTE = re.compile(r'(?=[^\\]")')
BLANKS, SPACES = " \t\n\r\0\v", " \t\n\r\f\v"
"""What PHP's `trim` takes off, and what its `ctype_space` and `\\s` know: bytes, not Unicode's blanks."""
ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class MalformedDotenv(ValueError):
    """What phpdotenv refuses. The text begins with the line's number."""


class _Entry(NamedTuple):
    number: int
    text: str


def parse(text: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name -> value. *environment* is known to `${NAME}` and wins over the file, whose own later lines win over earlier ones.
    A name without `=` is taken back. Raises `MalformedDotenv`."""
    outside = dict(environment or {})
    known, found = dict(outside), dict[str, str]()
    for entry in _entries(text)[0]:
        name, raw = _split(entry)
        if raw is None:
            found.pop(name, None)
            if name not in outside:
                known.pop(name, None)
            continue
        value = _value(entry, raw, known.get)
        found[name] = value
        if name not in outside:
            known[name] = value
    return found


def lost(text: str) -> tuple[int, str] | None:
    """(number of the line, text from there on) where a quote is opened and never closed: phpdotenv leaves that out, silently."""
    left = _entries(text)[1]
    return (left.number, left.text) if left else None


def _entries(text: str) -> tuple[list[_Entry], _Entry | None]:
    """Lines that hold something, and what is lost at the end; a value in double quotes may go over several lines."""
    found, waiting, began = list[_Entry](), list[str](), 0
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), start=1):
        opens = '="' in line and not _closes(line, opened_here=True)
        if waiting or opens:
            began = began if waiting else number
            waiting.append(line)
            if not _closes(line, opened_here=opens):
                continue
            line, waiting = "\n".join(waiting), []
        else:
            began = number
        if (shown := line.strip(BLANKS)) and not shown.startswith("#"):
            found.append(_Entry(began, line))
    return found, _Entry(began, "\n".join(waiting)) if waiting else None


def _closes(line: str, opened_here: bool) -> bool:
    quotes = len(UNESCAPED_QUOTE.findall(line.replace("\\\\", "")))
    return line == '"' or quotes > (1 if opened_here else 0)


def _split(entry: _Entry) -> tuple[str, str | None]:
    """(name, text of the value or None where there is no `=`)."""
    name, equals, raw = entry.text.partition("=")
    if equals:
        name, raw = name.strip(BLANKS), raw.strip(BLANKS)
    if not name:
        raise MalformedDotenv(f"{entry.number}: an unexpected equals at [{entry.text.strip()}]")
    if EXPORT.match(name):
        name = name.removeprefix("export").lstrip(BLANKS)
    if len(name) > 2 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1]
    if not NAME.fullmatch(name):
        raise MalformedDotenv(f"{entry.number}: an invalid name at [{name}]")
    return name, raw if equals else None


def _value(entry: _Entry, raw: str, look_up: Callable[[str], str | None]) -> str:
    """The value: a machine of six states over the tokens, as phpdotenv's, then variables from right to left."""
    written, variables, state = "", [], "initial"

    def refuse(why: str) -> MalformedDotenv:
        # Not the whole line: it may be a secret's.
        return MalformedDotenv(f"{entry.number}: {why} in the value of {_split(entry)[0]}")

    for token in TOKEN.findall(raw):
        at = len(written)
        if state == "escaped":
            if token in ('"', "\\", "$"):
                written += token
            elif token[0] in ESCAPES:
                written += ESCAPES[token[0]] + token[1:]
            else:
                raise refuse("an unexpected escape sequence")
            state = '"'
        elif state in ("'", '"'):
            if token == state:
                state = "after"
            elif token == "\\" and state == '"':
                state = "escaped"
            else:
                written += token
                if token == "$" and state == '"':
                    variables.append(at)
        elif state == "comment":
            pass
        elif token == "#":
            state = "comment"
        elif state == "after":
            if token[0] not in SPACES:
                raise refuse("unexpected text after a blank or a closing quote")
        elif state == "initial" and token in ("'", '"'):
            state = token
        elif state == "bare" and token[0] in SPACES:
            state = "after"
        else:
            written += token
            state = "bare"
            if token == "$":
                variables.append(at)
    if state in ("'", '"', "escaped"):
        raise refuse("a missing closing quote")
    for at in reversed(variables):
        match = VARIABLE.match(written, at)
        value = look_up(match[1]) if match else None
        if match and value is not None:
            written = written[:at] + value + written[match.end() :]
    return written
