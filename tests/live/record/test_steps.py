"""Steps recognised in what commands say. The lines of apt and dpkg are as these programs wrote them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.live.record.steps import AptReader, DpkgReader, LineReader, Recording, StepReader
from sim.workload import NEXT, STATUSES


def feed(reader: StepReader, lines: str, start: float = 1.0) -> float:
    at = start
    for line in lines.strip().splitlines():
        reader.feed(line.strip(), at)
        at += 1.0
    return at


def history(recording: Recording) -> list[tuple[float, int, str, str]]:
    return [(t.at, t.step, t.name, t.status) for t in recording.transitions()]


def ends(recording: Recording) -> dict[str, str]:
    return {t.name: t.status for t in recording.transitions()}


INSTALL = """
    dlstatus:1:0.0000:Retrieving file 1 of 2
    dlstatus:2:50.5000:Retrieving file 2 of 2
    pmstatus:dpkg-exec:0.0000:Running dpkg
    pmstatus:libgdbm6:3.0457:Preparing libgdbm6 (amd64)
    pmstatus:libgdbm6:3.5533:Unpacking libgdbm6 (amd64)
    pmstatus:git:4.0609:Preparing git (amd64)
    pmstatus:libgdbm6:4.0609:Preparing to configure libgdbm6 (amd64)
    pmstatus:libgdbm6:97.9695:Configuring libgdbm6 (amd64)
    pmstatus:libgdbm6:98.4772:Installed libgdbm6 (amd64)
    pmstatus:git:98.9848:Configuring git (amd64)
    pmstatus:git:99.4924:Installed git (amd64)
    pmstatus:dpkg-exec:99.4924:Running dpkg
    pmstatus:libgdbm6:99.5:Running post-installation trigger libgdbm6
