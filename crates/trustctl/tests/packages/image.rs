//! The image in the OCI layout.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use serde_json::Value;

use trust_testkit::model::Model;
use trust_testkit::server::Server;

use crate::dist::{VERSION, file, shell};

const IMAGE: &str = "trustctl-VERSION-x86_64.oci.tar";

/// Unpacks the layout to `$layout`, and its only layer to `$root`.
const UNPACK: &str = r#"
    scratch=$(mktemp --directory); trap 'rm -rf "$scratch"' EXIT
    layout=$scratch/layout root=$scratch/root
    mkdir "$layout" "$root"
    tar --extract --file "$1" --directory "$layout"
    blob() { python3 -c 'import json, sys; it = json.load(sys.stdin)
for key in sys.argv[1:]: it = it[int(key) if key.isdigit() else key]
print(it.replace(":", "/"))' "$@"; }
    manifest=$layout/blobs/$(blob manifests 0 digest <"$layout/index.json")
    config=$layout/blobs/$(blob config digest <"$manifest")
    layer=$layout/blobs/$(blob layers 0 digest <"$manifest")
    tar --extract --gzip --file "$layer" --directory "$root"
"#;

fn unpacked(then: &str) -> String {
    format!("{UNPACK}{then}")
}

#[test]
#[ignore = "make packages"]
fn every_blob_has_the_digest_that_is_its_name_and_the_layer_the_one_in_the_config() {
    let script = unpacked(
        r#"cd "$layout/blobs/sha256"
        for blob in *; do sha256sum --check --quiet --strict <<<"$blob  $blob"; done
        ls | wc --lines; gunzip <"$layer" | sha256sum | cut --delimiter ' ' --fields 1
        cat "$config""#,
    );
    let said = shell(&script, [file(IMAGE)]);
    let [count, digest, config] = said.splitn(3, '\n').collect::<Vec<_>>()[..] else {
        panic!("{said}")
    };
    assert_eq!(count, "3");
    let config: Value = serde_json::from_str(config).expect("JSON");
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/trustctl");
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], VERSION);
}

/// From `/etc/hosts`, and from a server of names that knows one.
#[test]
#[ignore = "make packages"]
fn a_client_in_the_image_resolves_names_and_reaches_a_server() {
    let server = Server::of(Model::Event, ["--host", "127.0.0.1"]);
    let names = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 53), 53));
    let names = names.or_else(|_| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 54), 53)));
    let names = names.expect("port 53 on a loopback address, which needs root");
    let place = names.local_addr().expect("an address").ip();
    thread::spawn(move || answer_questions(&names));
    let script = unpacked(
        r#"echo '127.0.0.1 in-hosts.test' >"$root/etc/hosts"
        echo "nameserver $3" >"$root/etc/resolv.conf"
        for name in in-hosts.test in-dns.test; do
            env --ignore-environment TRUST_HOME=/etc/trustctl TRUST_LOG_FILE=none \
                /usr/sbin/chroot --userspec 65532:65532 "$root" \
                /usr/bin/trustctl echo-client "$name:$2" "hello from $name"
        done
        chroot "$root" /usr/bin/echo-client --version"#,
    );
    let port = server.address().port().to_string();
    let words = [file(IMAGE).into_os_string(), port.into(), place.to_string().into()];
    let said = shell(&script, words);
    let wanted =
        format!("hello from in-hosts.test\nhello from in-dns.test\necho-client {VERSION}\n");
    assert_eq!(said, wanted);
    server.stop();
}

/// Answers every question about an IPv4 address with 127.0.0.1, and others with nothing (RFC 1035,
/// section 4.1).
fn answer_questions(socket: &UdpSocket) {
    let mut message = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut message) {
        let name = message[12..length].iter().position(|byte| *byte == 0).expect("a name") + 1;
        let question = &message[12..12 + name + 4];
        let is_ipv4 = question[name..name + 2] == [0, 1];
        let mut answer = message[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
        answer.extend(question);
        if is_ipv4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&answer, client);
    }
}
