"""Accounts from a target's list or from a CSV file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.target import Account, Target, read_users

TREE = {"ws": {"host": "h", "port": 1}, "app": {"id": "1", "key": "k"}}


def test_a_csv_file_of_tokens_logins_and_what_they_own(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text('\ufeffid,token,email,password,servers,orders\n1,t1,,,"1 2",\n"u-2",,ada@x,"p,w",3;4,o-1 o-2\n,t3,,,,\n')
    assert read_users(path) == (
        Account(1, "t1", (1, 2), (), (("orders", ()),)),
        Account("u-2", "", (3, 4), (), (("orders", ("o-1", "o-2")),), (("email", "ada@x"), ("password", "p,w"))),
        Account(3, "t3", (), (), (("orders", ()),)),
    )


@pytest.mark.parametrize(
    "text", ["id;token;servers\n7;t;1,2\n", "id\ttoken\tservers\r\n7\tt\t1 2\r\n", "ID, Token,servers\n7, t,1;2\n"]
)
def test_what_stands_between_columns(text: str, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(text)
    assert read_users(path) == (Account(7, "t", (1, 2)),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no user in it"),
        ("id,token\n", "no user in it"),
        ("id,token\n1,t\n2,\n", "line 3: neither a token nor a login"),
        ("id,email\n1,a@b\n", "line 2: neither a token nor a login .*there are: id, email"),
        ("id,password\n1,p\n", "line 2: neither a token nor a login"),
        ("id,api_token\n1,t\n", "there are: id, api_token"),
        ("email,password\na@b,p,w\n", "line 2: more values than columns"),
        ("id,token,servers\n1,t,1\n1,t,2\n", "line 3: user 1 is there twice"),
        ("id,token\n1,Bearer t\n", "line 2: a token holds a blank"),
    ],
)
def test_a_bad_csv_file_is_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=complaint):
        read_users(path)
    with pytest.raises(BadInput, match="No such file"):
        read_users(tmp_path / "none.csv")


def test_a_target_names_a_csv_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("token,servers\nt1,5\n")
    (tmp_path / "target.json").write_text(json.dumps(TREE | {"users": "users.csv"}))
    assert Target.read(tmp_path / "target.json").users == (Account(1, "t1", (5,)),)


def test_lists_of_any_name_are_what_a_user_owns_and_survive_the_file(tmp_path: Path) -> None:
    users = [{"id": "0193-a", "login": {"email": "a@b", "password": "p"}, "orders": ["5", 2**70], "name": "Ada"}]
    target = Target.from_dict(TREE | {"users": users})
    assert target.users[0].ids("orders") == (5, str(2**70))
    assert target.users[0].ids("servers") == target.users[0].ids("bikes") == ()
    target.write(tmp_path / "t.json")
    assert Target.read(tmp_path / "t.json") == target
    assert target.public()["keys"] == {"users": {"1": "0193-a"}, "orders": {"1": str(2**70)}}
    assert "p'" not in repr(target.users[0])
    assert "a@b" not in repr(target)


@pytest.mark.parametrize(
    "user", [{"token": "t"}, {"id": 1}, {"id": None, "token": "t"}, {"id": 1, "token": "t", "servers": [None]}]
)
def test_a_bad_user_is_one_line(user: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="target: "):
        Target.from_dict(TREE | {"users": [user]})
