#!/bin/bash
# Host shut down: init ends every process, politely and then by force; the network goes last.
. "$(dirname "$0")/common.sh"

# Boots the host "server" with our server and two programs that never read what they get: SIGTERM
# ends the first of them (port 7001), and the second ignores it (port 7002). Its init does on
# SIGTERM what every init does.
boot() {
    nsenter --net=/run/netns/server unshare --pid --fork --kill-child --mount-proc bash -c '
        trap "is_up=no" TERM
        never_reads="import socket, sys; port = int(sys.argv[1])
s = socket.create_server((\"10.0.2.2\", port)); c = s.accept(); s.accept()"
        python3 -c "$never_reads" 7001 &
        (trap "" TERM; exec python3 -c "$never_reads" 7002) &
        trustctl echo-server --port 9900 --log-file "$SERVER_LOG" >/dev/null &
        is_up=yes
        while [ "$is_up" = yes ]; do sleep 0.05; done
        kill -TERM -1
        sleep 1
        kill -KILL -1
        wait
        ip link set eth0 down' 2>/dev/null &
    sleep 1
    export INIT_PID
    INIT_PID=$(cat "/proc/$!/task/$!/children")
}
shut_down() { kill -TERM "$INIT_PID"; }
export -f shut_down

for about in "a program with everything read:7001:" \
    "a program with a question unread:7001:client send question" \
    "a program that ignores SIGTERM, with a question unread:7002:client send question"; do
    IFS=: read -r name port step <<<"$about"
    title "the calls: $name"
    make_network
    boot
    play <<STEPS
client connect $port
$step
! shut_down
client recv
client recv
client send late
wait 1
client send later
STEPS
done

title "our server: SIGTERM is an order to finish"
make_network
boot
play <<STEPS
client connect 9900
client frame hello
client recv
! shut_down
client recv
client close
server log
STEPS

title "echo-client waits for its input, and tries again when the host is off"
make_network
boot
play <<STEPS
client run echo-client 10.0.2.2 9900
! shut_down
client wait
wait 2
client run echo-client 10.0.2.2 9900 hello
client wait
STEPS

title "the client's host is shut down, our server's log"
make_network
serve
play <<'STEPS'
client run exec echo-client 10.0.2.2 9900
client signal TERM
client wait
server log
STEPS
