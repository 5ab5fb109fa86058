//! DER as PEM (RFC 7468).

use zeroize::Zeroizing;

use crate::wire::base64::digits;

/// RFC 4648 §4.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// How many bytes make a line of 64 characters.
const LINE: usize = 48;

/// One PEM block.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
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
}
