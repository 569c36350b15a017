# `prepare` makes keys. `run PORT SERVER` forwards a port of this machine to another one. The server
# of ssh speaks through pipes, as the user that it is started by.
set -eu
if [ "$1" = prepare ]; then
    ssh-keygen -q -t ed25519 -N '' -f host_key
    ssh-keygen -q -t ed25519 -N '' -f user_key
    exit
fi
server="unshare --user --map-user=65534 $(command -v sshd) -i -f $PWD/box_sshd.conf"
exec ssh -F none -N -i user_key -L "127.0.0.1:$2:127.0.0.1:$3" -o BatchMode=yes \
    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ExitOnForwardFailure=yes -o "ProxyCommand=$server" "$(id --user --name 65534)@localhost"
