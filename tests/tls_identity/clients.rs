//! Miners that must show a certificate.

use std::sync::Arc;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::transport::client::{CertificateRefusal, ClientError, Device};
use blvm_stratum_v2::transport::tls::{Roots, TlsIdentity};
use blvm_stratum_v2::wire::url::Transport;

use super::served::*;

fn with(issued: &Issued) -> Device {
    let own = TlsIdentity::from_pem(issued.certificate.as_bytes(), issued.key.as_bytes()).unwrap();
    Device { certificate: Some(Arc::new(own)), ..Device::default() }
}

/// What the server at this URL has against a device's certificate.
async fn refusal(served: &Served, device: &Device) -> Option<CertificateRefusal> {
    match visit_with(&served.url(Transport::Quic), device, Roots::System).await {
        Ok(_) => None,
        Err(error @ ClientError::Certificate(refusal)) => {
            assert!(error.is_lasting());
            assert!(error.to_string().contains("ask the pool for"), "{error}");
            Some(refusal)
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_the_pools_own_opens_the_door() {
    let (ca, other) = (Ca::named("pool"), Ca::named("somebody"));
    let mut served = Served::prepared();
    served.options.client_ca = Some(served.write("clients.pem", &ca.pem));
    served.start().await;
    assert_eq!(refusal(&served, &with(&ca.issue(&["miner"]))).await, None);
    let none = refusal(&served, &Device::default()).await;
    assert_eq!(none, Some(CertificateRefusal::Missing));
    assert!(CertificateRefusal::Missing.to_string().contains("wants a client certificate"));
    let stranger = refusal(&served, &with(&other.issue(&["miner"]))).await;
    assert_eq!(stranger, Some(CertificateRefusal::UnknownCa));
    let expired = refusal(&served, &with(&ca.issue_until(&["miner"], unix_now() - DAY))).await;
    assert_eq!(expired, Some(CertificateRefusal::Expired));
    // what Noise does not have it does not ask for
    visit(&served.url(Transport::Tcp)).await.unwrap();
}

#[tokio::test]
async fn it_is_asked_for_from_then_on() {
    let (ca, other) = (Ca::named("pool"), Ca::named("somebody"));
    let mut served = Served::prepared();
    served.start().await;
    // one who has a certificate may show it to nobody
    let device = with(&ca.issue(&["miner"]));
    assert_eq!(refusal(&served, &device).await, None);
    assert_eq!(refusal(&served, &Device::default()).await, None);
    served.options.client_ca = Some(served.write("clients.pem", &ca.pem));
    served.swap();
    assert_eq!(refusal(&served, &device).await, None);
    assert_eq!(refusal(&served, &Device::default()).await, Some(CertificateRefusal::Missing));
    served.write("clients.pem", &other.pem);
    served.swap();
    assert_eq!(refusal(&served, &device).await, Some(CertificateRefusal::UnknownCa));
    served.options.client_ca = None;
    served.swap();
    assert_eq!(refusal(&served, &Device::default()).await, None);
}
