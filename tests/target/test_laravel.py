"""An application's own .env, by Laravel's names, rules and defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.target import Address, Target, in_names_of, laravel_settings

APP = "REVERB_APP_ID=7\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n"
PUSHER = APP.replace("REVERB", "PUSHER")
HERE = "REVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n"


def read(text: str, tmp_path: Path, environment: dict[str, str] | None = None) -> Target:
    path = tmp_path / ".env"
    path.write_text(text)
    return Target.from_environment(environment or {}, path)


def said(target: Target, problems: bool = False) -> str:
    return "\n".join(f"{note.text} -> {note.advice}" for note in target.notes if note.problem or not problems)


@pytest.mark.parametrize(
    ("text", "published", "pages"),
    [
        ("REVERB_HOST=ws.example\n", "https://ws.example:443", "https://ws.example:443"),
        ("REVERB_HOST=ws.example\nREVERB_SCHEME=\nREVERB_PORT=null\n", "https://ws.example:443", "https://ws.example:443"),
        ("REVERB_HOST=ws.example\nREVERB_SCHEME=http\n", "http://ws.example:443", "http://ws.example:443"),
        (HERE, "http://localhost:8080", "http://localhost:8080"),
        (HERE + "REVERB_SERVER_PORT=9\nREVERB_SERVER_HOST=0.0.0.0\n", "http://localhost:8080", "http://localhost:8080"),
        (HERE + "REVERB_SERVER_PATH=/reverb\n", "http://localhost:8080/reverb", "http://localhost:8080/reverb"),
        (HERE + 'VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"\n', "http://localhost:8080", "http://localhost:8080"),
        (
            HERE + "VITE_REVERB_HOST=ws.example\nVITE_REVERB_PORT=443\nVITE_REVERB_SCHEME=https\n",
            "http://localhost:8080",
            "https://ws.example:443",
        ),
        (HERE + "VITE_REVERB_HOST=ws.example\n", "http://localhost:8080", "https://ws.example:443"),
        (HERE + "VITE_REVERB_HOST=${UNKNOWN}\nVITE_REVERB_PORT=${UNKNOWN}\n", *["http://localhost:8080"] * 2),
        (HERE + "MIX_REVERB_HOST=ws.example\n", "http://localhost:8080", "https://ws.example:443"),
        (HERE + "MIX_REVERB_HOST=old.example\nVITE_REVERB_HOST=ws.example\n", "http://localhost:8080", "https://ws.example:443"),
        (HERE + "VITE_REVERB_SCHEME=http\nVITE_REVERB_HOST=ws.example\n", "http://localhost:8080", "http://ws.example:80"),
        (HERE + 'VITE_REVERB_HOST="${REVERB_HOST}"\nVITE_REVERB_PORT="${REVERB_PORT}"\n', *["http://localhost:8080"] * 2),
    ],
)
def test_where_is_published_and_where_pages_connect(text: str, published: str, pages: str, tmp_path: Path) -> None:
    if text.endswith('{REVERB_PORT}"\n'):
        text += 'VITE_REVERB_SCHEME="${REVERB_SCHEME}"\n'
    target = read(APP + text, tmp_path)
    assert (target.publishing.url, target.subscribing.url) == (published, pages)


def test_advice_has_the_names_of_the_settings_in_force(tmp_path: Path) -> None:
    text = "compare REVERB_APP_KEY and VITE_REVERB_HOST with VITE_REVERB_*; is BROADCAST_CONNECTION=reverb? (REVERB_SERVER_PATH)"
    assert in_names_of(read(APP, tmp_path).family, text) == text
    pusher = text.replace("REVERB_", "PUSHER_").replace("PUSHER_SERVER", "REVERB_SERVER").replace("=reverb", "=pusher")
    assert in_names_of(read(PUSHER, tmp_path).family, text) == pusher
    assert read(PUSHER, tmp_path).public()["family"] == "PUSHER"
    assert "family" not in read(APP, tmp_path).public()


def test_soketi_and_pusher_by_their_names(tmp_path: Path) -> None:
    soketi = read(PUSHER + "PUSHER_HOST=127.0.0.1\nPUSHER_PORT=6001\nPUSHER_SCHEME=http\n", tmp_path)
    assert (soketi.publishing.url, soketi.app_id, soketi.secret) == ("http://127.0.0.1:6001", "7", "s")
    hosted = read(PUSHER + "PUSHER_APP_CLUSTER=eu\n", tmp_path)
    assert (hosted.host, hosted.browser) == ("api-eu.pusher.com", Address("ws-eu.pusher.com", 443, "https"))
    both = PUSHER.replace("7", "8") + APP + HERE
    assert read(both, tmp_path).app_id == "7"
    assert read(both + "BROADCAST_CONNECTION=pusher\n", tmp_path).app_id == "8"


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("BROADCAST_CONNECTION=log", "BROADCAST_CONNECTION=log: the application broadcasts nothing"),
        ("BROADCAST_CONNECTION=null", "BROADCAST_CONNECTION=null: the application broadcasts nothing"),
        ("BROADCAST_DRIVER=log", "BROADCAST_DRIVER=log"),
        ("BROADCAST_CONNECTION=redis", "events go there"),
        ("MIX_REVERB_APP_KEY=old", "MIX_REVERB_APP_KEY is not REVERB_APP_KEY"),
        ("VITE_REVERB_APP_KEY=old", "VITE_REVERB_APP_KEY is not REVERB_APP_KEY"),
    ],
)
def test_what_cannot_work_is_a_problem(line: str, finding: str, tmp_path: Path) -> None:
    assert finding in said(read(APP + HERE + line + "\n", tmp_path), problems=True)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (HERE + "BROADCAST_CONNECTION=reverb\n", ""),
        ("", "REVERB_HOST is not set"),
        (HERE + "APP_KEY=base64:x\n", "BROADCAST_CONNECTION is not set"),
        ("REVERB_HOST=0.0.0.0\n", "address to listen on"),
        ("REVERB_HOST=ws.example\nREVERB_SCHEME=http\n", "REVERB_PORT is not set"),
        (HERE + "APP_URL=shop.test\n", "APP_URL='shop.test' is taken as http://shop.test"),
        (HERE + "VITE_REVERB_PORT=443\n", "VITE_REVERB_HOST is not set"),
    ],
)
def test_what_is_worth_knowing(text: str, note: str, tmp_path: Path) -> None:
    target = read(APP + text, tmp_path)
    assert note in said(target)
    assert bool(note) == bool(target.notes)
    assert said(target, problems=True) == ""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET not set"),
        (APP.replace("=s", "="), "REVERB_APP_SECRET not set"),
        (PUSHER.replace("=k", "=null"), "PUSHER_APP_KEY not set"),
        (APP + 'REVERB_HOST="h";\n', r"\.env:4: unexpected text .* in the value of REVERB_HOST"),
        (APP + "REVERB_HOST=https://h\nREVERB_SCHEME=http\n", "REVERB_HOST='https://h' contradicts"),
        (APP + "VITE_REVERB_HOST=h\nVITE_REVERB_PORT=x\n", "VITE_REVERB_PORT='x'"),
        (APP + HERE + "APP_URL=ftp://shop\n", "APP_URL='ftp://shop' must look like"),
        ("# 'X=\"' said\n" + APP, r"env:1: the quote is never closed: .* REVERB_APP_ID too"),
        (APP.replace("=k", "='a/b'"), "app.key='a/b' cannot stand in a path"),
    ],
)
def test_one_line_names_the_variable(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=complaint):
        read(text, tmp_path)


def test_the_environment_wins_where_it_says_something(tmp_path: Path) -> None:
    target = read(APP + HERE, tmp_path, {"REVERB_PORT": "9000", "REVERB_APP_KEY": "other", "REVERB_HOST": ""})
    assert (target.host, target.port, target.key) == ("localhost", 9000, "other")


def test_empty_and_null_are_not_set(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=\nB=null\nC=(empty)\nBROADCAST_CONNECTION=null\nD=0\n")
    assert laravel_settings({}, path) == {"BROADCAST_CONNECTION": "null", "D": "0"}
    assert laravel_settings({}, tmp_path / "none") == {}


def test_credentials_in_app_url_are_sent_and_never_kept(tmp_path: Path) -> None:
    target = read(APP + HERE + "APP_URL=https://ada:hunter2@shop.example/\n", tmp_path)
    assert target.api == "https://shop.example"
    assert target.headers == (("Authorization", "Basic YWRhOmh1bnRlcjI="),)
    assert target.page_origin == "https://shop.example"
    assert "hunter2" not in f"{target!r}{target.public()}"
    assert "YWRh" not in f"{target!r}{target.public()}"
