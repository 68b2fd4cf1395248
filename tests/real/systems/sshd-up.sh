#!/bin/bash
# Own sshd on loopback: own host key, key-only login. Idempotent.  Usage: sshd-up.sh [PORT] [DIR] [USER]
# As root: creates unprivileged USER (default orchtest) and runs sshd AS that user (no root sshd, no PAM).
set -euo pipefail
PORT=${1:-12222}; DIR=${2:-/tmp/orch-real/sshd}; U=${3:-orchtest}
if [ ! -x /usr/sbin/sshd ] || [ ! -x /usr/lib/openssh/sftp-server ]; then
  export DEBIAN_FRONTEND=noninteractive; apt-get -o DPkg::Lock::Timeout=300 update -qq
  apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends openssh-server openssh-sftp-server >/dev/null
fi
if [ "$(id -u)" = 0 ]; then
  id "$U" >/dev/null 2>&1 || useradd -m -s /bin/bash "$U"
  mkdir -p /run/sshd; run() { setpriv --reuid="$U" --regid="$U" --init-groups env -i HOME="$(getent passwd "$U"|cut -d: -f6)" USER="$U" PATH=/usr/bin:/bin "$@"; }
else U=$(id -un); run() { "$@"; }; fi
if [ -s "$DIR/pid" ] && kill -0 "$(cat "$DIR/pid")" 2>/dev/null; then echo "already up: $DIR/env"; cat "$DIR/env"; exit 0; fi
mkdir -p "$DIR"; [ "$(id -u)" = 0 ] && chown "$U": "$DIR"; chmod 700 "$DIR"
[ -f "$DIR/host_ed25519" ] || run ssh-keygen -q -t ed25519 -N '' -C host -f "$DIR/host_ed25519"
[ -f "$DIR/id_ed25519" ]   || run ssh-keygen -q -t ed25519 -N '' -C client -f "$DIR/id_ed25519"
run cp "$DIR/id_ed25519.pub" "$DIR/authorized_keys"
cat > "$DIR/sshd_config" <<C
ListenAddress 127.0.0.1:$PORT
HostKey $DIR/host_ed25519
PidFile $DIR/pid
AuthorizedKeysFile $DIR/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin no
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
MaxSessions 200
MaxStartups 200:30:400
LoginGraceTime 20
UseDNS no
PrintMotd no
X11Forwarding no
LogLevel VERBOSE
Subsystem sftp internal-sftp
C
run /usr/sbin/sshd -f "$DIR/sshd_config" -E "$DIR/log"
for _ in $(seq 100); do [ -s "$DIR/pid" ] && break; sleep 0.05; done
printf '[127.0.0.1]:%s %s\n' "$PORT" "$(cut -d' ' -f1,2 "$DIR/host_ed25519.pub")" > "$DIR/known_hosts"
cat > "$DIR/env" <<C
SSH_HOST=127.0.0.1
SSH_PORT=$PORT
SSH_USER=$U
SSH_KEY=$DIR/id_ed25519
SSH_KNOWN_HOSTS=$DIR/known_hosts
SSH_PID=$(cat "$DIR/pid")
C
cat "$DIR/env"
