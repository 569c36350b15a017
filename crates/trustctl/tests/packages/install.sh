# Before each of the scripts that on-debian runs.
apt_install() {
    apt-get install --yes --quiet "$1" >/tmp/apt 2>&1 || {
        cat /tmp/apt
        exit 1
    }
}

