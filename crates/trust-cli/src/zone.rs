//! Addresses as they are written, and the interfaces that link-local ones belong to (RFC 4007).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::{if_nameindex, if_nametoindex};
use trust_net::Address;

use crate::exit_code::{ExitCode, Failure};
use crate::values::{bare, quoted};

/// Interfaces that an error message lists; a host of containers can have hundreds.
const LISTED_INTERFACES_MAX: usize = 8;

/// The address that a host without brackets spells, perhaps with its zone: the name of an interface
/// or its number. `None`: it is a name.
///
/// # Errors
///
/// 64: this host does not have the interface.
pub fn literal(host: &str, port: u16) -> Result<Option<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(ip, port)));
    }
    let Some((address, zone)) = host.split_once('%') else { return Ok(None) };
    let Ok(address) = address.parse::<Ipv6Addr>() else { return Ok(None) };
    let interfaces = interfaces();
    let is_there = |index: &u32| interfaces.iter().any(|(there, _)| there == index);
    let index = if_nametoindex(zone).ok().or_else(|| zone.parse().ok().filter(is_there));
    let Some(index) = index else {
        let listed = interfaces.iter().take(LISTED_INTERFACES_MAX);
        let mut names: Vec<&str> = listed.map(|(_, name)| &**name).collect();
        if interfaces.len() > LISTED_INTERFACES_MAX {
            names.push("…");
        }
        let (zone, host, names) = (quoted(zone), quoted(host), names.join(", "));
        let message = format!("unknown interface {zone} in {host}: this host has {names}");
        return Err(Failure::new(ExitCode::Usage, message));
    };
    Ok(Some(SocketAddrV6::new(address, port, 0, index).into()))
}

/// Refuses an address that leads nowhere without its interface (RFC 4007, section 6).
///
/// # Errors
///
/// In words, with an example.
pub fn check_is_complete(address: &SocketAddr) -> Result<(), String> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            Err(format!("a link-local address needs its interface, as in {}%eth0", v6.ip()))
        }
        _ => Ok(()),
    }
}

/// The address with the name of its interface, if it has one: `fe80::1%eth0`.
pub fn shown_ip(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let interfaces = interfaces();
            let found = interfaces.into_iter().find(|(index, _)| *index == v6.scope_id());
            let zone = found.map_or_else(|| v6.scope_id().to_string(), |(_, name)| name);
            format!("{}%{zone}", v6.ip())
        }
        _ => address.ip().to_string(),
    }
}

/// The same with the port: `[fe80::1%eth0]:9900`.
pub fn shown(address: &SocketAddr) -> String {
    let ip = shown_ip(address);
    if address.is_ipv6() { format!("[{ip}]:{}", address.port()) } else { address.to_string() }
}

/// An address of any kind as it is typed, in one line: `[fe80::1%eth0]:9900`, `unix:/run/x.sock`.
pub fn shown_address(address: &Address) -> String {
    address.ip().map_or_else(|| bare(address.to_string()), |ip| shown(&ip))
}

/// The same without a port.
pub fn shown_host(address: &Address) -> String {
    address.ip().map_or_else(|| bare(address.to_string()), |ip| shown_ip(&ip))
}

/// Number and name of every interface of this network namespace.
fn interfaces() -> Vec<(u32, String)> {
    let Ok(interfaces) = if_nameindex() else { return vec![] };
    let named = |interface: &nix::net::if_::Interface| {
        (interface.index(), interface.name().to_string_lossy().into_owned())
    };
    interfaces.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use trust_net::UnixName;

    use super::*;

    #[test]
    fn a_zone_is_an_interface_by_name_or_number() {
        let (index, name) = interfaces().into_iter().next().expect("every host has one");
        let expected = SocketAddrV6::new("fe80::1".parse().expect("it is one"), 7, 0, index);
        for zone in [name.clone(), index.to_string()] {
            let found = literal(&format!("fe80::1%{zone}"), 7);
            assert_eq!(found, Ok(Some(expected.into())), "{zone}");
        }
        assert_eq!(shown(&expected.into()), format!("[fe80::1%{name}]:7"));
        let unknown = literal("fe80::1%nosuch", 7).expect_err("no interface");
        assert_eq!(unknown.exit, ExitCode::Usage);
        let message = "unknown interface 'nosuch' in 'fe80::1%nosuch': this host has ";
        assert!(unknown.message.starts_with(message), "{}", unknown.message);
    }

    #[test]
    fn a_number_is_the_zone_of_an_interface_that_is_there() {
        assert!(literal("fe80::1%4294967295", 7).is_err());
        assert_eq!(literal("example.com", 7), Ok(None));
        assert_eq!(literal("a%b", 7), Ok(None));
    }

    #[test]
    fn an_address_is_shown_as_it_is_typed() {
        let ip = |text: &str| shown(&text.parse().expect("an address"));
        assert_eq!(ip("192.0.2.1:7"), "192.0.2.1:7");
        assert_eq!(ip("[2001:db8::1]:7"), "[2001:db8::1]:7");
        let unix = |name: &str| {
            let address = Address::Unix(UnixName::parse(name.as_ref()).expect("a name"));
            assert_eq!(shown_host(&address), shown_address(&address));
            shown_address(&address)
        };
        assert_eq!(unix("/run/x.sock"), "unix:/run/x.sock");
        assert_eq!(unix("@a\nb"), "unix:@a\\nb");
    }
}
