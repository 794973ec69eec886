#!/usr/bin/env bash
# Starts the Slurm of up.sh, runs the tests that need it, and ends it, whatever happens. With accounts it also measures what
# a job costs.
# usage: run.sh none|slurmdbd PYTHON     (root; installs what is missing through apt)
set -euo pipefail
accounting=${1:?none or slurmdbd}

packages=(munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins)
programs=(munged slurmctld slurmd squeue)
if [ "$accounting" = slurmdbd ]; then
    packages+=(slurmdbd mariadb-server)
    programs+=(slurmdbd mariadbd)
fi

if [ "$(id -u)" != 0 ]; then
    echo "make slurm-test starts daemons, makes device files and, where they are missing, installs" >&2
    echo "${packages[*]}: it needs root. Try: sudo make slurm-test" >&2
    exit 1
fi
python=$(realpath -s "${2:?the Python of the environment}")
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.."

missing=0
for program in "${programs[@]}"; do command -v "$program" >/dev/null || missing=1; done
if [ "$missing" = 1 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "make slurm-test needs ${packages[*]}, and there is no apt-get here to install them" >&2
        exit 1
    fi
    echo "Installing ${packages[*]} through apt."
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends "${packages[@]}"
fi

state=$(mktemp -d /tmp/plateline-slurm.XXXXXX)
finish() {
    local status=$?
    tests/slurm/down.sh "$state"
    if [ "$status" = 0 ]; then rm -rf "$state"; else echo "Slurm's own logs stay in $state/log" >&2; fi
}
trap finish EXIT
trap 'exit 130' INT TERM
tests/slurm/up.sh "$state" "$accounting"
# The shorter form leaves out the node that goes down, which waits for Slurm to notice.
chosen=()
if [ "$accounting" = none ]; then chosen=(-k "not node_that_went_down"); fi
"$python" -m pytest tests/slurm --durations=5 "${chosen[@]}"

if [ "$accounting" = slurmdbd ]; then
    PYTHONPATH=tests/slurm/poll${PYTHONPATH:+:$PYTHONPATH} "$python" tests/slurm/overhead.py
fi
