//! Finds bytes of a request that come back in its answer.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sampling::Sampler;
use crate::exchange::learned::LearnedExchange;
use crate::exchange::protocol::IdPlaces;
use crate::verdict::Judged;

/// Where an id may end in a request: they are in headers.
const END_MAX: usize = 24;

/// The most places that are tried, and the bits that are changed in each byte.
const PLACES_MAX: usize = 20;
const CHANGES: [u8; 2] = [0x5a, 0x33];

/// The most connections that looking for an id takes.
pub(super) const CONNECTIONS_MAX: usize = PLACES_MAX * CHANGES.len();

/// Widths of an id, in bytes.
const WIDTHS: [usize; 2] = [4, 2];

/// Longest wait for the answer to a changed request, and for all of them.
const TRY_MAX: Duration = Duration::from_millis(300);
const TRIES_MAX: Duration = Duration::from_secs(6);

/// Bytes of the request that come back changed when they are changed, at one place of an answer
/// that is else the same. `length` is where the length field is.
///
/// # Errors
///
/// As [`Sampler::converse`].
pub(super) fn find(
    sampler: &Sampler<'_>,
    exchange: &Arc<LearnedExchange>,
    answer: &[u8],
    length: &Range<usize>,
) -> Judged<Option<IdPlaces>> {
    let request = exchange.request(0);
    let until = Instant::now() + TRIES_MAX;
    for send in places(&request, answer, length) {
        let mut want = None;
        for change in CHANGES {
            if Instant::now() >= until {
                return Ok(None);
            }
            let mut changed = request.clone();
            changed[send.clone()].iter_mut().for_each(|byte| *byte ^= change);
            let patience = TRY_MAX.min(sampler.setup.patience);
            let conversation = sampler.converse(exchange, &[changed.clone()], patience)?;
            let got = conversation.answers.first().filter(|answered| answered.is_whole);
            let place = got.and_then(|got| {
                came_back(answer, &got.answer, &request[send.clone()], &changed[send.clone()])
            });
            match (place, &want) {
                (Some(place), None) => want = Some(place),
                (Some(place), Some(before)) if place == *before => {}
                _ => {
                    want = None;
                    break;
                }
            }
        }
        if let Some(want) = want {
            return Ok(Some(IdPlaces { send, want }));
        }
    }
    Ok(None)
}

/// Ranges of the request that may be an id: its bytes are in the answer too, and are not only
/// letters and digits. The answer of a server that echoes shows no id.
fn places(request: &[u8], answer: &[u8], length: &Range<usize>) -> Vec<Range<usize>> {
    if request == answer {
        return vec![];
    }
    let end = request.len().min(END_MAX);
    let all = WIDTHS.into_iter().flat_map(|width| {
        (0..(end + 1).saturating_sub(width)).map(move |start| start..start + width)
    });
    all.filter(|place| place.end <= length.start || length.end <= place.start)
        .filter(|place| {
            let bytes = &request[place.clone()];
            !bytes.iter().all(u8::is_ascii_alphanumeric)
                && answer.windows(bytes.len()).any(|window| window == bytes)
        })
        .take(PLACES_MAX)
        .collect()
}

/// Where one answer has the old bytes and the other the new ones, if they are the same else.
fn came_back(before: &[u8], now: &[u8], old: &[u8], new: &[u8]) -> Option<Range<usize>> {
    if before.len() != now.len() {
        return None;
    }
    // All bytes were changed, so the first that differs is the first of them.
    let start = before.iter().zip(now).position(|(before, now)| before != now)?;
    let place = start..start + old.len();
    let is_it = before.get(place.clone()) == Some(old) && now.get(place.clone()) == Some(new);
    (is_it && before[place.end..] == now[place.end..]).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_back_are_found_where_they_are() {
        assert_eq!(
            came_back(b"ab\x12\x34cd", b"ab\x56\x78cd", b"\x12\x34", b"\x56\x78"),
            Some(2..4)
        );
        // Something else differs too, or only a part of it came back.
        assert_eq!(came_back(b"ab\x12\x34cd", b"ab\x56\x78ce", b"\x12\x34", b"\x56\x78"), None);
        assert_eq!(came_back(b"ab\x12\x34cd", b"ab\x56\x34cd", b"\x12\x34", b"\x56\x78"), None);
        assert_eq!(came_back(b"ab\x12\x34", b"ab\x56\x78z", b"\x12\x34", b"\x56\x78"), None);
        assert_eq!(came_back(b"\0", b"\x01", b"\0\0", b"\x01\x01"), None);
        assert_eq!(came_back(b"", b"", b"\0\0", b"\x01\x01"), None);
    }

    #[test]
    fn only_bytes_that_are_in_the_answer_too_are_changed() {
        let request = b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x01";
        let answer = b"\0\x01\0\0\0\x05\x01\x03\x02\0\x07";
        let places = places(request, answer, &(4..6));
        assert_eq!(places[0], 0..4);
        assert!(places.contains(&(0..2)) && !places.contains(&(3..5)), "{places:?}");
        assert!(super::places(b"\0\x04abcd", b"\0\x04abcd", &(0..2)).is_empty(), "an echo");
        assert!(super::places(b"\0\x04abcd", b"\0\x05abcde", &(0..2)).is_empty(), "letters");
        assert!(super::places(b"", b"", &(0..2)).is_empty());
    }
}