"""


def test_apt_tells_download_and_packages_apart() -> None:
    recording = Recording()
    reader = AptReader(recording, planned=("libgdbm6", "git"))
    reader.end(True, feed(reader, INSTALL))
    assert history(recording) == [
        (0.0, 2, "libgdbm6", "pending"),
        (0.0, 3, "git", "pending"),
        (1.0, 1, "download", "installing"),
        # It was over with the last report of it, not when the next thing began.
        (2.0, 1, "download", "completed"),
        (4.0, 2, "libgdbm6", "installing"),
        (6.0, 3, "git", "installing"),
        (9.0, 2, "libgdbm6", "completed"),
        (11.0, 3, "git", "completed"),
    ]


def test_apt_from_its_cache_has_no_download_step() -> None:
    recording = Recording()
    reader = AptReader(recording)
    feed(reader, "pmstatus:git:0:Preparing git (amd64)\npmstatus:git:99:Installed git (amd64)")
    assert history(recording) == [(1.0, 1, "git", "installing"), (2.0, 1, "git", "completed")]


def test_a_package_of_another_architecture_keeps_its_name() -> None:
    recording = Recording()
    feed(AptReader(recording), "pmstatus:libc6:i386:20.0:Unpacking libc6:i386 (i386)")
    assert ends(recording) == {"libc6:i386": "installing"}


def test_apt_removing_is_a_life_of_a_step_too() -> None:
    recording = Recording()
    feed(AptReader(recording), "pmstatus:redis:0:Removing redis (amd64)\npmstatus:redis:50:Removed redis (amd64)")
    assert ends(recording) == {"redis": "completed"}


def test_apt_errors_fail_the_package_and_what_was_open() -> None:
    recording = Recording()
    reader = AptReader(recording, planned=("a", "b", "c"))
    at = feed(
        reader,
        """
        pmstatus:a:1:Unpacking a (amd64)
        pmerror:b:2:installed b package post-installation script subprocess returned error exit status 1
        """,
    )
    reader.end(False, at)
    assert ends(recording) == {"a": "failed", "b": "failed", "c": "pending"}


def test_an_end_while_downloading_ends_the_download() -> None:
    for ok, status in ((True, "completed"), (False, "failed")):
        recording = Recording()
        reader = AptReader(recording, planned=("a",))
        reader.end(ok, feed(reader, "dlstatus:1:0.0:Retrieving file 1 of 2"))
        assert ends(recording) == {"download": status, "a": "pending"}


def test_dpkg_goes_from_processing_to_installed() -> None:
    recording = Recording()
    reader = DpkgReader(recording)
    reader.end(
        True,
        feed(
            reader,
            """
            processing: install: sl
            status: sl: half-installed
            status: sl: unpacked
            processing: configure: sl
            status: sl: half-configured
            status: sl: installed
            processing: trigproc: man-db
            status: man-db: half-configured
            """,
        ),
    )
    assert history(recording) == [(1.0, 1, "sl", "installing"), (6.0, 1, "sl", "completed")]


def test_dpkg_errors_are_failures() -> None:
    recording = Recording()
    lines = "processing: install: sl\nstatus: sl: unpacked\nstatus: sl : error : dependency problems - leaving unconfigured"
    feed(DpkgReader(recording), lines)
    assert history(recording)[-1] == (3.0, 1, "sl", "failed")


def test_a_matching_line_ends_the_step_before() -> None:
    recording = Recording()
    reader = LineReader(recording, re.compile(r"^TASK \[(.+)\]"))
    lines = "PLAY [all]\nTASK [nginx] ****\nok: [host]\n\x1b[0;32mTASK [php] ***\x1b[0m\nTASK [nginx] ***"
    reader.end(False, feed(reader, lines))
    assert history(recording) == [
        (2.0, 1, "nginx", "installing"),
        (4.0, 1, "nginx", "completed"),
        (4.0, 2, "php", "installing"),
        (5.0, 2, "php", "completed"),
        (5.0, 3, "nginx (2)", "installing"),
        (6.0, 3, "nginx (2)", "failed"),
    ]


@pytest.mark.parametrize(
    ("pattern", "line", "name"),
    [
        (r"#\d+ \[(?P<name>.+?)\]", "#7 [2/5] RUN true", "2/5"),
        (r"^Step (\d+)/\d+", "Step 3/9 : COPY . .", "3"),
        (r"^==.*", "== all of it  ", "== all of it"),
        (r"^(?:Step) \d+", "Step 4\r", "Step 4"),
    ],
)
def test_the_name_is_the_named_group_the_first_or_the_whole_match(pattern: str, line: str, name: str) -> None:
    recording = Recording()
    LineReader(recording, re.compile(pattern)).feed(line, 0.0)
    assert list(ends(recording)) == [name]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(STATUSES))))
def test_whatever_is_reported_the_recording_is_a_legal_trace(marks: list[tuple[str, str]]) -> None:
    recording = Recording()
    for at, (name, status) in enumerate(marks):
        recording.mark(name, status, float(at))  # type: ignore[arg-type]
    now: dict[int, str | None] = {}
    for t in recording.transitions():
        assert t.status in NEXT[now.get(t.step)]  # type: ignore[index]
        now[t.step] = t.status
    assert sorted(now) == list(range(1, len(now) + 1))


@pytest.mark.parametrize(
    "noise",
    [
        "\x1b[32m{}\x1b[0m",
        "\x1b]0;a title\x07{}",
        "\x1b]8;;http://x/y\x1b\\{}\x1b]8;;\x1b\\",
        "\x1b(B{}\x0f",
        "\x1bP1$r\x1b\\{}",
        "{}\x1b]never ended",
    ],
)
def test_what_only_paints_is_no_part_of_a_name(noise: str) -> None:
    recording = Recording()
    LineReader(recording, re.compile("^TASK (.+)")).feed("TASK " + noise.format("nginx"), 1.0)
    LineReader(recording, re.compile("^TASK (.+)")).feed(noise.format("TASK php"), 2.0)
    assert [t.name for t in recording.transitions() if t.status == "installing"] == ["nginx", "php"]


def test_a_line_that_takes_its_own_place_is_one_step() -> None:
    recording = Recording()
    reader = LineReader(recording, re.compile(r"^get (\w+)"))
    lines = [("get a 1 %", False), ("get a 9 %", True), ("get b 1 %", True), ("get b 2 %", False)]
    for n, (line, rewritten) in enumerate(lines):
        reader.feed(line, float(n), rewritten)
    assert [(t.at, t.name) for t in recording.transitions() if t.status == "installing"] == [
        (0.0, "a"),
        (2.0, "b"),
        (3.0, "b (2)"),
    ]
