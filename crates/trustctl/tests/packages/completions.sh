# Three shells complete commands and flags; run on a Debian system by on-debian.

apt_install /packages/trustctl.deb
cat >/tmp/functions <<'FUNCTIONS'
. /usr/share/bash-completion/bash_completion
complete_line() {
    local function
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
    # A file of completions is loaded when its command is completed first.
    _completion_loader "$1" || true
    function=$(complete -p "$1" | sed "s/.*-F \([^ ]*\).*/\1/")
    "$function" "$1" "${COMP_WORDS[COMP_CWORD]}"
    echo "bash: ${COMPREPLY[*]}"
}
complete_line trustctl echo-s
complete_line echo-client --send
FUNCTIONS
bash --norc /tmp/functions
fish --command 'complete --do-complete "trustctl echo-s"'
fish --command 'complete --do-complete "echo-client --send"'
# Zsh completes only at a terminal.
cat >/tmp/keys <<'KEYS'
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -u -d /tmp/dump; PS1=READY""NOW'
zpty -r shell seen '*READYNOW*'
complete_line() {
    zpty -w -n shell "$1"$'\t'
    zpty -r shell seen "*$2*" && echo "zsh: $2"
    zpty -w -n shell $'\C-u'
}
complete_line 'trustctl echo-s' echo-server
complete_line 'echo-client --send' --send-proxy
KEYS
timeout 20 zsh -f /tmp/keys
