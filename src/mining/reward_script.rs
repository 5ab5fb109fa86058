//! Where a reward goes, as people write it: an address or an output descriptor.

use bitcoin::address::NetworkUnchecked;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Network, NetworkKind, ScriptBuf};
use miniscript::descriptor::checksum::verify_checksum;
use miniscript::descriptor::{Descriptor, XKeyNetwork};

/// Why a text does not say where a reward shall go. No variant repeats a text that may hold a
/// private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Neither checksum nor shape is that of an address.
    #[error("not a bitcoin address: {0}")]
    NotAnAddress(String),
    /// The address belongs to other networks.
    #[error("the address is for {found}, but this server mines on {expected}")]
    WrongNetwork {
        /// The networks on which the address is valid.
        found: String,
        /// The network it should be for.
        expected: Network,
    },
    /// The address's kind is one that this version does not know, and anybody could spend from.
    #[error(
        "nobody owns what is paid to this kind of address (an unknown witness version, or pay-to-anchor)"
    )]
    NotOwned,
    /// The text is not an output descriptor either.
    #[error("not an address, addr(ADDRESS) or output descriptor: {0}")]
    NotADescriptor(String),
    /// A descriptor of another kind.
    #[error("only pkh(), wpkh(), sh(), wsh() and tr() descriptors are paid to")]
    UnsupportedDescriptor,
    /// The descriptor can be spent from in a way that its owner may not have meant.
    #[error("the descriptor is not safe to use: {0}")]
    Unsafe(String),
    /// The descriptor holds a private key.
    #[error("the descriptor holds a private key, which has no place here: give the public key (xpub..)")]
    PrivateKey,
    /// The descriptor ends in `/*`.
    #[error("the descriptor stands for a range of scripts: replace its * by a number")]
    Ranged,
    /// The descriptor has a step such as `<0;1>`.
    #[error("the descriptor stands for several scripts: choose one of its paths, as /0 instead of /<0;1>")]
    Multipath,
    /// An extended public key is to be derived by a hardened step.
    #[error("a hardened step (h or ') cannot be derived from a public key: derive it first")]
    Hardened,
    /// An extended key belongs to other networks.
    #[error("the descriptor's extended keys are for {found}, but this server mines on {expected}")]
    WrongKeyNetwork {
        /// The networks for which the keys are.
        found: &'static str,
        /// The network they should be for.
        expected: Network,
    },
}

/// Reads an operator's `coinbase_reward_script`: a bare address, `addr(ADDRESS)`, or an output
/// descriptor (BIP380) that stands for one script, with or without its checksum.
pub fn parse(text: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    let text = text.trim();
    if !text.contains('(') {
        return parse_address(text, network);
    }
    match text.strip_prefix("addr(") {
        Some(_) => {
            let inner = verify_checksum(text)
                .map_err(|error| ScriptError::NotADescriptor(error.to_string()))?
                .strip_prefix("addr(")
                .and_then(|rest| rest.strip_suffix(')'))
                .ok_or_else(|| ScriptError::NotADescriptor("addr( is not closed".to_owned()))?;
            parse_address(inner, network)
        }
        None => parse_descriptor(text, network),
    }
}

/// Reads an address of `network`.
pub fn parse_address(text: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    let address: Address<NetworkUnchecked> = text
        .parse()
        .map_err(|error: bitcoin::address::ParseError| ScriptError::NotAnAddress(chain(&error)))?;
    if !address.is_valid_for_network(network) {
        return Err(ScriptError::WrongNetwork { found: networks_of(&address), expected: network });
    }
    let address = address.assume_checked();
    match address.address_type() {
        None | Some(bitcoin::AddressType::P2a) => Err(ScriptError::NotOwned),
        Some(_) => Ok(address.script_pubkey()),
    }
}

fn parse_descriptor(text: &str, network: Network) -> Result<ScriptBuf, ScriptError> {
    // Reads private keys too, so that they are told from what is no key at all.
    let secp = Secp256k1::new();
    let (descriptor, secrets) = Descriptor::parse_descriptor(&secp, text).map_err(|error| {
        // Never quote what is almost a private key.
        if text.contains("prv") {
            ScriptError::PrivateKey
        } else {
            ScriptError::NotADescriptor(error.to_string())
        }
    })?;
    if !secrets.is_empty() {
        return Err(ScriptError::PrivateKey);
    }
    if let Descriptor::Bare(_) = descriptor {
        return Err(ScriptError::UnsupportedDescriptor);
    }
    if descriptor.is_multipath() {
        return Err(ScriptError::Multipath);
    }
    if descriptor.has_wildcard() {
        return Err(ScriptError::Ranged);
    }
    descriptor.sanity_check().map_err(|error| ScriptError::Unsafe(error.to_string()))?;
    let found = match descriptor.xkey_network() {
        XKeyNetwork::Single(kind) if kind != NetworkKind::from(network) => Some(match kind {
            NetworkKind::Main => "bitcoin",
            NetworkKind::Test => "the test networks",
        }),
        XKeyNetwork::Mixed => Some("both bitcoin and the test networks"),
        XKeyNetwork::Single(_) | XKeyNetwork::NoXKeys => None,
    };
    if let Some(found) = found {
        return Err(ScriptError::WrongKeyNetwork { found, expected: network });
    }
    // Without wildcard the index is of no consequence, and hardened steps are what is left to fail.
    let definite = descriptor.derived_descriptor(&secp, 0).map_err(|_| ScriptError::Hardened)?;
    Ok(definite.script_pubkey())
}

