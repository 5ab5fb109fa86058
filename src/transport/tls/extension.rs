//! The X.509 extension in which the authority vouches for a TLS key.

use x509_parser::certificate::X509Certificate;

use super::IdentityError;
use crate::wire::certificate::Certificate;

/// 2.25.3320003319810377103, arc by arc. What follows 2.25 is a number that nobody else draws
/// (ITU-T X.667), kept below 2^63 so that a `u64` holds it.
pub const OID: [u64; 3] = [2, 25, 3_320_003_319_810_377_103];
/// [`OID`] as DER encodes it. Parsers differ in how large an arc they can show, so it is bytes that
/// are compared.
const OID_DER: [u8; 10] = [0x69, 0xae, 0x89, 0xc1, 0xad, 0xde, 0x93, 0xa9, 0x8b, 0x0f];

/// The tag and the length of an OCTET STRING of 74 bytes.
const HEADER: [u8; 2] = [0x04, Certificate::LEN as u8];

/// The value of the non-critical extension [`OID`]: the DER of an OCTET STRING of 74 bytes, with the
/// integers little-endian as in `SIGNATURE_NOISE_MESSAGE` (§4.5.2).
///
/// ```text
/// 04 4a | version U16 | valid_from U32 | not_valid_after U32 | signature 64 bytes
/// ```
#[must_use]
pub fn extension_value(certificate: &Certificate) -> [u8; 76] {
    let mut value = [0; 76];
    value[..2].copy_from_slice(&HEADER);
    value[2..].copy_from_slice(&certificate.to_bytes());
    value
}

/// Reads the extension of a leaf, without a judgement of what it says.
pub(super) fn find(leaf: &X509Certificate<'_>) -> Result<Certificate, IdentityError> {
    let mut found = leaf.extensions().iter().filter(|extension| extension.oid.as_bytes() == OID_DER);
    let extension = found.next().ok_or(IdentityError::NoExtension)?;
    // two could be read as either
    if found.next().is_some() {
        return Err(IdentityError::MalformedExtension);
    }
    let bytes = extension.value.strip_prefix(&HEADER).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Certificate::from_bytes).ok_or(IdentityError::MalformedExtension)
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA256, digest};

    use super::*;
    use crate::wire::certificate::Subject;
    use crate::wire::keys::AuthoritySecretKey;

    /// The SubjectPublicKeyInfo of the P-256 key of RFC 6979 §A.2.5.
    const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
                        60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
                        7903fe1008b8bc99a41ae9e95628bc64f2f1b20c9d7e9f5177a3c294d4462299";
    const EXTENSION: &str = "044a000000f1536500581669\
                             d2f16713a9cf1ebcc102dc7da2c3579042bc65a96d4a94086a8d541feb667118\
                             0215c832efbefe75ce4e9ed95c468e309d1767810f043342dea3ad170a83f9ae";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The vector that other implementations are tested with: it never changes.
    #[test]
    fn the_published_vector() {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        let authority: AuthoritySecretKey = bs58::encode(secret).with_check().into_string().parse().unwrap();
        let spki_hash: [u8; 32] = digest(&SHA256, &from_hex(SPKI)).as_ref().try_into().unwrap();
        let issue =
            || Certificate::issue(&authority, Subject::TlsKey(&spki_hash), 1_700_000_000, 1_763_072_000);
        assert_eq!(hex(&extension_value(&issue())), EXTENSION);
        assert_eq!(issue(), issue(), "BIP340 signatures are deterministic");
    }

    #[test]
    fn the_oid_is_the_one_that_rcgen_writes() {
        let extension = rcgen::CustomExtension::from_oid_content(&OID, vec![0x05, 0x00]);
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions.push(extension);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let encoded = [&[0x06, 0x0a], &OID_DER[..]].concat();
        assert!(certificate.der().windows(encoded.len()).any(|window| window == encoded));
    }
}
