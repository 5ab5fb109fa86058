//! Base64 (RFC 4648), in the alphabet that is wanted.

/// The digits of up to three bytes, without padding.
pub(crate) fn digits(alphabet: &'static [u8; 64], group: &[u8]) -> impl Iterator<Item = char> + use<> {
    let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(*group.get(i).unwrap_or(&0)));
    let shifts = [18, 12, 6, 0].into_iter().take(group.len() + 1);
    shifts.map(move |shift| char::from(alphabet[bits >> shift & 63]))
}
