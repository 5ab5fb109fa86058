//! A QUIC server that follows a script, message by message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::transport::tls::TlsIdentity;
use blvm_stratum_v2::wire::codec::{B032, Str255};
use blvm_stratum_v2::wire::common::SetupConnectionSuccess;
use blvm_stratum_v2::wire::mining::{
    CloseChannel, NewMiningJob, OpenStandardMiningChannelSuccess, SetNewPrevHash,
};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, RequestId, U256};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::oneshot;

use super::fakes::Fake;
use super::support::authority;

/// Opens a channel for everyone, gives it work that nobody can do, then closes the channel: by
/// CloseChannel or, every other time, by the end of its stream.
pub(crate) fn closes_channels() -> Fake {
    Fake::quic(tls(), |connection, visit| async move {
        // a client that goes away ends the script
        let _streams = script(&connection, visit).await;
        connection.closed().await;
    })
}

/// Opens a channel and ends it, and tells when the client has ended its half too.
pub(crate) fn ends_a_channel() -> (Fake, oneshot::Receiver<()>) {
    let (ended, told) = oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let fake = Fake::quic(tls(), move |connection, visit| {
        let ended = ended.clone();
        async move {
            if let Some(mut streams) = script(&connection, visit).await
                && streams.open.read_to_end(1024).await.is_ok()
            {
                let told = ended.lock().unwrap().take().map(|ended| ended.send(()));
                told.unwrap().unwrap();
            }
            connection.closed().await;
        }
    });
    (fake, told)
}

fn tls() -> Arc<rustls::ServerConfig> {
    let now = unix_now();
    TlsIdentity::issue(&authority(1), now - 3600, now + 3600).unwrap().server_config().unwrap()
}

struct Streams {
    /// What the client says on the channel's stream.
    open: RecvStream,
    /// These would end if they were dropped.
    _others: (SendStream, RecvStream, SendStream),
}

/// Until the channel is closed.
async fn script(connection: &Connection, visit: usize) -> Option<Streams> {
    let (mut control, mut setup) = connection.accept_bi().await.ok()?;
    setup.read(&mut [0; 1024]).await.ok()?;
    say(&mut control, &SetupConnectionSuccess { used_version: 2, flags: 0 }).await?;
    let (mut channel, mut open) = connection.accept_bi().await.ok()?;
    open.read(&mut [0; 1024]).await.ok()?;
    let mut push = connection.open_uni().await.ok()?;
    let (channel_id, job_id) = (ChannelId(2), JobId(1));
    let opened = OpenStandardMiningChannelSuccess {
        request_id: RequestId(1),
        channel_id,
        target: U256([0; 32]),
        extranonce_prefix: B032::default(),
        group_channel_id: ChannelId(1),
    };
    say(&mut push, &opened).await?;
    let merkle_root = U256([1; 32]);
    say(&mut push, &NewMiningJob { channel_id, job_id, min_ntime: None, version: 0x2000_0000, merkle_root })
        .await?;
    let (prev_hash, min_ntime, nbits) = (U256([2; 32]), unix_now(), 0x1d00_ffff);
    say(&mut push, &SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    if visit.is_multiple_of(2) {
        let reason_code = Str255::truncated("enough");
        say(&mut channel, &CloseChannel { channel_id, reason_code }).await?;
    }
    channel.finish().ok()?;
    Some(Streams { open, _others: (control, setup, push) })
}

async fn say<'m>(to: &mut SendStream, message: &impl Message<'m>) -> Option<()> {
    let mut frame = Vec::new();
    message.encode(&mut frame).unwrap();
    to.write_all(&frame).await.ok()
}
