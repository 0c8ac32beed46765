#!/usr/bin/env bash
# A load test in a pipeline: start the target, run, check, compare with the baseline, attach the report.
#
#   load-test.sh                  all steps in this order; the exit code is that of the first step that failed
#   load-test.sh run check        only these steps
#   load-test.sh accept           these runs are the baseline from now on (on the main branch, after a pass)
#
# Exit codes are those of workbench: 0 pass, 3 the application became worse or missed a limit, 4 the runner could not
# measure (repeat the job: it says nothing about the application), 5 the target does not answer.
#
# Settings, from the environment:
#   WORKBENCH   the command                      OUT       where everything goes
#   SCENARIO    what is run                      BASELINE  directory of the runs to compare with
#   RUNS        runs a side (four or more: the runs are compared, not batches of their updates)
#   SET         further changes of the scenario, as "duration=10 pages.0.subscribers=50"
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workbench=${WORKBENCH:-workbench}
out=${OUT:-load-test}
scenario=${SCENARIO:-$here/load-test.toml}
baseline=${BASELINE:-$out/baseline}

# The target under test. Start your own application here in its place, and name its .env or target.json in `run`.
start() {
    mkdir -p "$out"
    rm -rf "$out/target.json" "$out/new"
    "$workbench" serve --members --api-port 0 --reverb-port 0 --ready-file "$out/target.json" > "$out/target.log" 2>&1 &
    echo $! > "$out/target.pid"
    for _ in $(seq 300); do
        [ -e "$out/target.json" ] && return 0
        kill -0 "$(cat "$out/target.pid")" 2> /dev/null || break
        sleep 0.1
    done
    cat "$out/target.log" >&2
    return 5
}

# A missed limit (3) is for `check` to say, so that all runs are made; anything else ends the step.
run() {
    local seed code set=()
    for change in ${SET:-}; do set+=(--set "$change"); done
    for seed in $(seq "${RUNS:-1}"); do
        "$workbench" loadtest "$scenario" --target "$out/target.json" --set seed="$seed" ${set[@]+"${set[@]}"} -o "$out/new/$seed" && code=0 || code=$?
        [ "$code" = 0 ] || [ "$code" = 3 ] || return "$code"
    done
}

check() {
    local seed code=0
    for seed in $(seq "${RUNS:-1}"); do
        "$workbench" check "$out/new/$seed" --junit "$out/junit-$seed.xml" --summary "$out/summary-$seed.md" || code=$?
    done
    return "$code"
}

compare() {
    if [ ! -d "$baseline" ]; then
        echo "no baseline in $baseline yet: nothing to compare with (load-test.sh accept)" | tee "$out/comparison.md"
        return 0
    fi
    "$workbench" compare --baseline "$baseline" "$out/new" --fail-on-worse -o "$out/comparison.md"
}

# A run that is not to be believed has a report as well, which says so (4): `check` judges it.
report() {
    "$workbench" report "$out/new/1" --no-code -o "$out/report.html" || [ $? = 4 ]
}

accept() {
    rm -rf "$baseline.next"
    cp -R "$out/new" "$baseline.next"
    rm -rf "$baseline"
    mv "$baseline.next" "$baseline"
}

stop() {
    kill "$(cat "$out/target.pid")" 2> /dev/null || true
}

if [ $# -gt 0 ]; then
    for step in "$@"; do "$step"; done
    exit 0
fi
trap stop EXIT
first=0
note() { [ "$first" != 0 ] || first=$1; }
# One process a step: an error ends the step that it is in, not the steps that show what was measured.
"$0" start run || note $?
[ ! -d "$out/new" ] || for step in check compare report; do "$0" "$step" || note $?; done
exit "$first"
