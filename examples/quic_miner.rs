//! A QUIC miner of its own on the library's client: connects, opens a standard channel, looks for
//! nonces and submits them.
//!
//! `cargo run --release --example quic_miner -- URL [USER [SHARES]]`, with the stratum2+quic:// URL
//! that `run` prints. (With the other one it mines over TCP: nothing below differs.)

use std::error::Error;
use std::time::Duration;

use blvm_stratum_v2::miner::assignment::{Assignment, Assignments};
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::{RequestId, SequenceNumber, U256};
use tokio::time::timeout;

/// What one core of a laptop does, more or less.
const HASHRATE: f32 = 2e6;
/// Nonces to try between two looks at what the server has to say.
const STRIDE: u32 = 200_000;

// Several threads: QUIC acknowledges and keeps alive on others while this one hashes.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: quic_miner URL [USER [SHARES]]")?.parse()?;
    let user = args.next().unwrap_or_else(|| "example.quic_miner".to_owned());
    let goal: u32 = args.next().map_or(Ok(u32::MAX), |shares| shares.parse())?;

    // The device cannot take extended jobs: all work comes as NewMiningJob.
    let device = Device { flags: REQUIRES_STANDARD_JOBS, vendor: "example".to_owned(), ..Device::default() };
    let mut client = Client::connect(&url, &device).await?;
    // Over QUIC this goes out right behind SetupConnection, whose answer is not waited for.
    client.queue(&OpenStandardMiningChannel {
        request_id: RequestId(1),
        user_identity: Str255::new(&user)?,
        nominal_hash_rate: HASHRATE,
        max_target: U256([0xff; 32]),
    })?;
    let (channel_id, target) = match client.next().await? {
        Mining::OpenStandardMiningChannelSuccess(m) => (m.channel_id, m.target),
        Mining::OpenMiningChannelError(m) => return Err(m.error_code.to_string().into()),
        _ => return Err("the server opened no channel".into()),
    };
    println!("channel {channel_id} over {} with target {target:?}", client.transport());

    let mut assignments = Assignments::new(channel_id, target.into());
    let (mut nonce, mut sequence, mut accepted) = (0, 0, 0);
    while accepted < goal {
        // Whatever the server has said meanwhile comes first.
        while let Ok(message) = timeout(Duration::from_millis(1), client.next()).await {
            match message? {
                Mining::SubmitSharesSuccess(m) => {
                    accepted += m.new_submits_accepted_count;
                    println!("accepted: {accepted}");
                }
                Mining::SubmitSharesError(m) => println!("refused: {}", m.error_code),
                message if assignments.handle(&message) => nonce = 0,
                _ => {}
            }
        }
        let Some(assignment) = assignments.current() else { continue };
        if let Some(found) = search(assignment, nonce) {
            nonce = found;
            sequence += 1;
            client.queue(&SubmitSharesStandard {
                channel_id,
                sequence_number: SequenceNumber(sequence),
                job_id: assignment.job_id,
                nonce,
                ntime: assignment.ntime,
                version: assignment.version,
            })?;
            nonce = nonce.saturating_add(1);
        } else {
            // at the end it waits for the next job
            nonce = nonce.saturating_add(STRIDE);
        }
    }
    client.close().await;
    Ok(())
}

/// The first of the next nonces whose hash meets the target.
fn search(assignment: &Assignment, from: u32) -> Option<u32> {
    let mut header = assignment.header();
    (from..from.saturating_add(STRIDE)).find(|nonce| {
        header[76..80].copy_from_slice(&nonce.to_le_bytes());
        assignment.target.is_met_by(&sha256d(&header))
    })
}
