//! PROXY headers: whatever comes, in whatever pieces, there is one answer.

use trust_wire::proxy_header::PROXY_HEADER_MAX;
use trust_wire::{ProxyHeader, ProxyVersion};

/// Bytes: the start of a stream.
///
/// # Panics
///
/// If pieces come to another answer than the whole, if a header is longer than it may be, if it is
/// not known with its last byte, or if it does not survive being written.
pub fn run(data: &[u8]) {
    let whole = ProxyHeader::decode(data);
    let mut answers = (0..=data.len()).map(|len| (len, ProxyHeader::decode(&data[..len])));
    let first = answers.find(|(_, answer)| !matches!(answer, Ok(None)));
    let Some((decided_at, first)) = first else {
        assert_eq!(whole, Ok(None));
        assert!(data.len() < PROXY_HEADER_MAX, "{} bytes, and no end", data.len());
        return;
    };
    assert_eq!(first, whole, "a piece of {decided_at} bytes and {} bytes", data.len());
    assert!(answers.all(|(_, answer)| answer == whole));
    if let Ok(Some((header, len))) = whole {
        assert_eq!(len, decided_at, "it is known with its last byte");
        assert!(len <= PROXY_HEADER_MAX);
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let written = header.encode(version);
            assert_eq!(ProxyHeader::decode(&written), Ok(Some((header, written.len()))));
        }
    }
}
