# What a newcomer does after `apt install`; run on a Debian system by on-debian.

apt_install /packages/trustctl.deb
trustctl --version
getent passwd trustctl | cut --delimiter : --fields 1,6,7
man trustctl-echo-server | grep --after-context 1 ^NAME | tail -1 |
    tr --squeeze-repeats ' '
man echo-client | grep --count send-proxy
systemctl is-enabled trustctl.socket || true
systemctl enable --quiet --now trustctl.socket
systemctl is-active trustctl.service || true
trustctl check :9900 --case framing/2,closing/1,half-close/1 | tail -1
systemctl is-active trustctl.service
grep --count client_close /var/log/trustctl/trustctl.log
systemctl show --property MainPID --value trustctl.service >/tmp/pid
ps --no-headers -o user:20 --pid "$(cat /tmp/pid)"
logrotate --force /etc/logrotate.conf
for try in {1..100}; do
    echo hello | echo-client :9900 >/dev/null
    [ ! -e /var/log/trustctl/trustctl.log ] || break
    sleep 0.1
done
ls /var/log/trustctl
systemctl restart trustctl.service
systemctl is-active trustctl.socket trustctl.service
journalctl --quiet --unit trustctl.service --output cat |
    grep --count server_start
