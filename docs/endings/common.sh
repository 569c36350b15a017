# Sourced by the scripts beside it: three hosts that exist only while the script runs.
#
#     client 10.0.1.2 ---- 10.0.1.1 router 10.0.2.1 ---- 10.0.2.2 server
#
# Each host is a network namespace. They are made inside a private mount, network and process
# namespace, so nothing outside is touched, two runs side by side do not meet, and the kernel
# removes all of it with the script, however that ends. Needs: Linux, util-linux, iproute2, Python
# 3; root, or user namespaces.

set -euo pipefail

TIME_LIMIT=90 # seconds for a whole script; the longest needs about 40

if [ "${ENDINGS_INSIDE:-}" != yes ]; then
    export ENDINGS_INSIDE=yes
    user=()
    [ "$(id -u)" = 0 ] || user=(--map-root-user)
    exec timeout --foreground --kill-after=1 "$TIME_LIMIT" setpriv --pdeathsig KILL \
        unshare "${user[@]}" --mount --net --pid --fork --kill-child --mount-proc bash "$0" "$@"
fi
# The first process of a process namespace ignores every signal that it does not ask for.
trap 'exit 130' INT
trap 'exit 143' TERM

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=${CARGO_TARGET_DIR:-$here/../../target}/release:$PATH:/usr/sbin:/sbin
command -v trustctl echo-client >/dev/null || {
    echo "trustctl and echo-client are not found: cargo build --release" >&2
    exit 69
}

mount -t tmpfs endings /run
mkdir /run/netns
export TRUST_HOME=/run/trustctl SERVER_LOG=/run/server.log
touch "$SERVER_LOG"

# Runs a command on a host.
on() {
    local host=$1
    shift
    nsenter --net=/run/netns/"$host" "$@"
}

# A setting of one host's kernel, of its TCP unless it is named in full.
kernel() { on "$1" sysctl -qw "net.ipv4.$2"; }

# The path drops everything without a word, and works again. Packets wait nowhere meanwhile.
cut_path() { kernel router ip_forward=0; }
heal_path() { kernel router ip_forward=1; }
# The router says that it cannot reach a host.
unreachable() { on router ip route add unreachable "$(address "$1")/32"; }
reachable() { on router ip route del unreachable "$(address "$1")/32"; }
# A host forgets its connections, as a reboot makes it: ss -K ends them at once, and sends an RST
# that only a cut path keeps from arriving.
forget_connections() { on "$1" ss -HKt state connected dst "$(address "$2")" >/dev/null; }

address() {
    case $1 in client) echo 10.0.1.2 ;; server) echo 10.0.2.2 ;; esac
}

make_host() {
    local host=$1 net=$2
    ip -n "$host" link set lo up
    ip link add "to-$host" netns router type veth peer name eth0 netns "$host"
    ip -n router addr add "$net.1/24" dev "to-$host"
    ip -n router link set "to-$host" up
    ip -n "$host" addr add "$net.2/24" dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$host" route add default via "$net.1"
}

# Three fresh hosts; earlier state is gone. A router reports to one sender about five times that it
# cannot reach something, then once per second: a script that relies on these reports starts with a
# fresh one.
make_network() {
    local host
    for host in router client server; do
        [ ! -e "/run/netns/$host" ] || ip netns del "$host"
        ip netns add "$host"
    done
    make_host client 10.0.1
    make_host server 10.0.2
    heal_path
    kernel router icmp_ratelimit=0 # another limit on the same
}
make_network

# Starts our server on port 9900 of the host "server"; its process is SERVER_PID.
serve() {
    echo "server  \$ trustctl echo-server --port 9900${*:+ $*}"
    : >"$SERVER_LOG"
    # Not a job of this shell, which would tell how it ended.
    on server setsid --fork trustctl echo-server --port 9900 --log-file "$SERVER_LOG" "$@" \
        >/dev/null
    export SERVER_PID=
    local try
    for try in {1..100}; do
        SERVER_PID=$(sed -n 's/.*"event":"server_start".*"pid":\([0-9]*\).*/\1/p' "$SERVER_LOG")
        [ -z "$SERVER_PID" ] || return 0
        sleep 0.05
    done
    echo "the server did not start" >&2
    exit 1
}

stop_server() {
    while kill "$SERVER_PID" 2>/dev/null; do sleep 0.05; done
}

title() { printf '\n== %s\n' "$*"; }
play() { python3 "$here/peer.py"; }

export -f on kernel cut_path heal_path unreachable reachable forget_connections address
