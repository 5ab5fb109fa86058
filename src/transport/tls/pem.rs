//! DER as PEM (RFC 7468).

use zeroize::Zeroizing;

use crate::wire::base64::digits;

/// RFC 4648 §4.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// How many bytes make a line of 64 characters.
const LINE: usize = 48;

/// One PEM block.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    // A string that grows leaves copies of a key behind, so it must not: a third more for base64,
    // line ends, and the two lines around it.
    let capacity = der.len() / 3 * 4 + 4 + der.len() / LINE + 1 + 2 * (label.len() + 18);
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    let reserved = text.capacity();
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in der.chunks(LINE) {
        for group in line.chunks(3) {
            text.extend(digits(BASE64, group));
            text.extend((group.len()..3).map(|_| '='));
        }
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    debug_assert_eq!(text.capacity(), reserved, "it has grown");
    text
}

/// The bytes of the one block with this label in `text`. As strict as [`encode`] is in what it
/// writes, but for line ends and what stands between blocks.
pub(crate) fn decode(label: &str, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, after) = text.split_once(&begin)?;
    let (body, rest) = after.split_once(&end)?;
    if rest.contains(&begin) {
        return None;
    }
    // as large as it gets, so that no copy of it is left behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len()));
    let (mut bits, mut count, mut padding) = (0_u32, 0, 0);
    for byte in body.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        if byte == b'=' {
            padding += 1;
            continue;
        }
        let digit = BASE64.iter().position(|digit| *digit == byte)?;
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) if bits & 15 == 0 => bytes.push((bits >> 4) as u8),
        (3, 1) if bits & 3 == 0 => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn every_length_is_read_back_and_never_reallocated() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let text = encode("CERTIFICATE", &bytes[..length]);
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(&*read, &bytes[..length]);
            assert!(text.lines().all(|line| line.len() <= 64));
        }
    }

    #[test]
    fn the_form_is_the_usual_one() {
        let text = encode("X", &[0xfb, 0xff, 0, 1]);
        assert_eq!(*text, "-----BEGIN X-----\n+/8AAQ==\n-----END X-----\n");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for length in 0..bytes.len() {
            let text = encode("X", b"another").to_string() + &encode("X Y", &bytes[..length]);
            assert_eq!(decode("X Y", text.as_bytes()).as_deref(), Some(&bytes[..length].to_vec()));
        }
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        let whole = encode("X", &[0xfb, 0xff, 0, 1]).to_string();
        assert!(decode("X", whole.replace('\n', "\r\n").as_bytes()).is_some());
        assert!(decode("Y", whole.as_bytes()).is_none());
        for length in 0..whole.len() - 1 {
            assert!(decode("X", &whole.as_bytes()[..length]).is_none(), "{length}");
        }
        for damaged in [
            whole.replace("AAQ==", "AAQ="),
            whole.replace("AAQ==", "AAQ"),
            whole.replace("AAQ==", "AAR=="),
            whole.replace("AAQ==", "A!Q=="),
            whole.replace("AAQ==", "AA=Q="),
            whole.replace("AAQ==", "AAQ==="),
            whole.repeat(2),
        ] {
            assert!(decode("X", damaged.as_bytes()).is_none(), "{damaged}");
        }
    }
}
