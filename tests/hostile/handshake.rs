//! Before there is a connection.

use std::time::{Duration, Instant};

use blvm_stratum_v2::server::Options;
use blvm_stratum_v2::wire::noise::ACT2_LEN;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::interval;

use crate::house::honest::Honest;
use crate::house::{House, frame_of, soon};
use crate::raw::{End, Raw, connect, noise, setup};

const LIMIT: Duration = Duration::from_secs(2);
const BETWEEN_BYTES: Duration = Duration::from_millis(100);

fn impatient(options: &mut Options) {
    options.handshake_timeout = LIMIT;
    options.pool.session.setup_timeout = LIMIT;
    options.pool.session.open_timeout = LIMIT;
}

#[tokio::test]
async fn what_is_no_handshake_ends() {
    let house = House::server(impatient).await;
    let mut honest = Honest::at(&house).await;
    let request =
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody who is lost\r\nAccept: */*\r\n\r\n";
    let hello = [&[0x16, 3, 1, 0, 0xf4, 1, 0, 0, 0xf0, 3, 3][..], &noise(300, 1)].concat();
    let cases: [&[u8]; 7] = [&[], &[0; 63], &noise(63, 2), &[0; 64], &noise(64, 3), request, &hello];
    let started = Instant::now();
    let mut streams = Vec::new();
    for sent in cases {
        let mut stream = connect(&house).await.unwrap();
        stream.write_all(sent).await.unwrap();
        streams.push(stream);
    }
    honest
        .mines_during(async {
            for (mut stream, sent) in streams.into_iter().zip(cases) {
                let mut answer = Vec::new();
                let _ = soon("the server closes", stream.read_to_end(&mut answer)).await;
                // any 64 bytes are a key, and whether it is the peer's shows later
                assert_eq!(answer.len(), if sent.len() < 64 { 0 } else { ACT2_LEN }, "{sent:02x?}");
                assert!(started.elapsed() >= LIMIT, "closed before its time: {sent:02x?}");
            }
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}

/// Sends one byte at a time until the server has enough of it. Returns how many it sent.
async fn dribble(mut raw: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) -> usize {
    let mut sent = 0;
    let mut pace = interval(BETWEEN_BYTES);
    let mut heard = [0; 64];
    soon("the server closes", async {
        loop {
            tokio::select! {
                _ = pace.tick() => match bytes.get(sent) {
                    Some(byte) if raw.write_all(&[*byte]).await.is_err() => return sent,
                    Some(_) => sent += 1,
                    None => panic!("all was taken"),
                },
                read = raw.read(&mut heard) => match read {
                    Ok(0) | Err(_) => return sent,
                    Ok(_) => panic!("answered before the end"),
                },
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_dribbled_handshake_ends() {
    let house = House::server(impatient).await;
    let mut honest = Honest::at(&house).await;
    let stream = connect(&house).await.unwrap();
    let sent = honest.mines_during(dribble(stream, &noise(64, 1))).await;
    assert!(sent > 1, "one byte at a time is taken");
}

#[tokio::test]
async fn a_dribbled_setup_ends() {
    let house = House::server(impatient).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::at(&house).await;
    let sealed = raw.seal(&frame_of(&setup()));
    let sent = honest.mines_during(dribble(raw.stream, &sealed)).await;
    assert!(sent > 1, "one byte at a time is taken");
    house.has_connections(1).await;
}

#[tokio::test]
async fn a_dribbled_opening_ends() {
    let house = House::server(impatient).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    let sealed = raw.seal(&frame_of(&crate::raw::open(1)));
    honest.mines_during(dribble(raw.stream, &sealed)).await;
    house.has_connections(1).await;
}

#[tokio::test]
async fn silence_after_the_handshake_ends() {
    let house = House::server(impatient).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::at(&house).await;
    let started = Instant::now();
    let (frames, end) = honest.mines_during(raw.rest()).await;
    assert_eq!((frames.len(), end), (0, End::Eof));
    assert!(started.elapsed() >= LIMIT / 2);
    house.has_connections(1).await;
}

#[tokio::test]
async fn connections_that_are_reset_leave_nothing() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    honest
        .mines_during(async {
            for turn in 0..500 {
                let mut stream = connect(&house).await.unwrap();
                let sent = noise(turn % 80, 1);
                stream.write_all(&sent).await.unwrap();
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}
