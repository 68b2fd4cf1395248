#!/bin/bash
# N hosts as network namespaces on one bridge, each with its own sshd. Root. Idempotent. netns-up.sh [N=2] [DIR]
# cut: ip netns exec orch-hK ip link set eth0 down   (or: ip link set orch-vK down); this kernel has no netem.
set -euo pipefail
N=${1:-2}; D=${2:-/tmp/orch-real/netns}; NET=10.203.0; HERE=$(cd "$(dirname "$0")"; pwd)
command -v ip >/dev/null || { apt-get -o DPkg::Lock::Timeout=300 update -qq; apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends iproute2 >/dev/null; }
[ -x /usr/sbin/sshd ] || { export DEBIAN_FRONTEND=noninteractive; apt-get -o DPkg::Lock::Timeout=300 update -qq; apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends openssh-server >/dev/null; }
id orchtest >/dev/null 2>&1 || useradd -m -s /bin/bash orchtest
mkdir -p "$D" /run/sshd; chmod 755 "$D"
ip link show orch-br >/dev/null 2>&1 || ip link add orch-br type bridge; ip addr replace $NET.1/24 dev orch-br; ip link set orch-br up
[ -f "$D/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$D/id_ed25519"
cp "$D/id_ed25519.pub" "$D/authorized_keys"; chmod 644 "$D/authorized_keys"; : > "$D/known_hosts"
for k in $(seq "$N"); do
  ip netns list | grep -qw "orch-h$k" || ip netns add "orch-h$k"
  ip link show "orch-v$k" >/dev/null 2>&1 || { ip link add "orch-v$k" type veth peer name eth0 netns "orch-h$k"; ip link set "orch-v$k" master orch-br; }
  ip link set "orch-v$k" up; ip -n "orch-h$k" link set lo up; ip -n "orch-h$k" link set eth0 up; ip -n "orch-h$k" addr replace $NET.$((10+k))/24 dev eth0
  H=$D/h$k; mkdir -p "$H"; [ -f "$H/host_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$H/host_ed25519"; chown -R orchtest: "$H"; chmod 700 "$H"
  cat > "$H/sshd_config" <<C
ListenAddress $NET.$((10+k)):2222
HostKey $H/host_ed25519
PidFile $H/pid
AuthorizedKeysFile $D/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
UseDNS no
Subsystem sftp internal-sftp
C
  echo "[$NET.$((10+k))]:2222 $(cut -d' ' -f1,2 "$H/host_ed25519.pub")" >> "$D/known_hosts"
  if ! { [ -s "$H/pid" ] && kill -0 "$(cat "$H/pid")" 2>/dev/null; }; then
    # --uts via unshare: each "host" has its own hostname
    ip netns exec "orch-h$k" unshare --uts sh -c "hostname orch-h$k; exec setpriv --reuid=orchtest --regid=orchtest --init-groups env -i HOME=/home/orchtest PATH=/usr/bin:/bin /usr/sbin/sshd -f $H/sshd_config -E $H/log"
  fi
  echo "host$k $NET.$((10+k)) 2222"
done
