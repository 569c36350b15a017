//! Third-party programs between clients and a server that forward what each side sends.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::foreign::{NGINX_STREAM, SERVERS, is_there, tool};

/// A relay with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    /// One process per connection. By default it waits half a second for the other side's FIN.
    Socat,
    /// The same on a unix socket in its directory, [`Relay::SOCKET`].
    SocatUnix,
    /// In mode `tcp`, with long timeouts.
    HaProxy,
    /// The same with `accept-proxy`.
    HaProxyBehindHeader,
    /// Its stream module, with `proxy_half_close on` and a long timeout.
    Nginx,
    /// The same with `proxy_protocol`.
    NginxBehindHeader,
    /// Its stream module as it comes.
    NginxDefault,
    /// In the default configuration.
    Rinetd,
}

impl Relay {
    /// The name of its unix socket, if it has one.
    pub(crate) const SOCKET: &str = "relay.sock";

    /// What is missing on this machine to run it, if anything.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Relay::Socat | Relay::SocatUnix => tool("socat"),
            Relay::HaProxy | Relay::HaProxyBehindHeader => tool("haproxy"),
            Relay::Nginx | Relay::NginxBehindHeader | Relay::NginxDefault => {
                tool("nginx").or_else(|| is_there(NGINX_STREAM))
            }
            Relay::Rinetd => tool("rinetd"),
        }
    }

    /// The command that listens on `address` and connects to `server`, in the foreground. Its own
    /// files go to `directory`.
    pub(crate) fn command(
        self,
        address: SocketAddr,
        server: SocketAddr,
        directory: &Path,
    ) -> Command {
        let configured = |name: &str, flags: &[&str], then: &[&str]| {
            let file = configuration(name, address, server, directory);
            let flags = flags.iter().map(Into::into);
            let words: Vec<OsString> =
                flags.chain([file]).chain(then.iter().map(Into::into)).collect();
            words
        };
        let (program, words) = match self {
            Relay::Socat => {
                let (ip, port) = (address.ip(), address.port());
                let listen = format!("TCP-LISTEN:{port},bind={ip},fork,reuseaddr,backlog=1024");
                let words = ["-t", "30", &listen, &format!("TCP:{server}")].map(Into::into);
                ("socat", words.to_vec())
            }
            Relay::SocatUnix => {
                let path = directory.join(Relay::SOCKET);
                let listen = format!("UNIX-LISTEN:{},fork,backlog=1024", path.display());
                let words = ["-t", "30", &listen, &format!("TCP:{server}")].map(Into::into);
                ("socat", words.to_vec())
            }
            Relay::HaProxy => ("haproxy", configured("haproxy.cfg", &["-db", "-f"], &[])),
            Relay::HaProxyBehindHeader => {
                ("haproxy", configured("haproxy_accept.cfg", &["-db", "-f"], &[]))
            }
            Relay::Nginx => ("nginx", configured("nginx.conf", &["-e", "stderr", "-c"], &[])),
            Relay::NginxBehindHeader => {
                ("nginx", configured("nginx_accept.conf", &["-e", "stderr", "-c"], &[]))
            }
            Relay::NginxDefault => {
                ("nginx", configured("nginx_default.conf", &["-e", "stderr", "-c"], &[]))
            }
            Relay::Rinetd => ("rinetd", configured("rinetd.conf", &["-f", "-c"], &[])),
        };
        let mut command = Command::new(program);
        command.args(words);
        command
    }
}

/// Writes the configuration with this name, with the addresses filled in; returns its path.
fn configuration(
    name: &str,
    address: SocketAddr,
    server: SocketAddr,
    directory: &Path,
) -> OsString {
    let template = Path::new(SERVERS).join(name);
    let text = fs::read_to_string(&template).expect("the configuration is there");
    let texts = [
        ("@LISTEN_IP@", address.ip().to_string()),
        ("@LISTEN_PORT@", address.port().to_string()),
        ("@SERVER_IP@", server.ip().to_string()),
        ("@SERVER_PORT@", server.port().to_string()),
        ("@DIRECTORY@", directory.display().to_string()),
    ];
    let text = texts.iter().fold(text, |text, (mark, value)| text.replace(mark, value));
    let path = directory.join(name);
    fs::write(&path, text).expect("write a configuration");
    path.into_os_string()
}