fn networks_of(address: &Address<NetworkUnchecked>) -> String {
    let all = [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
    let names = all.into_iter().filter(|network| address.is_valid_for_network(*network));
    names.map(|network| network.to_string()).collect::<Vec<_>>().join(" or ")
}

/// An error with its causes, which the bitcoin crate leaves out of its own messages.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const P2WPKH: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    const P2WPKH_TEST: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const OTHER_KEY: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    const WIF: &str = "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn";
    /// The account of BIP86's test vectors.
    const XPUB: &str = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ";
    const XPRV: &str = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi";

    fn on_mainnet(text: &str) -> Result<String, ScriptError> {
        let script = parse(text, Network::Bitcoin)?;
        Ok(Address::from_script(&script, Network::Bitcoin).unwrap().to_string())
    }

    fn refusal(text: &str) -> ScriptError {
        parse(text, Network::Bitcoin).unwrap_err()
    }

    #[test]
    fn addresses() {
        for text in [P2WPKH, &P2WPKH.to_uppercase(), &format!(" {P2WPKH}\n"), &format!("addr({P2WPKH})")] {
            assert_eq!(on_mainnet(text).as_deref(), Ok(P2WPKH));
        }
        for address in [
            "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH",
            "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN",
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        ] {
            assert_eq!(on_mainnet(address).as_deref(), Ok(address));
        }
    }

    #[test]
    fn descriptors() {
        for (text, address) in [
            (format!("wpkh({KEY})"), P2WPKH),
            (format!("pkh({KEY})"), "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"),
            (format!("sh(wpkh({KEY}))"), "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN"),
            (format!("tr({XPUB}/0/0)"), "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
        ] {
            assert_eq!(on_mainnet(&text).as_deref(), Ok(address), "{text}");
        }
        let multisig = parse(&format!("wsh(multi(1,{KEY},{OTHER_KEY}))"), Network::Regtest).unwrap();
        assert!(multisig.is_p2wsh());
    }

    #[test]
    fn checksums() {
        for body in [format!("wpkh({KEY})"), format!("addr({P2WPKH})")] {
            let mut engine = miniscript::descriptor::checksum::Engine::new();
            engine.input(&body).unwrap();
            let sum = engine.checksum();
            assert_eq!(on_mainnet(&format!("{body}#{sum}")).as_deref(), Ok(P2WPKH));
            assert!(matches!(refusal(&format!("{body}#qqqqqqqq")), ScriptError::NotADescriptor(_)));
        }
        assert!(matches!(refusal(&P2WPKH.replace("w5", "w6")), ScriptError::NotAnAddress(_)));
    }

    #[test]
    fn wrong_network() {
        for text in [P2WPKH_TEST, &format!("addr({P2WPKH_TEST})")] {
            assert_eq!(
                refusal(text).to_string(),
                "the address is for testnet or testnet4 or signet, but this server mines on bitcoin"
            );
        }
        assert_eq!(
            parse(P2WPKH, Network::Regtest).unwrap_err().to_string(),
            "the address is for bitcoin, but this server mines on regtest"
        );
        assert!(parse(P2WPKH_TEST, Network::Signet).is_ok());
        assert_eq!(
            parse(&format!("tr({XPUB}/0/0)"), Network::Regtest).unwrap_err().to_string(),
            "the descriptor's extended keys are for bitcoin, but this server mines on regtest"
        );
    }

    #[test]
    fn scripts_nobody_owns() {
        for address in ["bc1pfeessrawgf", "bc1sw50qgdz25j", "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs"] {
            assert_eq!(refusal(address), ScriptError::NotOwned, "{address}");
        }
    }

    #[test]
    fn descriptors_that_are_not_one_script() {
        assert_eq!(refusal(&format!("wpkh({XPUB}/0/*)")), ScriptError::Ranged);
        assert_eq!(refusal(&format!("wpkh({XPUB}/*h)")), ScriptError::Ranged);
        assert_eq!(refusal(&format!("wpkh({XPUB}/<0;1>/0)")), ScriptError::Multipath);
        assert_eq!(refusal(&format!("wpkh({XPUB}/0h)")), ScriptError::Hardened);
        assert_eq!(refusal(&format!("pk({KEY})")), ScriptError::UnsupportedDescriptor);
        assert!(matches!(refusal(&format!("wsh(pk({KEY})")), ScriptError::NotADescriptor(_)));
        assert!(matches!(refusal("wpkh()"), ScriptError::NotADescriptor(_)));
        assert!(matches!(refusal("addr(bc1q"), ScriptError::NotADescriptor(_)));
        assert!(matches!(refusal("wsh(older(1))"), ScriptError::Unsafe(_)), "anybody can spend it");
    }

    #[test]
    fn private_keys_are_refused_and_not_repeated() {
        for secret in [WIF, XPRV] {
            for text in [format!("wpkh({secret})"), format!("tr({secret})")] {
                assert_eq!(refusal(&text), ScriptError::PrivateKey, "{text}");
            }
            assert!(!refusal(secret).to_string().contains(&secret[..12]), "bare");
            let mistyped = format!("wpkh({}x)", &secret[..secret.len() - 1]);
            assert!(!refusal(&mistyped).to_string().contains(&secret[..12]), "{}", refusal(&mistyped));
        }
    }
}
