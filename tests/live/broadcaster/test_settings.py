"""Settings by Reverb's own names: file, environment, and the way to a child."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.live.broadcaster.settings import BroadcasterSettings, from_environment, read_file, redis_url
from sim.pusher.server.apps import App, RateLimiting

ENVIRONMENT = {
    "REVERB_APP_ID": "7",
    "REVERB_APP_KEY": "k",
    "REVERB_APP_SECRET": "s",
    "REVERB_APP_PING_INTERVAL": "5",
    "REVERB_APP_ACTIVITY_TIMEOUT": "7",
    "REVERB_APP_MAX_CONNECTIONS": "100",
    "REVERB_APP_MAX_MESSAGE_SIZE": "20000",
    "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM": "none",
    "REVERB_APP_ALLOWED_ORIGINS": "laravel.com, *.example.com",
    "REVERB_APP_RATE_LIMITING_ENABLED": "true",
    "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS": "3",
    "REVERB_APP_RATE_LIMIT_TERMINATE": "true",
    "REVERB_SERVER_HOST": "0.0.0.0",
    "REVERB_SERVER_PORT": "9000",
    "REVERB_SERVER_PATH": "/ws",
    "REVERB_MAX_REQUEST_SIZE": "50000",
    "REVERB_SCALING_ENABLED": "true",
    "REDIS_HOST": "cache",
    "REDIS_PASSWORD": "p@ss",
}


def test_environment() -> None:
    settings = from_environment(ENVIRONMENT)
    assert settings.apps == (
        App(
            "7",
            "k",
            "s",
            allowed_origins=("laravel.com", "*.example.com"),
            ping_interval=5,
            activity_timeout=7,
            max_connections=100,
            max_message_size=20_000,
            accept_client_events_from="none",
            rate_limiting=RateLimiting(3, 60, True),
        ),
    )
    assert (settings.host, settings.port, settings.path, settings.max_request_size) == ("0.0.0.0", 9000, "/ws", 50_000)
    assert settings.redis == "redis://:p%40ss@cache:6379/0"


def test_defaults_are_reverbs() -> None:
    (app,) = from_environment({"REVERB_APP_ID": "1", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s"}).apps
    assert (app.ping_interval, app.activity_timeout, app.max_message_size) == (60, 30, 10_000)
    assert (app.allowed_origins, app.accept_client_events_from, app.rate_limiting) == (("*",), "members", None)


def test_a_file_with_the_structure_of_reverbs(tmp_path: Path) -> None:
    path = tmp_path / "reverb.json"
    scaling = {"enabled": True, "channel": "c", "server": {"host": "r", "port": 1, "database": 3}}
    tls = {"local_cert": "cert.pem", "local_pk": "key.pem"}
    server = {"host": "h", "port": 8081, "path": "p", "max_request_size": 5, "options": {"tls": tls}, "scaling": scaling}
    limiting = {"enabled": True, "max_attempts": 9, "decay_seconds": 8, "terminate_on_limit": False}
    apps = [{"app_id": 5, "key": "k", "secret": "s", "options": {"host": "x"}, "rate_limiting": limiting}]
    path.write_text(json.dumps({"servers": {"reverb": server}, "apps": {"provider": "config", "apps": apps}}))
    settings = read_file(path)
    assert settings.apps == (App("5", "k", "s", rate_limiting=RateLimiting(9, 8)),)
    assert (settings.host, settings.port, settings.local_cert, settings.local_pk) == ("h", 8081, "cert.pem", "key.pem")
    assert (settings.redis, settings.scaling_channel) == ("redis://r:1/3", "c")
    assert from_environment({"REVERB_SERVER_PORT": "1"}, settings).port == 1


def test_settings_reach_a_child_whole() -> None:
    settings = from_environment(ENVIRONMENT)
    assert BroadcasterSettings.from_json(settings.to_json()) == settings


def _app_with(member: str) -> str:
    return '{"apps":{"apps":[{"id":1,"key":"k","secret":"s",' + member + "}]}}"


def test_a_typing_error_in_the_environment_is_refused() -> None:
    with pytest.raises(BadInput, match="accept_client_events_from must be one of all, members, none, got 'membres'"):
        from_environment(ENVIRONMENT | {"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM": "membres"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "reverb.json"),
        ("[]", "reverb.json"),
        ('{"apps":{"apps":[{"key":"k","secret":"s"}]}}', "an app needs id"),
        ('{"apps":{"apps":[{"id":1,"key":"k","secret":"s","ping_intervall":1}]}}', "did you mean 'ping_interval'"),
        ('{"servers":{"reverb":{"port":"18099"}}}', "servers.reverb: port must be a whole number, got '18099'"),
        ('{"servers":{"reverb":{"port":true}}}', "port must be a whole number, got True"),
        ('{"servers":{"reverb":{"max_request_size":1.5}}}', "max_request_size must be a whole number"),
        ('{"servers":{"reverb":{"scaling":{"enabled":"no"}}}}', "scaling: enabled must be true or false, got 'no'"),
        ('{"servers":{"reverb":{"options":{"tls":[]}}}}', "tls must be a table"),
        ('{"servers":{"reverb":{"options":{"tls":{"local_cert":1}}}}}', "local_cert must be a text"),
        (_app_with('"accept_client_events_from":"member"'), "must be one of all, members, none, got 'member'"),
        (_app_with('"ping_interval":"60"'), "ping_interval must be a whole number, got '60'"),
        (_app_with('"max_connections":"many"'), "max_connections must be a whole number or nothing, got 'many'"),
        (_app_with('"allowed_origins":"*"'), "allowed_origins must be a list of texts, got '*'"),
        (_app_with('"allowed_origins":[1]'), "allowed_origins must be a list of texts"),
        (_app_with('"rate_limiting":{"max_attempts":"9"}'), "rate_limiting: max_attempts must be a whole number"),
        (_app_with('"rate_limiting":{"max_attempt":9}'), "did you mean 'max_attempts'"),
        (_app_with('"rate_limiting":{"enabled":1}'), "enabled must be true or false"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "reverb.json"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read_file(path)
    assert said in str(refused.value)


def test_redis_url_from_its_parts_or_as_it_is() -> None:
    assert redis_url({}) == "redis://127.0.0.1:6379/0"
    assert redis_url({"url": "rediss://x"}) == "rediss://x"
    assert redis_url({"username": "u", "password": "p"}) == "redis://u:p@127.0.0.1:6379/0"
