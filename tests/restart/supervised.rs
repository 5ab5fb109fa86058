//! A server that systemd has started: what it says at the socket NOTIFY_SOCKET.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::server::{Home, Server};

struct Systemd(UnixDatagram);

impl Systemd {
    fn at(home: &Home) -> Self {
        let socket = UnixDatagram::bind(home.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let len = self.0.recv(&mut message).expect("something is said");
        String::from_utf8(message[..len].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn systemd_is_told_how_it_goes() {
    let home = Home::new();
    let systemd = Systemd::at(&home);
    let server = Server::start(home.command(0).env("NOTIFY_SOCKET", home.path("notify")));
    let ready = systemd.hear();
    let status = ready.strip_prefix("READY=1\nSTATUS=").expect(&ready);
    assert!(status.contains(&server.quic.to_string()) && status.contains("stratum2+tcp://"), "{status}");
    assert_eq!(status.lines().count(), 1, "{status}");
    server.signal(&["HUP"]);
    let reloading = systemd.hear();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(time.trim_end().parse::<u64>().unwrap() > 0);
    assert_eq!(systemd.hear(), format!("{}; reloaded: nothing has changed\n", ready.trim_end()));
    server.signal(&["TERM"]);
    assert_eq!(systemd.hear(), "STOPPING=1\nSTATUS=stopping\n");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn the_watchdog_is_fed_twice_as_often_as_it_must_be() {
    let home = Home::new();
    let systemd = Systemd::at(&home);
    let every = Duration::from_millis(1000);
    let mut command = home.command(0);
    command.env("NOTIFY_SOCKET", home.path("notify")).env("WATCHDOG_USEC", every.as_micros().to_string());
    let _server = Server::start(&mut command);
    assert!(systemd.hear().starts_with("READY=1\n"));
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(systemd.hear(), "WATCHDOG=1\n");
    }
    // the first at once
    let took = began.elapsed();
    assert!((every..every * 10).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_systemd_that_is_gone_does_not_matter() {
    let home = Home::new();
    let server = Server::start(home.command(0).env("NOTIFY_SOCKET", home.path("nobody")));
    server.complains("cannot tell systemd");
    server.signal(&["TERM"]);
    assert!(server.ended().await.success());
}
