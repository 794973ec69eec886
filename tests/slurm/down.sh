#!/usr/bin/env bash
# Ends what up.sh FOLDER has started, with the jobs that still run. Does no harm where nothing runs.
set -u
folder=$(realpath -m "${1:?folder given to up.sh}")

# end PIDFILE: its process, and wait until it is gone
end() {
    [ -s "$1" ] || return 0
    local process
    process=$(cat "$1")
    kill "$process" 2>/dev/null || return 0
    for _ in $(seq 100); do kill -0 "$process" 2>/dev/null || return 0; sleep 0.1; done
    kill -KILL "$process" 2>/dev/null
}

if [ -s "$folder/run/slurmctld.pid" ]; then
    timeout 10 scancel --user=root 2>/dev/null
    for _ in $(seq 50); do [ -z "$(timeout 5 squeue --noheader 2>/dev/null)" ] && break; sleep 0.2; done
fi
for file in "$folder"/run/slurmd.*.pid "$folder"/run/slurm{ctld,dbd}.pid "$folder/mysql/my.pid"; do end "$file"; done
[ -e "$folder/run/munged-is-ours" ] && end /run/munge/munged.pid
for name in slurm.conf gres.conf; do
    [ "$(readlink "/etc/slurm/$name")" = "$folder/$name" ] && rm "/etc/slurm/$name"
done
rm -f "$folder"/gpu[0-3]
exit 0
