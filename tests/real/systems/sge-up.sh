#!/usr/bin/env bash
# Start a private loopback Grid Engine cell (no systemd). Idempotent. Run as root.
#   sge-up.sh [DIR]              default DIR=/tmp/orch-sge
# Environment: SGE_SLOTS=4 slots of the one queue; SGE_PORT=16944 first of 2 TCP ports
# /etc/hosts is not touched: the cell's host_aliases makes localhost, its loopback
# names and this host's own name one host.
set -euo pipefail
DIR=$(realpath -m "${1:-/tmp/orch-sge}")
SLOTS=${SGE_SLOTS:-4} P0=${SGE_PORT:-16944}
say() { echo "sge-up: $*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"
G=/usr/lib/gridengine

if ! [ -x $G/sge_qmaster -a -x $G/sge_execd -a -x $G/qsub ]; then
  say "installing gridengine"
  mine=0; pol=/usr/sbin/policy-rc.d
  if [ ! -e $pol ]; then printf '#!/bin/sh\nexit 101\n' >$pol; chmod 755 $pol; mine=1; fi
  export DEBIAN_FRONTEND=noninteractive
  inst() { apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends gridengine-master gridengine-exec gridengine-client >"/tmp/sge-up-apt.$$" 2>&1; }
  ok=0; inst && ok=1 || { apt-get -o DPkg::Lock::Timeout=300 update -qq >/dev/null 2>&1 || true; inst && ok=1 || true; }
  [ $mine = 1 ] && rm -f $pol                      # only ever remove our own
  [ $ok = 1 ] || { tail -20 "/tmp/sge-up-apt.$$" >&2; die "apt failed"; }
fi

ROOT=$DIR/root C=$DIR/root/default/common R=$DIR/run L=$DIR/log
export SGE_ROOT=$ROOT SGE_CELL=default SGE_QMASTER_PORT=$P0 SGE_EXECD_PORT=$((P0+1)) SGE_ND=1
export SGE_ARCH; SGE_ARCH=$(/usr/share/gridengine/util/arch)
mkdir -p "$C" "$R" "$L" "$ROOT"/{bin,lib,utilbin} "$DIR"/spool/{qmaster,execd,db}
chmod 755 "$DIR"
for d in bin lib utilbin; do ln -sfn $G "$ROOT/$d/$SGE_ARCH"; done
ln -sfn /usr/share/gridengine/util "$ROOT/util"
alive() { local p; p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] && { tr "\0" " " <"/proc/$p/cmdline"; } 2>/dev/null | grep -q -- "$2"; }
until_ok() { local n=$(( $1 * 10 )); shift; while ! "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || return 1; sleep 0.1; done; }
# jobs inherit what execd has: nothing of whoever calls this, as on a node
spawn() { local n=$1; shift; setsid env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root SGE_ROOT="$SGE_ROOT" SGE_CELL="$SGE_CELL" \
  SGE_ARCH="$SGE_ARCH" SGE_QMASTER_PORT="$SGE_QMASTER_PORT" SGE_EXECD_PORT="$SGE_EXECD_PORT" SGE_ND=1 "$@" \
  >>"$L/$n.out" 2>&1 </dev/null & echo $! >"$R/$n.pid"; }

# ---- cell files ----
H=$(hostname)
{ echo "localhost $(for h in "$H" "$(hostname -s)" $(hostname -f 2>/dev/null) \
      $(awk '$1=="127.0.0.1" || $1=="127.0.1.1" || $1=="::1" {for(i=2;i<=NF;i++) print $i}' /etc/hosts); do
      [ "$h" != localhost ] && echo "$h"; done | sort -u | tr '\n' ' ')"; } >"$C/host_aliases"
echo localhost >"$C/act_qmaster"
echo orch >"$C/cluster_name"
cat >"$C/bootstrap" <<B
admin_user              none
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         $DIR/spool/db
binary_path             $G
qmaster_spool_dir       $DIR/spool/qmaster
security_mode           none
listener_threads        1
worker_threads          2
scheduler_threads       1
B
cat >"$DIR/env.sh" <<B
export SGE_ROOT=$ROOT SGE_CELL=default SGE_ARCH=$SGE_ARCH SGE_CLUSTER_NAME=orch
export SGE_QMASTER_PORT=$SGE_QMASTER_PORT SGE_EXECD_PORT=$SGE_EXECD_PORT
export PATH=$G:\$PATH    # the real binaries; the wrappers in /usr/bin cost ~0.1 s a call
B

# ---- spool database, once ----
if [ ! -e "$DIR/spool/db/sge" ]; then
  $G/spoolinit berkeleydb libspoolb "$DIR/spool/db" init >>"$L/init.out" 2>&1
  cat >"$DIR/global.conf" <<B
execd_spool_dir              $DIR/spool/execd
mailer                       /bin/true
xterm                        /bin/true
load_sensor                  none
prolog                       none
epilog                       none
shell_start_mode             unix_behavior
login_shells                 sh,bash
min_uid                      0
min_gid                      0
user_lists                   none
xuser_lists                  none
projects                     none
xprojects                    none
enforce_project              false
enforce_user                 auto
load_report_time             00:00:02
max_unheard                  00:00:20
reschedule_unknown           00:00:30
loglevel                     log_info
administrator_mail           none
set_token_cmd                none
pag_cmd                      none
token_extend_time            none
shepherd_cmd                 none
qmaster_params               none
execd_params                 PDC_INTERVAL=00:00:01,ENABLE_ADDGRP_KILL=1
reporting_params             accounting=true reporting=false flush_time=00:00:00 joblog=false sharelog=00:00:00 accounting_flush_time=00:00:00
finished_jobs                100
gid_range                    60000-60999
max_aj_instances             2000
max_aj_tasks                 75000
max_u_jobs                   0
max_jobs                     0
auto_user_oticket            0
auto_user_fshare             0
auto_user_default_project    none
auto_user_delete_time        86400
delegated_file_staging       false
qrsh_command                 builtin
rsh_command                  builtin
rlogin_command               builtin
qrsh_daemon                  builtin
rsh_daemon                   builtin
rlogin_daemon                builtin
B
  $G/spooldefaults configuration "$DIR/global.conf" >>"$L/init.out" 2>&1
  $G/spooldefaults complexes /usr/share/gridengine/util/resources/centry >>"$L/init.out" 2>&1
  $G/spooldefaults usersets /usr/share/gridengine/util/resources/usersets >>"$L/init.out" 2>&1
  $G/spooldefaults managers root >>"$L/init.out" 2>&1
fi

# ---- master ----
if ! alive "$R/qmaster.pid" sge_qmaster; then
  rm -f "$DIR/spool/qmaster/lock" "$DIR/spool/qmaster/qmaster.pid"
  spawn qmaster $G/sge_qmaster
  until_ok 20 qconf -sh || { cat "$L/qmaster.out" "$DIR/spool/qmaster/messages" >&2 || true; die "qmaster did not start"; }
fi

# ---- objects (each added only when missing, always set to what we want) ----
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
has() { qconf "$1" 2>/dev/null | grep -qx -- "$2"; }
put() { # LISTFLAG NAME ADDFLAG MODFLAG FILE
  if has "$1" "$2"; then qconf "$4" "$5"; else qconf "$3" "$5"; fi >>"$L/init.out" 2>&1; }
has -sh localhost || qconf -ah localhost >>"$L/init.out" 2>&1
has -ss localhost || qconf -as localhost >>"$L/init.out" 2>&1
has -sel localhost || { printf '%s\n' 'hostname localhost' 'load_scaling NONE' 'complex_values NONE' \
   'user_lists NONE' 'xuser_lists NONE' 'projects NONE' 'xprojects NONE' 'usage_scaling NONE' \
   'report_variables NONE' >"$T/host"; qconf -Ae "$T/host" >>"$L/init.out" 2>&1; }
printf '%s\n' 'group_name @allhosts' 'hostlist localhost' >"$T/hgrp"
put -shgrpl @allhosts -Ahgrp -Mhgrp "$T/hgrp"
printf '%s\n' 'pe_name smp' 'slots 9999' 'user_lists NONE' 'xuser_lists NONE' 'start_proc_args NONE' \
  'stop_proc_args NONE' 'allocation_rule $pe_slots' 'control_slaves FALSE' 'job_is_first_task TRUE' \
  'urgency_slots min' 'accounting_summary TRUE' 'qsort_args NONE' >"$T/pe"
put -spl smp -Ap -Mp "$T/pe"
{ printf '%s\n' 'qname main.q' 'hostlist @allhosts' 'seq_no 0' 'load_thresholds NONE' 'suspend_thresholds NONE' \
  'nsuspend 1' 'suspend_interval 00:05:00' 'priority 0' 'min_cpu_interval 00:05:00' 'processors UNDEFINED' \
  'qtype BATCH INTERACTIVE' 'ckpt_list NONE' 'pe_list smp' 'rerun FALSE' "slots $SLOTS" "tmpdir $DIR/tmp" \
  'shell /bin/sh' 'prolog NONE' 'epilog NONE' 'shell_start_mode unix_behavior' 'starter_method NONE' \
  'suspend_method NONE' 'resume_method NONE' 'terminate_method NONE' 'notify 00:00:05' 'owner_list NONE' \
  'user_lists NONE' 'xuser_lists NONE' 'subordinate_list NONE' 'complex_values NONE' 'projects NONE' \
  'xprojects NONE' 'calendar NONE' 'initial_state default'
  for l in rt cpu; do printf 's_%s INFINITY\nh_%s INFINITY\n' $l $l; done
  for l in fsize data stack core rss vmem; do printf 's_%s INFINITY\nh_%s INFINITY\n' $l $l; done; } >"$T/queue"
mkdir -p "$DIR/tmp"; chmod 1777 "$DIR/tmp"
put -sql main.q -Aq -Mq "$T/queue"
# a scheduler that reacts at once rather than every 15 s
qconf -ssconf | sed -E 's/^(schedule_interval) .*/\1 0:0:2/; s/^(flush_submit_sec) .*/\1 1/;
  s/^(flush_finish_sec) .*/\1 1/; s/^(schedd_job_info) .*/\1 true/; s/^(job_load_adjustments) .*/\1 NONE/;
  s/^(maxujobs) .*/\1 0/' >"$T/sched"
qconf -Msconf "$T/sched" >>"$L/init.out" 2>&1

# ---- execution daemon ----
if ! alive "$R/execd.pid" sge_execd; then
  spawn execd $G/sge_execd
fi
ready() { qstat -f 2>/dev/null | awk '$1 ~ /^main\.q@/ {exit !($4 != "-NA-" && NF == 5)} END {}' && qstat -f | grep -q '^main\.q@'; }
until_ok 60 ready || { qstat -f >&2; cat "$L"/execd.out "$DIR"/spool/execd/*/messages >&2 || true; die "queue not ready"; }
echo "Grid Engine up: queue main.q, $SLOTS slots, parallel environment smp"
echo "  use:   source $DIR/env.sh        (sets SGE_ROOT, SGE_CELL, the ports, PATH)"
echo "  stop:  $(dirname "$(realpath "$0")")/sge-down.sh $DIR [--wipe]"
