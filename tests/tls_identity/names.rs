//! Several certificates on one address, shown by the name that is asked for.

use blvm_stratum_v2::certs::Pair;
use blvm_stratum_v2::transport::client::{ClientError, Device};
use blvm_stratum_v2::transport::tls::{IdentityError, Proof, TlsIdentity};
use blvm_stratum_v2::wire::url::{Transport, Trust};

use super::served::*;

#[tokio::test]
async fn by_key_by_name_and_by_pin() {
    let ca = Ca::named("web");
    let mut served = Served::prepared();
    let named = ca.issue(&["localhost"]);
    served.options.more.push(Pair {
        certificate: served.write("named.pem", named.certificate.clone() + &ca.pem),
        key: served.write("named.key", &named.key),
    });
    served.start().await;
    let by = |host: &str, trust: &Trust| {
        let url = served.url_by(host, trust.clone());
        let roots = ca.roots();
        async move { visit_with(&url, &Device::default(), roots).await.map(|(_, verified)| verified.by) }
    };
    // the name is not asked for by those who trust the key: both find theirs
    let authority = Trust::Authority(served.authority.public_key());
    assert_eq!(by("localhost", &authority).await.unwrap(), Proof::AuthorityKey);
    assert_eq!(by("localhost", &Trust::WebPki).await.unwrap(), Proof::WebPki);
    assert_eq!(by("127.0.0.1", &authority).await.unwrap(), Proof::AuthorityKey);
    // an address is no name to ask for
    let error = by("127.0.0.1", &Trust::WebPki).await.unwrap_err();
    assert!(matches!(error, ClientError::Identity(IdentityError::WebPki(_))), "{error:?}");

    let pin = |certificate: &str, key: &str| {
        Trust::Pins(vec![TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap().spki_hash()])
    };
    let read = |name: &str| std::fs::read_to_string(served.options.directory.join(name)).unwrap();
    let (of_first, of_named) = (pin(&read("tls.pem"), &read("tls.key")), pin(&named.certificate, &named.key));
    assert_eq!(by("localhost", &of_named).await.unwrap(), Proof::Pin);
    assert_eq!(by("127.0.0.1", &of_first).await.unwrap(), Proof::Pin);
    for (host, other) in [("localhost", &of_first), ("127.0.0.1", &of_named)] {
        let error = by(host, other).await.unwrap_err();
        assert!(matches!(error, ClientError::Identity(IdentityError::NotPinned { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn whichever_pair_is_the_first() {
    let ca = Ca::named("web");
    let mut served = Served::prepared();
    let named = ca.issue(&["localhost"]);
    let first = Pair {
        certificate: served.write("named.pem", &named.certificate),
        key: served.write("named.key", &named.key),
    };
    served.options.more = vec![std::mem::replace(&mut served.options.first, first)];
    served.start().await;
    let key = Trust::Authority(served.authority.public_key());
    assert_eq!(served.url(Transport::Quic).trust, key);
    for (host, trust, proof) in [
        ("127.0.0.1", &key, Proof::AuthorityKey),
        ("localhost", &key, Proof::AuthorityKey),
        ("localhost", &Trust::WebPki, Proof::WebPki),
    ] {
        let url = served.url_by(host, trust.clone());
        let (_, verified) = visit_with(&url, &Device::default(), ca.roots()).await.unwrap();
        assert_eq!(verified.by, proof, "{host}");
    }
}

#[tokio::test]
async fn names_come_and_go_while_it_runs() {
    let ca = Ca::named("web");
    let mut served = Served::prepared();
    served.start().await;
    let url = served.url_by("localhost", Trust::WebPki);
    let by_name = || visit_with(&url, &NOBODY, ca.roots());
    static NOBODY: std::sync::LazyLock<Device> = std::sync::LazyLock::new(Device::default);
    by_name().await.unwrap_err();
    let named = ca.issue(&["localhost"]);
    served.options.more.push(Pair {
        certificate: served.write("named.pem", &named.certificate),
        key: served.write("named.key", &named.key),
    });
    let swap = served.swap();
    assert!(swap.told.iter().any(|line| line.contains("named.pem")), "{:?}", swap.told);
    by_name().await.unwrap();
    served.options.more.clear();
    served.swap();
    by_name().await.unwrap_err();
}
