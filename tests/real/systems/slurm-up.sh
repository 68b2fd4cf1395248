#!/usr/bin/env bash
# Start a private loopback Slurm cluster (no systemd). Idempotent. Run as root.
#   slurm-up.sh [DIR]            default DIR=/tmp/orch-slurm
# Environment:
#   SLURM_NODES=2     simulated compute nodes (one slurmd each)
#   SLURM_CPUS=4      CPUs each node advertises (may exceed the real count)
#   SLURM_MEM=2000    MiB each node advertises
#   SLURM_DBD=1       1: mariadb + slurmdbd (sacct works); 0: without
#   SLURM_GPUS=0      devices of the kind gpu that each node advertises (counted only: there are none)
#   SLURM_AGE=300     seconds for which slurmctld knows of jobs that are over (MinJobAge)
#   SLURM_CGROUP=auto auto|v1|none   how memory limits are enforced
#   SLURM_REST=0      1: also slurmrestd on DIR/rest/sock
#   SLURM_PORT=16817  first of (3 + SLURM_NODES) TCP ports, all on 127.0.0.1
set -euo pipefail
DIR=$(realpath -m "${1:-/tmp/orch-slurm}")
NODES=${SLURM_NODES:-2} CPUS=${SLURM_CPUS:-4} MEM=${SLURM_MEM:-2000}
DBD=${SLURM_DBD:-1} CG=${SLURM_CGROUP:-auto} REST=${SLURM_REST:-0} P0=${SLURM_PORT:-16817}
GPUS=${SLURM_GPUS:-0} AGE=${SLURM_AGE:-300}
CTLD_PORT=$P0 DBD_PORT=$((P0+1)) SQL_PORT=$((P0+2)) NODE_PORT=$((P0+3))
LAST_PORT=$((NODE_PORT+NODES-1))
say() { echo "slurm-up: $*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"

# ---- packages: installed with service start denied, only for this apt run ----
need=()
want() { command -v "$1" >/dev/null 2>&1 || need+=("${@:2}"); }
want slurmctld slurmctld; want slurmd slurmd; want sbatch slurm-client; want munged munge
[ "$DBD" = 1 ] && { want slurmdbd slurmdbd slurm-wlm-mysql-plugin; want mariadbd mariadb-server; }
[ "$REST" = 1 ] && want slurmrestd slurmrestd
if [ ${#need[@]} -gt 0 ]; then
  say "installing ${need[*]}"
  mine=0; pol=/usr/sbin/policy-rc.d
  if [ ! -e $pol ]; then printf '#!/bin/sh\nexit 101\n' >$pol; chmod 755 $pol; mine=1; fi
  export DEBIAN_FRONTEND=noninteractive
  inst() { apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${need[@]}" slurm-wlm-basic-plugins >"/tmp/slurm-up-apt.$$" 2>&1; }
  ok=0; inst && ok=1 || { apt-get -o DPkg::Lock::Timeout=300 update -qq >/dev/null 2>&1 || true; inst && ok=1 || true; }
  [ $mine = 1 ] && rm -f $pol                      # only ever remove our own
  [ $ok = 1 ] || { tail -20 "/tmp/slurm-up-apt.$$" >&2; die "apt failed"; }
fi

mkdir -p "$DIR"/{run,log,state,etc,munge}; chmod 755 "$DIR"; chmod 755 "$DIR/state"; chmod 700 "$DIR/munge"
E=$DIR/etc R=$DIR/run L=$DIR/log
HOST=$(hostname -s)
# alive PIDFILE NAME: is the recorded pid still a process whose command line mentions NAME?
alive() { local p; p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] && { tr "\0" " " <"/proc/$p/cmdline"; } 2>/dev/null | grep -q -- "$2"; }
until_ok() { local n=$(( $1 * 10 )); shift; while ! "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || return 1; sleep 0.1; done; }
# spawn NAME CMD...: run a daemon in the foreground, detached, pid recorded
spawn() { local n=$1; shift; setsid "$@" >>"$L/$n.out" 2>&1 </dev/null & echo $! >"$R/$n.pid"; }

# ---- memory enforcement: cgroup v1 when its memory controller is writable ----
if [ "$CG" = auto ]; then
  CG=none
  if [ "$(stat -fc %T /sys/fs/cgroup/memory 2>/dev/null)" = cgroupfs ] \
     && mkdir /sys/fs/cgroup/memory/orchprobe.$$ 2>/dev/null; then
    rmdir /sys/fs/cgroup/memory/orchprobe.$$; CG=v1
  fi
fi

# ---- configuration ----
GRES=; rm -f "$E/gres.conf"
if [ "$GPUS" != 0 ]; then   # slurmd counts files: copies of /dev/null
  GRES=" Gres=gpu:$GPUS"; mkdir -p "$DIR/dev"
  for i in $(seq 0 $((GPUS-1))); do [ -e "$DIR/dev/gpu$i" ] || mknod -m 666 "$DIR/dev/gpu$i" c 1 3; done
  echo "Name=gpu File=$DIR/dev/gpu[0-$((GPUS-1))]" >"$E/gres.conf"
fi
NODELIST=n[1-$NODES]; [ "$NODES" = 1 ] && NODELIST=n1
PORTS=[$NODE_PORT-$LAST_PORT]; [ "$NODES" = 1 ] && PORTS=$NODE_PORT
{
cat <<C
ClusterName=orch
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$CTLD_PORT
AuthType=auth/munge
AuthInfo=socket=$R/munge.socket
StateSaveLocation=$DIR/state/ctld
SlurmdSpoolDir=$DIR/state/slurmd-%n
SlurmctldPidFile=$R/slurmctld.own.pid
SlurmdPidFile=$R/slurmd-%n.own.pid
SlurmctldLogFile=$L/slurmctld.log
SlurmdLogFile=$L/slurmd-%n.log
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=15
MinJobAge=$AGE
KillWait=3
InactiveLimit=0
BatchStartTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
MaxArraySize=10001
MaxJobCount=20000
JobCompType=jobcomp/filetxt
JobCompLoc=$L/jobcomp.txt
JobRequeue=1
MailProg=/bin/true
C
if [ "$CG" = v1 ]; then
cat <<C
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=task=2
C
else
cat <<C
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
C
fi
[ "$GPUS" = 0 ] || echo "GresTypes=gpu"
if [ "$DBD" = 1 ]; then
cat <<C
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$R/munge.socket
C
fi
cat <<C
NodeName=$NODELIST NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$PORTS CPUs=$CPUS RealMemory=$MEM$GRES State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=short Nodes=ALL MaxTime=5 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=spare Nodes=ALL MaxTime=60 PriorityTier=1 PreemptMode=CANCEL GraceTime=0 State=UP
C
} >"$E/slurm.conf.new"
if [ "$CG" = v1 ]; then
cat >"$E/cgroup.conf" <<C
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
MinRAMSpace=20
C
else  # no plugin uses it then, but slurmd insists on loading one that initialises
  echo "CgroupPlugin=cgroup/v1" >"$E/cgroup.conf"
fi
# a changed slurm.conf means the old daemons must go first
if [ -f "$E/slurm.conf" ] && ! cmp -s "$E/slurm.conf" "$E/slurm.conf.new" && [ -e "$R/slurmctld.pid" ]; then
  say "configuration changed: restarting"; bash "$(dirname "$(realpath "$0")")/slurm-down.sh" "$DIR"
fi
mv "$E/slurm.conf.new" "$E/slurm.conf"
export SLURM_CONF=$E/slurm.conf
echo "export SLURM_CONF=$E/slurm.conf" >"$DIR/env.sh"

# ---- munge ----
[ -s "$DIR/munge/key" ] || { head -c 1024 /dev/urandom >"$DIR/munge/key"; chmod 400 "$DIR/munge/key"; }
if ! alive "$R/munged.pid" munged; then
  rm -f "$R"/munge.socket*
  spawn munged munged --foreground --force --key-file="$DIR/munge/key" --socket="$R/munge.socket" \
    --pid-file="$R/munged.own.pid" --log-file="$L/munged.log" --seed-file="$DIR/munge/seed" --num-threads=4
  until_ok 10 munge -n -S "$R/munge.socket" || die "munged did not start; see $L/munged.out"
fi

# ---- accounting ----
if [ "$DBD" = 1 ]; then
  SQL="$DIR/state/mysql"
  [ -d "$SQL/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$SQL" --skip-test-db \
      --auth-root-authentication-method=normal >"$L/mariadb-install.out" 2>&1
  if ! alive "$R/mariadbd.pid" "$R/mysql.sock"; then
    spawn mariadbd mariadbd --no-defaults --user=root --datadir="$SQL" --socket="$R/mysql.sock" \
      --pid-file="$R/mariadbd.own.pid" --bind-address=127.0.0.1 --port="$SQL_PORT" \
      --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 --skip-log-bin
    until_ok 30 mariadb-admin --no-defaults -S "$R/mysql.sock" -u root ping || die "mariadbd did not start"
  fi
  mariadb --no-defaults -S "$R/mysql.sock" -u root -e "create database if not exists slurm_acct_db;
    create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
    create user if not exists 'slurm'@'localhost' identified by 'slurm';
    grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'; grant all on slurm_acct_db.* to 'slurm'@'localhost';"
  (umask 077; cat >"$E/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$R/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=root
LogFile=$L/slurmdbd.log
PidFile=$R/slurmdbd.own.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
C
  )
  if ! alive "$R/slurmdbd.pid" slurmdbd; then
    # slurmdbd looks for slurmdbd.conf beside $SLURM_CONF
    spawn slurmdbd slurmdbd -D
    until_ok 30 sacctmgr -n list cluster || die "slurmdbd did not start; see $L/slurmdbd.log"
  fi
  sacctmgr -n list cluster format=cluster%20 2>/dev/null | grep -qw orch || sacctmgr -i add cluster orch >/dev/null 2>&1 || true
fi

# ---- controller and nodes ----
mkdir -p "$DIR/state/ctld"; chmod 700 "$DIR/state/ctld"   # state/slurmd-* must stay readable: non-root jobs run their script from there
alive "$R/slurmctld.pid" slurmctld || spawn slurmctld slurmctld -D -f "$SLURM_CONF"
for i in $(seq 1 "$NODES"); do
  mkdir -p "$DIR/state/slurmd-n$i"
  alive "$R/slurmd-n$i.pid" "slurmd.*-N n$i" || spawn "slurmd-n$i" slurmd -D -f "$SLURM_CONF" -N "n$i"
done
if [ "$REST" = 1 ] && ! alive "$R/slurmrestd.pid" slurmrestd; then
  # slurmrestd refuses root: it runs as "daemon", and jobs sent through it run as "daemon"
  API=openapi/v0.0.38; [ "$DBD" = 1 ] && API=$API,openapi/dbv0.0.38   # the db one is fatal without slurmdbd
  mkdir -p "$DIR/rest"; chown daemon: "$DIR/rest"; rm -f "$DIR/rest/sock"
  SLURMRESTD_SECURITY=disable_unshare_files,disable_unshare_sysv \
    spawn slurmrestd setpriv --reuid=daemon --regid=daemon --clear-groups \
    slurmrestd -f "$SLURM_CONF" -s "$API" -a rest_auth/local "unix:$DIR/rest/sock"
fi
ready() { [ "$(sinfo -h -N -p main -t idle,alloc,mix -o %N 2>/dev/null | sort -u | wc -l)" = "$NODES" ]; }
until_ok 40 ready || { sinfo -N -l >&2 || true; tail -5 "$L"/slurmctld.log >&2; die "nodes not ready"; }
srun -n1 -t1 true >/dev/null 2>&1 || die "srun smoke job failed"
echo "Slurm $(sinfo --version | awk '{print $2}') up: $NODES node(s), memory limits: $CG, sacct: $DBD"
echo "  use:   source $DIR/env.sh        (sets SLURM_CONF)"
echo "  stop:  $(dirname "$(realpath "$0")")/slurm-down.sh $DIR [--wipe]"
