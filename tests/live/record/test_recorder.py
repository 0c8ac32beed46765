"""Real processes recorded: `workbench record` as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sim.cli import main
from sim.errors import BadInput
from sim.live.record.recordable import Recordable, parse_steps, scrub
from sim.live.record.recorder import record
from sim.workload import Trace, load_trace, load_traces

# Stands in for apt-get: says on the status descriptor what apt-get says, and plans when asked to simulate.
FAKE_APT = """#!{python}
import os, sys
options = [a for a in sys.argv if a.startswith("APT::Status-Fd=")]
if "--simulate" in sys.argv:
    print("Inst libpcre3 (2:8.39 Debian:12 [amd64])")
    print("Inst nginx [1.0] (1.22 Debian:12 [amd64])")
    print("Conf nginx (1.22 Debian:12 [amd64])")
    sys.exit()
assert os.environ["LC_ALL"] == "C.UTF-8"
with os.fdopen(int(options[0].split("=")[1]), "w", buffering=1) as status:
    print("Reading package lists...", flush=True)
    for package in ("libpcre3", "nginx"):
        status.write(f"pmstatus:{{package}}:1.0:Unpacking {{package}} (amd64)\\n")
        status.write(f"pmstatus:{{package}}:9.0:Installed {{package}} (amd64)\\n")
