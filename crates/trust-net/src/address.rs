//! Where a stream socket listens or connects to, and who is at the other end of one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use socket2::SockAddr;

/// Bytes that the path or the name of a unix socket may have (`unix(7)`): `sun_path` has 108, of
/// which a path needs one for the zero after it, and a name one for the zero before it.
pub const UNIX_NAME_MAX: usize = 107;

/// Where a stream socket listens or connects to.
///
/// ```
/// use std::ffi::OsStr;
/// use std::net::SocketAddr;
/// use trust_net::{Address, UnixName};
///
/// let ip: Address = "[::1]:9900".parse::<SocketAddr>()?.into();
/// assert_eq!(ip.to_string(), "[::1]:9900");
/// assert_eq!(Address::from(([127, 0, 0, 1], 9900)).to_string(), "127.0.0.1:9900");
///
/// let name = UnixName::parse(OsStr::new("/run/echo.sock")).expect("a path");
/// assert_eq!(Address::Unix(name).to_string(), "unix:/run/echo.sock");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A unix socket on this host.
    Unix(UnixName),
}

/// What a unix socket is bound to (`unix(7)`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace, without the zero before it; it is there as long as the
    /// socket, and has no permissions.
    Abstract(Vec<u8>),
}

/// Who is at the other end of a server's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The address that TCP, or a proxy, says.
    Ip(SocketAddr),
    /// A process on this host, as it was when it connected (SO_PEERCRED, `unix(7)`).
    Unix {
        /// 0 if it is not to be seen from this process's PID namespace.
        pid: i32,
        /// Its effective user.
        uid: u32,
    },
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One of TCP, over IPv4 or IPv6.
    Ip,
    /// A unix socket.
    Unix,
}

impl Peer {
    /// Of which family the connection's socket is.
    pub const fn family(&self) -> Family {
        match self {
            Peer::Ip(_) => Family::Ip,
            Peer::Unix { .. } => Family::Unix,
        }
    }
}

impl Address {
    /// Of which family a socket with this address is.
    pub const fn family(&self) -> Family {
        match self {
            Address::Ip(_) => Family::Ip,
            Address::Unix(_) => Family::Unix,
        }
    }

    /// The address of TCP; `None`: it is another kind.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// As the kernel takes it.
    ///
    /// # Errors
    ///
    /// InvalidInput: a path or name that is too long, or a path with a zero in it.
    pub fn to_socket_address(&self) -> io::Result<SockAddr> {
        match self {
            Address::Ip(address) => Ok(SockAddr::from(*address)),
            Address::Unix(UnixName::Path(path)) => SockAddr::unix(path),
            Address::Unix(UnixName::Abstract(name)) => {
                let named = [&[0], name.as_slice()].concat();
                SockAddr::unix(OsStr::from_bytes(&named))
            }
        }
    }

    /// What the kernel says about an end of a socket; `None`: it is of another family, or a unix
    /// socket that is bound to nothing.
    pub fn of_socket_address(address: &SockAddr) -> Option<Address> {
        if let Some(address) = address.as_socket() {
            return Some(Address::Ip(address));
        }
        let name = match (address.as_pathname(), address.as_abstract_namespace()) {
            (Some(path), _) => UnixName::Path(path.to_owned()),
            (None, Some(name)) => UnixName::Abstract(name.to_owned()),
            (None, None) => return None,
        };
        Some(Address::Unix(name))
    }
}

impl UnixName {
    /// What stands after `unix:`, a path or `@` and a name; `None`: it is empty, longer than
    /// [`UNIX_NAME_MAX`] bytes, or has a zero in it.
    ///
    /// ```
    /// use std::ffi::OsStr;
    /// use trust_net::UnixName;
    ///
    /// let parse = |text| UnixName::parse(OsStr::new(text));
    /// assert_eq!(parse("/run/echo.sock"), Some(UnixName::Path("/run/echo.sock".into())));
    /// assert_eq!(parse("@echo"), Some(UnixName::Abstract(b"echo".to_vec())));
    /// assert_eq!(parse("@"), None);
    /// ```
    pub fn parse(text: &OsStr) -> Option<UnixName> {
        let bytes = text.as_bytes();
        let (is_name, bytes) = match bytes.strip_prefix(b"@") {
            Some(name) => (true, name),
            None => (false, bytes),
        };
        if !(1..=UNIX_NAME_MAX).contains(&bytes.len()) || bytes.contains(&0) {
            return None;
        }
        Some(match is_name {
            true => UnixName::Abstract(bytes.to_owned()),
            false => UnixName::Path(OsString::from_vec(bytes.to_owned()).into()),
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(address: (I, u16)) -> Address {
        Address::Ip(address.into())
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => write!(f, "unix:{}", path.display()),
            UnixName::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix { .. } => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Address> {
        UnixName::parse(OsStr::new(text)).map(Address::Unix)
    }

    #[test]
    fn what_the_kernel_says_is_what_it_was_told() {
        for text in ["/run/x.sock", "x", "@name"] {
            let address = parse(text).unwrap();
            assert_eq!(address.to_string(), format!("unix:{text}"));
            let told = address.to_socket_address().unwrap();
            assert_eq!(Address::of_socket_address(&told), Some(address));
        }
        let ip = Address::Ip("[::1]:7".parse().unwrap());
        assert_eq!(Address::of_socket_address(&ip.to_socket_address().unwrap()), Some(ip));
    }

    #[test]
    fn a_name_that_no_socket_can_have_is_refused() {
        for at in ["", "@"] {
            assert_eq!((parse(at), parse(&format!("{at}a\0b"))), (None, None));
            let longest = format!("{at}{}", "x".repeat(UNIX_NAME_MAX));
            assert!(parse(&longest).unwrap().to_socket_address().is_ok());
            assert_eq!(parse(&format!("{longest}x")), None);
        }
    }
}
