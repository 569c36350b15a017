# An upgrade and a purge; run on a Debian system by on-debian.

# Every file, apart from what apt, the system and clients of this user write, and every user.
everything() {
    find / -xdev \( -path /proc -o -path /dev -o -path /tmp -o -path /packages \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
        -o -path /run -o -path /root \) -prune -o -print | sort
    find /var/log/trustctl*
    cat /etc/passwd /etc/group
}

everything >/tmp/before 2>/dev/null || true
apt_install /packages/earlier.deb
echo 'log-level = "debug"' >/etc/trustctl/config.toml
systemctl enable --quiet --now trustctl.socket
echo before | echo-client :9900
systemctl show --property MainPID trustctl.service >/tmp/pid
apt_install /packages/trustctl.deb
cat /etc/trustctl/config.toml
echo after | echo-client :9900
systemctl show --property MainPID trustctl.service | diff --brief /tmp/pid - || true
dpkg-query --show --showformat '${Version}\n' trustctl
TRUST_HOME=/etc/trustctl trustctl config show | grep --count '^log_level: debug'
systemctl is-active trustctl.service
apt-get purge --yes --quiet trustctl >/tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }
systemctl is-active trustctl.service trustctl.socket || true
everything >/tmp/after 2>/dev/null || true
diff /tmp/before /tmp/after |
    grep --invert-match -e '/etc/\(passwd\|group\|shadow\|gshadow\)-' \
    -e '/etc/sub[ug]id-' \
    -e '^[0-9,]*[acd][0-9,]*$' || true
echo end
