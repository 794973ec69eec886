#!/usr/bin/env bash
# A real Slurm on this computer alone: two nodes, of which one has four devices that pass for GPUs.
# usage: up.sh FOLDER none|slurmdbd     (root; FOLDER keeps state and logs; down.sh FOLDER ends it)
set -euo pipefail
folder=$(realpath -m "${1:?folder for state and logs}")
accounting=${2:?none or slurmdbd}
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
host=$(hostname -s)

# until COMMAND...: as often as it takes, for half a minute at most
until_it_works() {
    for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
    echo "up.sh: gave up waiting for: $*; logs are in $folder/log" >&2
    return 1
}

if [ "$(id -u)" != 0 ]; then
    echo "up.sh: root is needed, for munge and for the device files; this is $(id -un)" >&2
    exit 1
fi
for link in /etc/slurm/slurm.conf /etc/slurm/gres.conf; do
    if [ -e "$link" ]; then
        echo "up.sh: $link is there: this computer has a Slurm, or down.sh was not run" >&2
        exit 1
    fi
done
# What goes wrong half way is taken down again.
trap '"$here/down.sh" "$folder"' ERR

rm -rf "$folder"
mkdir -p "$folder"/{state,log,run,mysql,spool.n1,spool.n2} /etc/slurm
chmod 755 "$folder"
grep -qw "$host" /etc/hosts || echo "127.0.0.1 $host" >>/etc/hosts

# munge vouches for who asks. One that runs already is used and left alone.
install -d -m 755 -o munge -g munge /run/munge
if [ ! -s /etc/munge/munge.key ]; then
    head -c 128 /dev/urandom >/etc/munge/munge.key
    chown munge:munge /etc/munge/munge.key
    chmod 600 /etc/munge/munge.key
fi
if ! munge -n >/dev/null 2>&1; then
    setpriv --reuid munge --regid munge --clear-groups munged --pid-file=/run/munge/munged.pid
    touch "$folder/run/munged-is-ours"
fi
until_it_works munge -n

# Character devices like /dev/null. With files Slurm hands out single ones and sets CUDA_VISIBLE_DEVICES.
for number in 0 1 2 3; do mknod "$folder/gpu$number" c 1 3; done

if [ "$accounting" = slurmdbd ]; then
    kept="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=17819
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment"
else
    kept="AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobcomp.txt"
fi

# config_overrides: the nodes may claim what this computer has not. EnforcePartLimits: what no node can do is refused.
# cred_expire: for as long Slurm keeps back what a lost node was doing; 2 minutes by default.
cat >"$folder/slurm.conf" <<END
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=1
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
MinJobAge=3600
KillWait=5
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
$kept
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17821 CPUs=32 RealMemory=64000 Gres=gpu:a100:4 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17822 CPUs=32 RealMemory=64000 State=UNKNOWN
PartitionName=gpu Nodes=n1 MaxTime=INFINITE State=UP DefMemPerCPU=100
PartitionName=cpu Nodes=n2 Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=100
END
cat >"$folder/gres.conf" <<END
AutoDetect=off
NodeName=n1 Name=gpu Type=a100 File=$folder/gpu[0-3]
END
# Links at the default place: the executor's inner srun is called without SLURM_CONF.
ln -s "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/

if [ "$accounting" = slurmdbd ]; then
    sql() { mariadb --no-defaults --socket="$folder/mysql/my.sock" -e "$1"; }
    chown mysql:mysql "$folder/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$folder/mysql" --skip-test-db \
        --auth-root-authentication-method=socket >"$folder/log/mariadb-install.log" 2>&1
    mariadbd --no-defaults --user=mysql --datadir="$folder/mysql" --socket="$folder/mysql/my.sock" \
        --pid-file="$folder/mysql/my.pid" --bind-address=127.0.0.1 --port=17306 \
        --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 >"$folder/log/mariadb.log" 2>&1 &
    until_it_works sql "select 1"
    for from in localhost 127.0.0.1; do
        sql "create user slurm@'$from' identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'$from'"
    done
    sql "create database slurm_acct_db"
    cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=17819
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=17306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
END
    chmod 600 "$folder/slurmdbd.conf"
    SLURM_CONF="$folder/slurm.conf" slurmdbd
    until_it_works sacctmgr --noheader list cluster
    sacctmgr --immediate add cluster loop >/dev/null 2>&1 || true # slurmctld may have added itself
fi

slurmctld
for node in n1 n2; do slurmd -N "$node"; done
both_idle() { [ "$(sinfo --noheader --Node --format=%T | grep -c idle)" = 2 ]; }
until_it_works both_idle
sinfo --Node --format="%N %P %T %c %m %G"