sys.exit(100 if "broken" in sys.argv else 0)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def apt(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = here / "bin" / "apt-get"
    fake.parent.mkdir()
    fake.write_text(FAKE_APT.format(python=sys.executable))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")


def ends(trace: Trace) -> dict[str, str]:
    return {step.name: step.status for step in trace.steps}


def test_apt_is_recorded_package_by_package(here: Path, apt: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--", "apt-get", "install", "-y", "nginx"]) == 0
    trace = load_trace(here / "traces" / "nginx" / "01.jsonl")
    assert ends(trace) == {"libpcre3": "completed", "nginx": "completed"}
    assert (trace.method, trace.command, trace.exit_status, trace.partial) == ("apt", "apt-get install -y nginx", 0, False)
    assert trace.transitions[0].at == 0.0
    assert 0 <= trace.transitions[-1].at <= trace.duration < 60
    out, err = capfd.readouterr()
    assert out == "Reading package lists...\n"
    assert "2 steps in" in err
    assert "2 completed" in err


def test_the_two_dashes_may_be_left_out(here: Path, apt: None) -> None:
    assert main(["record", "--quiet", "--name", "x", "apt-get", "install", "-y", "nginx", "--", "--quiet"]) == 0
    assert load_trace("traces/x").command == "apt-get install -y nginx -- --quiet"


def test_the_exit_status_is_the_command_s_own(here: Path, apt: None) -> None:
    assert main(["record", "--quiet", "--", "env", "apt-get", "install", "-y", "broken"]) == 100
    assert load_trace(here / "traces" / "broken" / "01.jsonl").exit_status == 100


def test_a_command_without_recognisable_steps_is_one_step(here: Path) -> None:
    assert main(["record", "--", "sh", "-c", "exit 3"]) == 3
    trace = load_trace("traces/sh")
    assert [(t.name, t.status) for t in trace.transitions] == [("sh", "pending"), ("sh", "installing"), ("sh", "failed")]


def test_listed_steps_run_in_turn_and_stop_at_the_first_that_fails(here: Path) -> None:
    (here / "my.steps").write_text("# comment\n\none: touch one\ntwo: exit 7\nthree: touch three\n")
    assert main(["record", "--name", "mine", "--steps", "my.steps"]) == 7
    trace = load_trace("traces/mine")
    assert ends(trace) == {"one": "completed", "two": "failed", "three": "pending"}
    assert trace.command == "touch one && exit 7 && touch three"
    assert (here / "one").exists()
    assert not (here / "three").exists()


def test_listed_steps_run_through_the_command_where_there_is_one(here: Path) -> None:
    (here / "my.steps").write_text("one: PLACE=x\n")
    runner = "import os, sys; open('ran', 'w').write(sys.argv[1])"
    assert main(["record", "--name", "m", "--steps", "my.steps", "--", sys.executable, "-c", runner]) == 0
    assert (here / "ran").read_text() == "PLACE=x"


def test_lines_are_stamped_as_they_come_and_passed_on_as_they_are(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # A program that writes into a pipe keeps these lines back until it ends; this one must not.
    script = "import time\nfor n in 'ab':\n print('== ' + n)\n time.sleep(0.3)\nprint('done')"
    assert main(["record", "--name", "s", "--step-pattern", r"^== (\w)", "--", sys.executable, "-c", script]) == 0
    trace = load_trace("traces/s")
    assert ends(trace) == {"a": "completed", "b": "completed"}
    assert trace.transitions[2].at - trace.transitions[0].at >= 0.25
    assert capfd.readouterr().out == "== a\n== b\ndone\n"


def test_replicas_are_numbered_on_and_the_command_before_is_not_recorded(here: Path) -> None:
    arguments = ["record", "-o", "set", "--replicas", "2", "--before", "echo x >> before", "--", "true"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert [t.replica for t in load_traces(here / "set")] == [1, 2, 3, 4]
    assert (here / "before").read_text() == "x\n" * 4


def test_replicas_stop_where_the_preparation_or_the_command_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "-o", "a", "--replicas", "3", "--", "false"]) == 1
    assert len(load_traces(here / "a")) == 1
    assert main(["record", "-o", "b", "--replicas", "3", "--before", "exit 9", "--", "true"]) == 1
    assert "--before 'exit 9' failed with exit status 9; 0 replicas" in capsys.readouterr().err
    assert not (here / "b").exists()


def test_json_is_all_that_is_on_standard_output(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--json", "-o", "t.jsonl", "--", "echo", "hello"]) == 0
    out, err = capfd.readouterr()
    (result,) = json.loads(out)["traces"]
    assert result["trace"] == "t.jsonl"
    assert [step["status"] for step in result["steps"]] == ["completed"]
    assert "hello" in err


def test_a_label_stands_for_the_command(here: Path) -> None:
    assert main(["record", "-o", "t.jsonl", "--label", "install it", "--", "true"]) == 0
    assert load_trace("t.jsonl").command == "install it"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_recorded_and_reaches_the_command(here: Path, number: int) -> None:
    (here / "my.steps").write_text("one: true\ntwo: echo ready; exec sleep 60\nthree: touch three\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "sim", "record", "-o", "t.jsonl", "--steps", "my.steps"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # The shell that said so becomes the sleeping program; a moment for that.
    time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    trace = load_trace(here / "t.jsonl")
    assert trace.partial
    assert ends(trace) == {"one": "completed", "two": "installing", "three": "pending"}
    assert not (here / "three").exists()
    assert sorted(p.name for p in here.iterdir()) == ["my.steps", "t.jsonl"]


@pytest.mark.parametrize("daemon", ["sleep 30", "while sleep 0.05; do echo more; done"])
def test_a_daemon_that_keeps_the_descriptor_does_not_keep_the_recorder(here: Path, daemon: str) -> None:
    started = time.monotonic()
    trace = record(Recordable.choose(["sh", "-c", f"echo '== a'; ({daemon}) & echo $! > pid"], pattern="^== (.)"))
    os.kill(int((here / "pid").read_text()), signal.SIGKILL)
    assert time.monotonic() - started < 20
    assert ends(trace) == {"a": "completed"}


def test_a_reader_that_goes_away_does_not_end_the_recording(here: Path) -> None:
    script = "import time\nfor n in 'abc':\n print('== ' + n)\n time.sleep(0.1)"
    command = ["record", "-o", "t.jsonl", "--step-pattern", r"^== (\w)", "--", sys.executable, "-c", script]
    process = subprocess.Popen([sys.executable, "-m", "sim", *command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert ends(load_trace(here / "t.jsonl")) == dict.fromkeys("abc", "completed")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to record: give a command"),
        (["--", "no-such-program"], "command 'no-such-program' not found"),
        (["--", "/"], "command '/' cannot be started: Permission denied"),
        (["--step-pattern", "(", "--", "true"], "--step-pattern '('"),
        (["--step-pattern", "x"], "--method lines needs a command"),
        (["--method", "lines", "--", "true"], "needs --step-pattern"),
        (["--method", "apt", "--", "true"], "no apt in the command 'true'"),
        (["--", "sudo", "apt-get", "install", "x"], "sudo closes the status descriptor"),
        (["--steps", "none.steps"], "--steps none.steps: No such file"),
        (["--steps", "empty.steps"], "no steps in it"),
        (["--steps", "twice.steps"], "twice.steps:2: step 'a' is there twice"),
        (["--replicas", "0", "--", "true"], "--replicas must be >= 1"),
        (["--replicas", "2", "-o", "t.jsonl", "--", "true"], "2 replicas need a directory"),
        (["-o", "empty.steps/x", "--", "true"], "is not a directory"),
        (["-o", "there.jsonl", "--", "true"], "exists already"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    (here / "empty.steps").write_text("# nothing\n")
    (here / "twice.steps").write_text("a: true\na: false\n")
    (here / "there.jsonl").write_text("mine")
    before = sorted(here.iterdir())
    assert main(["record", *arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert "Traceback" not in err
    assert sorted(here.iterdir()) == before


def test_steps_without_a_name_are_named_after_their_program() -> None:
    assert parse_steps("apt-get update\napt-get upgrade\nngx: x\n/usr/bin/true --flag") == (
        ("apt-get", "apt-get update"),
        ("apt-get+", "apt-get upgrade"),
        ("ngx", "x"),
        ("true", "/usr/bin/true --flag"),
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("git clone https://ada:hunter2@example.org/x.git /home/ada/site", "git clone https://example.org/x.git ~/site"),
        ("deploy --password=hunter2 --port=80", "deploy --password=*** --port=80"),
        ("deploy --db-password 'hunter2 and more' now", "deploy --db-password *** now"),
        ("env DB_PASSWORD=hunter2 php artisan migrate", "env DB_PASSWORD=*** php artisan migrate"),
        ("sh -c 'export APP_SECRET=\"hunter2\"; run'", "sh -c 'export APP_SECRET=***; run'"),
        ("curl -H 'Authorization: Bearer hunter2.x-y' host", "curl -H 'Authorization: Bearer ***' host"),
        ("curl -H 'X-Api-Key: hunter2' host", "curl -H 'X-Api-Key: ***' host"),
        ("mysqldump -u root -phunter2 app", "mysqldump -u root -p*** app"),
        ("mysql -u root -p app", "mysql -u root -p app"),
        ("MYSQL_PWD=hunter2 DB_PASS=hunter2 APP_KEY=base64:hunter2 run", "MYSQL_PWD=*** DB_PASS=*** APP_KEY=*** run"),
        ("sshpass -p hunter2 ssh host; sshpass -phunter2 ssh host", "sshpass -p *** ssh host; sshpass -p*** ssh host"),
        ("redis-cli -h host -a hunter2 ping", "redis-cli -h host -a *** ping"),
        (
            "curl -s -u ada:hunter2 host && curl --user 'ada:hunter2' host",
            "curl -s -u ada:*** host && curl --user 'ada:***' host",
        ),
        ("curl -u ada http://host:80/up", "curl -u ada http://host:80/up"),
        ("curl -H 'Authorization: token hunter2' host", "curl -H 'Authorization: token ***' host"),
        ("docker login -u ada -p hunter2 host", "docker login -u ada -p *** host"),
        ("docker run -p8080:80 image", "docker run -p8080:80 image"),
        ("bypass=1 compass=north passenger --passive", "bypass=1 compass=north passenger --passive"),
        ("make password-page tokenizer", "make password-page tokenizer"),
    ],
)
def test_a_trace_holds_no_secret_and_no_home(command: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert scrub(command) == said


def test_a_method_that_was_asked_for_is_taken() -> None:
    job: Any = Recordable.choose(["apt-get", "install", "x"], method="commands")
    assert job.method == "commands"
    with pytest.raises(BadInput, match="no dpkg in the command"):
        Recordable.choose(["apt-get"], method="dpkg")


def test_a_step_s_name_may_hold_what_ends_a_line_elsewhere(here: Path) -> None:
    text = "print('step a\\u2028b'); print('step \\x85 c')"
    arguments = ["--step-pattern", "^step (.+)", "-o", "t.jsonl", "--", sys.executable, "-X", "utf8", "-c", text]
    assert main(["record", "--quiet", *arguments]) == 0
    assert ends(load_trace("t.jsonl")) == {"a\u2028b": "completed", "c": "completed"}
    path = here / "t.jsonl"
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(load_trace("t.jsonl").steps) == 2


def test_progress_without_line_ends_costs_no_time_of_its_own(here: Path) -> None:
    """Four megabytes of one rewritten line: steps that take one another's place, and one that takes its own."""
    text = (
        "import sys; w = sys.stdout.write\n"
        "for name in 'abc':\n"
        " for part in range(40_000): w(f'\\rinstall {name} {part:20}')\n"
        "w('\\rdone' + 'x' * 300_000)"
    )
    job = Recordable.choose([sys.executable, "-c", text], pattern=r"^install (\w)")
    trace = record(job, out=os.open(os.devnull, os.O_WRONLY))
    assert list(ends(trace)) == ["a", "b", "c"]


def test_a_status_line_that_says_nothing_does_not_hold_the_command_up(here: Path) -> None:
    script = here / "dpkg"
    lines = "\\n: \\nstatus: \\nprocessing: install: x\\nstatus: x: installed\\n"
    script.write_text(f"#!/bin/sh\nprintf '{lines}' >&$2\nprintf '%070000d\\n' 0 >&$2\n".replace("&$2", "/dev/fd/$2"))
    script.chmod(0o755)
    assert ends(record(Recordable.choose([str(script), "-i", "x.deb"]))) == {"x": "completed"}
