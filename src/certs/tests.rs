//! What is served, made and renewed, by what lies in a directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::transport::tls::{OID, TlsIdentity};
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use crate::wire::url::Trust;

const NOW: u32 = 1_800_000_000;
const DAY: u32 = 24 * 3600;
const YEAR: u32 = tls::VALIDITY / 2;

/// A directory, and what a configuration says about it.
struct Home {
    directory: tempfile::TempDir,
    options: Options,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certs = directory.path().join("certs");
        let options = Options {
            first: Options::usual_pair(&certs),
            directory: certs,
            more: Vec::new(),
            names: Vec::new(),
            client_ca: None,
            noise: true,
            noise_validity: Duration::from_secs(3600),
        };
        Self { directory, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.directory.join(name)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn start(&self, now: u32) -> Result<Started, CertsError> {
        Rotation::start(self.options.clone(), now)
    }

    fn texts(&self) -> [String; 2] {
        [tls::CERTIFICATE_FILE, tls::KEY_FILE].map(|name| self.read(name))
    }

    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(&self.options.directory) else { return Vec::new() };
        let mut all: Vec<_> = entries
            .map(|e| e.unwrap().path())
            .map(|p| (p.clone(), fs::read(p).unwrap_or_default()))
            .collect();
        all.sort();
        all
    }

    /// The error's text names these, and nothing has been changed.
    #[track_caller]
    fn refused(&self, now: u32, named: &[&str]) {
        let before = self.contents();
        let text = self.start(now).unwrap_err().to_string();
        for named in named {
            assert!(text.contains(named), "{named} in {text}");
        }
        assert_eq!(self.contents(), before);
    }

    /// The first pair is this one from now on.
    fn has(&self, pair: &Made) {
        self.write("tls.pem", &pair.certificate);
        self.write("tls.key", &pair.key);
    }

    fn has_first(&self, pair: &Made) {
        let Pair { certificate, key } = &self.options.first;
        fs::write(certificate, &pair.certificate).unwrap();
        fs::write(key, &pair.key).unwrap();
    }

    /// And so is one of the others.
    fn has_other(&self, index: usize, pair: &Made) {
        let Pair { certificate, key } = &self.options.more[index];
        fs::write(certificate, &pair.certificate).unwrap();
        fs::write(key, &pair.key).unwrap();
    }

    /// With certificates from elsewhere, for this long.
    fn from_elsewhere(days: u32) -> (Self, AuthoritySecretKey) {
        let home = Self::new();
        let authority = authority();
        make::make(&authority, &home.wanted(days), NOW).unwrap();
        (home, authority)
    }

    fn wanted(&self, days: u32) -> make::Wanted {
        make::Wanted {
            directory: self.options.directory.clone(),
            valid_for: Duration::from_secs((days * DAY).into()),
            names: Vec::new(),
            replace: false,
            keep_key: false,
        }
    }
}

fn authority() -> AuthoritySecretKey {
    AuthoritySecretKey::generate(&mut rand::rng())
}

/// A certificate that an operator got somewhere.
struct Made {
    certificate: String,
    key: String,
}

impl Made {
    fn pin(&self) -> String {
        TlsIdentity::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).unwrap().pin()
    }
}

fn params(names: &[&str], from: u32, until: u32) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let time = |unix: u32| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.into());
    (params.not_before, params.not_after) = (time(from), time(until));
    params
}

fn own_at(names: &[&str], from: u32, until: u32) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = params(names, from, until).self_signed(&key).unwrap().pem();
    Made { certificate, key: key.serialize_pem() }
}

/// Good for a year.
fn own(names: &[&str]) -> Made {
    own_at(names, NOW - DAY, NOW + YEAR)
}

fn told(lines: &[String], what: &str) -> bool {
    lines.iter().any(|line| line.contains(what))
}

#[track_caller]
fn offered(look: Look) -> Swap {
    match look {
        Look::Swapped(swap) => swap,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn swapped(rotation: &mut Rotation, home: &Home, now: u32) -> Swap {
    let swap = offered(rotation.look(&home.options, now));
    rotation.served(&swap);
    swap
}

#[track_caller]
fn bad(look: Look) -> (String, bool) {
    match look {
        Look::Bad { why, seen_before } => (why.to_string(), seen_before),
        other => panic!("{other:?}"),
    }
}

fn pins(rotation: &Rotation) -> Vec<String> {
    rotation.status(NOW).certificates.iter().map(|pair| pair.pin.clone()).collect()
}

#[test]
fn issued_once_and_then_loaded() {
    let home = Home::new();
    let made = home.start(NOW).unwrap();
    assert_eq!(made.parts.tls.trust, Trust::Authority(made.parts.authority));
    for name in ["authority.key", "endpoint.key", "tls.key"] {
        let mode = fs::metadata(home.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for line in ["made the authority key", "made the endpoint's secret", "until 2029-01-14"] {
        assert!(told(&made.told, line), "{line} in {:?}", made.told);
    }
    assert!(told(&made.told, "tls.pem: miners verify it by the authority key"), "{:?}", made.told);
    let before = home.contents();
    assert_eq!(before.len(), 5, "{before:?}");
    let again = home.start(NOW + YEAR - 3600).unwrap();
    assert!(!told(&again.told, "made") && !told(&again.told, "renewed"), "{:?}", again.told);
    assert_eq!(pins(&again.rotation), pins(&made.rotation));
    assert_eq!(home.contents(), before);
    assert_eq!((made.problems.len(), again.problems.len()), (0, 0));
}

#[test]
fn renewed_with_the_same_key_when_half_is_over() {
    // also after a clock that was ahead has been set back
    for now in [NOW + YEAR + 3600, NOW + 2 * YEAR + 3600, NOW + 6 * YEAR, NOW - 2 * 3600] {
        let home = Home::new();
        let made = home.start(NOW).unwrap();
        let [certificate, key] = home.texts();
        let renewed = home.start(now).unwrap();
        assert!(told(&renewed.told, "renewed the TLS certificate"), "{:?}", renewed.told);
        assert!(renewed.problems.is_empty(), "{:?}", renewed.problems);
        let report = &renewed.rotation.status(NOW).certificates[0];
        assert_eq!((report.valid_from, report.valid_until), (now - 3600, now + 2 * YEAR));
        assert_eq!(pins(&renewed.rotation), pins(&made.rotation));
        assert_ne!(home.texts()[0], certificate);
        assert_eq!(home.texts()[1], key);
        assert!(!told(&home.start(now).unwrap().told, "renewed"));
        assert_eq!(home.contents().len(), 5);
    }
}

#[test]
fn a_certificate_is_made_for_a_lone_key_and_no_key_for_a_lone_certificate() {
    let home = Home::new();
    let made = home.start(NOW).unwrap();
    let [_, key] = home.texts();
    fs::remove_file(home.path("tls.pem")).unwrap();
    let report = Report::inspect(&home.options, NOW);
    assert_eq!((&report.to_be_made[..], report.problems.len()), (&[home.path("tls.pem")][..], 0));
    let mut rotation = made.rotation;
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("tls.pem is missing") && why.contains("restart the server"), "{why}");
    let again = home.start(NOW).unwrap();
    assert!(told(&again.told, "tls.pem, with the key that was there"), "{:?}", again.told);
    assert_eq!((pins(&again.rotation), &home.texts()[1]), (pins(&rotation), &key));
    assert_eq!(home.contents().len(), 5);

    fs::remove_file(home.path("tls.pem")).unwrap();
    home.write("tls.key", "damaged");
    home.refused(NOW, &["cannot make", "tls.pem", "its key away"]);
    assert!(told(&Report::inspect(&home.options, NOW).problems, "cannot make"));
    home.write("tls.key", key);
    home.start(NOW).unwrap();
    fs::remove_file(home.path("tls.key")).unwrap();
    home.refused(NOW, &["tls.key is missing", "tls.pem away to have both made anew"]);
}

#[test]
fn another_authoritys_certificate_is_left_alone() {
    // whether or not it would be due
    for now in [NOW, NOW + 4 * YEAR] {
        let (home, other) = (Home::new(), Home::new());
        home.start(NOW).unwrap();
        other.start(NOW).unwrap();
        for name in ["tls.pem", "tls.key"] {
            home.write(name, other.read(name));
        }
        let named = ["tls.pem is signed by another", "restore", "authority.key", "tls.key away"];
        home.refused(now, &named);
    }
}

#[test]
fn an_operators_own_certificate_is_served_as_it_is() {
    let home = Home::new();
    home.start(NOW).unwrap();
    let own = own(&["pool.example"]);
    home.has(&own);
    let texts = home.texts();
    let started = home.start(NOW + YEAR - DAY).unwrap();
    assert_eq!(home.texts(), texts);
    assert!(told(&started.told, &format!("?pin={}", own.pin())), "{:?}", started.told);
    assert!(matches!(started.parts.tls.trust, Trust::Pins(_)));
    let report = started.rotation.status(NOW);
    assert!(!report.certificates[0].by_authority && !report.certificates[0].renewed_by_server);
    assert_eq!(report.certificates[0].names, ["pool.example"]);
}

#[test]
fn what_does_not_fit_is_named_and_left_alone() {
    let home = Home::new();
    home.start(NOW).unwrap();
    let [certificate, key] = home.texts();
    let both = ["tls.pem and ", "tls.key cannot be used", "move both away to have both made anew"];
    home.write("tls.pem", "damaged");
    home.refused(NOW, &both);
    home.write("tls.pem", &certificate);
    home.write("tls.key", "damaged");
    home.refused(NOW, &both);
    let other = Home::new();
    other.start(NOW).unwrap();
    home.write("tls.key", &other.texts()[1]);
    home.refused(NOW, &both);
    home.write("tls.key", key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&OID, vec![5, 0]));
    home.has(&Made { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() });
    home.refused(NOW, &["tls.pem and ", "cannot be read", "move both away"]);
}

#[test]
fn the_key_is_there_before_its_certificate() {
    let home = Home::new();
    fs::create_dir(home.path("")).unwrap();
    // a link to nowhere reads as absent, and cannot be replaced by a new file
    symlink("nowhere", home.path("tls.pem")).unwrap();
    assert!(matches!(home.start(NOW), Err(CertsError::Exists(at)) if at.ends_with("tls.pem")));
    assert!(home.path("tls.key").exists());
}

#[test]
fn files_at_another_place_are_never_made() {
    let mut home = Home::new();
    home.options.first = Pair { certificate: home.beside("ca.pem"), key: home.beside("ca.key") };
    home.options.more = vec![Pair { certificate: home.beside("b.pem"), key: home.beside("b.key") }];
    home.options.client_ca = Some(home.beside("clients.pem"));
    let text = home.start(NOW).unwrap_err().to_string();
    // all at once
    for key in ["tls.cert_path", "tls.certificate[0].cert_path", "tls.client_ca_path", "ca.pem is missing"] {
        assert!(text.contains(key), "{key} in {text}");
    }
    assert!(!home.beside("ca.pem").exists());
    fs::write(home.beside("ca.pem"), own(&["a.example"]).certificate).unwrap();
    assert!(home.start(NOW).unwrap_err().to_string().contains("ca.key is missing (tls.key_path)"));
}

#[test]
fn what_was_made_elsewhere_is_served_without_the_secret() {
    let (home, authority) = Home::from_elsewhere(90);
    let public = authority.public_key();
    let started = home.start(NOW + 89 * DAY).unwrap();
    assert_eq!((started.parts.authority, &started.parts.tls.trust), (public, &Trust::Authority(public)));
    let noise = started.parts.noise.unwrap();
    let shown = noise.at(NOW, &mut rand::rng());
    assert_eq!(shown.certificate().not_valid_after(), NOW + 90 * DAY);
    assert!(!home.path("authority.key").exists(), "no secret is made");
    assert!(started.problems.is_empty(), "{:?}", started.problems);
    let soon = started.rotation.expiring(NOW + 89 * DAY);
    assert_eq!(soon.len(), 2, "{soon:?}");
    for (line, name) in soon.iter().zip(["tls.pem expires at 2027-04-15", "noise.pem expires at 2027-04-15"])
    {
        assert!(line.contains(name) && line.contains("cert new"), "{line}");
    }
    // loud, but served: over TCP nobody may care, and the clock may be wrong
    let late = home.start(NOW + 91 * DAY).unwrap();
    assert_eq!(late.problems.len(), 2, "{:?}", late.problems);
    assert!(told(&late.problems, "tls.pem has expired") && told(&late.problems, "noise.pem has expired"));
    assert_eq!(late.parts.tls.trust, Trust::Authority(public));
}

#[test]
fn without_the_secret_what_is_missing_is_to_be_made_elsewhere() {
    let (mut home, authority) = Home::from_elsewhere(90);
    let noise = home.read("noise.pem");
    fs::remove_file(home.path("noise.pem")).unwrap();
    home.refused(NOW, &["noise.pem is missing", "cert new", "noise.enabled"]);
    home.options.noise = false;
    assert!(home.start(NOW).unwrap().parts.noise.is_none());
    home.options.noise = true;
    make::make(&self::authority(), &make::Wanted { directory: home.beside("o"), ..home.wanted(1) }, NOW)
        .unwrap();
    home.write("noise.pem", fs::read(home.beside("o/noise.pem")).unwrap());
    home.refused(NOW, &["noise.pem is not vouched for by the authority key"]);
    home.write("noise.pem", noise);
    home.start(NOW).unwrap();
    fs::remove_file(home.path("tls.pem")).unwrap();
    home.refused(NOW, &["tls.pem is missing", "in their place"]);
    fs::remove_file(home.path("tls.key")).unwrap();
    home.refused(NOW, &["tls.pem", "tls.key", "cert new", "tls.cert_path"]);
    assert!(!home.path("authority.key").exists());
    drop(authority);
}

#[test]
fn with_the_secret_noise_pem_is_left_alone() {
    let home = Home::new();
    home.start(NOW).unwrap();
    home.write("noise.pem", "whatever");
    let started = home.start(NOW).unwrap();
    let shown = started.parts.noise.unwrap().at(NOW, &mut rand::rng());
    assert_eq!(shown.certificate().not_valid_after(), NOW + 3600);
    assert_eq!(home.read("noise.pem"), "whatever");
}

#[test]
fn a_look_sees_another_pair_once() {
    let home = Home::new();
    home.start(NOW).unwrap();
    home.has(&own(&["pool.example"]));
    let mut rotation = home.start(NOW).unwrap().rotation;
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    let (before, next) = (pins(&rotation), own(&["pool.example", "other.example"]));
    home.has(&next);
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(
        told(&swap.told, "new connections are shown") && told(&swap.told, &next.pin()),
        "{:?}",
        swap.told
    );
    let hash = TlsIdentity::from_pem(next.certificate.as_bytes(), next.key.as_bytes()).unwrap().spki_hash();
    assert_eq!(swap.tls.trust, Trust::Pins(vec![hash]));
    assert_eq!(pins(&rotation), [next.pin()]);
    assert!(told(&swap.told, "tls.pem: miners verify it as a web server's"), "{:?}", swap.told);
    assert!(told(&swap.told, " in their URL. The authority key has not signed it"), "{:?}", swap.told);
    // who has the old pin must be told
    assert!(told(&swap.warnings, &before[0]) && told(&swap.warnings, &next.pin()), "{:?}", swap.warnings);
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
}

#[test]
fn what_is_half_written_is_bad_until_it_is_whole() {
    let home = Home::new();
    home.start(NOW).unwrap();
    let (one, next) = (own(&["pool.example"]), own(&["pool.example"]));
    home.has(&one);
    let mut rotation = home.start(NOW).unwrap().rotation;
    home.write("tls.pem", &next.certificate[..next.certificate.len() / 2]);
    let (why, seen_before) = bad(rotation.look(&home.options, NOW));
    assert!(!seen_before && why.contains("tls.pem"), "{why}");
    home.write("tls.pem", &next.certificate);
    let (why, seen_before) = bad(rotation.look(&home.options, NOW));
    assert!(!seen_before && why.contains("do not belong together"), "{why}");
    assert!(bad(rotation.look(&home.options, NOW)).1, "the same again");
    assert_eq!(pins(&rotation), [one.pin()]);
    // what comes back is new again
    home.has(&one);
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    home.write("tls.key", &next.key);
    assert!(!bad(rotation.look(&home.options, NOW)).1);
    fs::remove_file(home.path("tls.key")).unwrap();
    let (why, seen_before) = bad(rotation.look(&home.options, NOW));
    assert!(!seen_before && why.contains("tls.key is missing"), "{why}");
    assert!(bad(rotation.look(&home.options, NOW)).1);
    assert!(!home.path("tls.key").exists(), "nothing is made while running");
    home.has(&next);
    swapped(&mut rotation, &home, NOW);
    assert_eq!(pins(&rotation), [next.pin()]);
}

#[test]
fn what_is_worse_is_not_taken() {
    let mut home = Home::new();
    home.start(NOW).unwrap();
    let good = own(&["pool.example", "*.wild.example", "192.0.2.1"]);
    home.has(&good);
    let mut rotation = home.start(NOW).unwrap().rotation;
    let names = ["pool.example", "*.wild.example", "192.0.2.1"];
    let worse = [
        (own_at(&names, NOW - 2 * DAY, NOW - DAY), "tls.pem has expired at 2027-01-14"),
        (own_at(&names, NOW + DAY, NOW + 2 * DAY), "tls.pem is not valid before 2027-01-16"),
        (own(&["pool.example", "192.0.2.1"]), "is not for *.wild.example, as the one in use is"),
        (own(&["*.wild.example", "192.0.2.1"]), "is not for pool.example"),
        (own(&["pool.example", "*.wild.example"]), "is not for 192.0.2.1"),
        (own(&["elsewhere.example"]), "restart the server if this is wanted"),
    ];
    for (worse, why) in &worse {
        home.has(worse);
        let (said, _) = bad(rotation.look(&home.options, NOW));
        assert!(said.contains(why), "{why} in {said}");
        assert_eq!(pins(&rotation), [good.pin()], "{why}");
    }
    // that it is wanted can be said in the configuration, too
    home.options.names = vec!["elsewhere.example".to_owned()];
    swapped(&mut rotation, &home, NOW);
    home.has(&good);
    let (said, _) = bad(rotation.look(&home.options, NOW));
    assert!(said.contains("is not for elsewhere.example (tls.names)"), "{said}");
    // time goes on
    home.options.names.clear();
    home.has(&own_at(&["elsewhere.example"], NOW + DAY, NOW + 2 * DAY));
    bad(rotation.look(&home.options, NOW));
    swapped(&mut rotation, &home, NOW + DAY);
}

#[test]
fn names_are_demanded_at_the_start_too() {
    let mut home = Home::new();
    home.start(NOW).unwrap();
    home.has(&own(&["*.pool.example", "2001:db8::1"]));
    let problems = |home: &Home| home.start(NOW).unwrap().problems;
    home.options.names = ["a.pool.example", "2001:db8::1"].map(str::to_owned).to_vec();
    assert!(problems(&home).is_empty());
    home.options.names = ["pool.example", "a.pool.example", "192.0.2.1"].map(str::to_owned).to_vec();
    let said = problems(&home);
    assert!(
        told(&said, "is not for pool.example and 192.0.2.1 (tls.names), but for *.pool.example"),
        "{said:?}"
    );
}

#[test]
fn the_authoritys_word_is_not_lost() {
    let home = Home::new();
    let mut rotation = home.start(NOW).unwrap().rotation;
    home.has(&own(&["sv2.invalid"]));
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("every miner with the key in its URL would refuse it; restart"), "{why}");
    // another key is no loss to those that have the authority's
    let wanted = make::Wanted { directory: home.beside("made"), ..home.wanted(700) };
    let secret = authority::load_secret(&home.path("authority.key")).unwrap();
    make::make(&secret, &wanted, NOW).unwrap();
    for name in ["tls.pem", "tls.key"] {
        fs::copy(home.beside("made").join(name), home.path(name)).unwrap();
    }
    let before = pins(&rotation);
    let swap = swapped(&mut rotation, &home, NOW);
    let new_pin = format!("?pin={} in their URL need ?pin={}", before[0], pins(&rotation)[0]);
    assert_eq!(swap.warnings.len(), 1, "{:?}", swap.warnings);
    for part in [&new_pin[..], "those with the authority key do not notice"] {
        assert!(told(&swap.warnings, part), "{part} in {:?}", swap.warnings);
    }
}

/// With a pair of the authority's among the others.
fn with_others(names: &[&[&str]]) -> Home {
    let mut home = Home::new();
    home.start(NOW).unwrap();
    for (index, names) in names.iter().enumerate() {
        let name = |end| home.path(&format!("{index}.{end}"));
        let pair = Pair { certificate: name("pem"), key: name("key") };
        home.options.more.push(pair);
        home.has_other(index, &own(names));
    }
    home
}

#[test]
fn further_names_are_not_lost() {
    let mut home = with_others(&[&["a.example", "b.example"], &["c.example", "*.wild.example"]]);
    let mut rotation = home.start(NOW).unwrap().rotation;
    home.has_other(0, &own(&["b.example"]));
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("0.pem is not for a.example, as the one in use is, but for b.example"), "{why}");
    home.has_other(1, &own(&["c.example", "*.example"]));
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("1.pem is not for *.wild.example"), "{why}");
    // another one may be for it instead
    home.has_other(1, &own(&["c.example", "a.example", "*.wild.example"]));
    swapped(&mut rotation, &home, NOW);
    // what is not named any more is not wanted
    home.options.more.pop();
    swapped(&mut rotation, &home, NOW);
    assert_eq!(rotation.status(NOW).certificates.len(), 2);
}

#[test]
fn the_authoritys_word_may_be_with_any_pair() {
    let mut home = with_others(&[&["a.example"]]);
    home.options.more.insert(0, home.options.first.clone());
    home.options.first = home.options.more.pop().unwrap();
    let started = home.start(NOW).unwrap();
    assert_eq!(started.parts.tls.trust, Trust::Authority(started.parts.authority));
    let mut rotation = started.rotation;
    let more = std::mem::take(&mut home.options.more);
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(
        why.contains("0.pem is not signed by the authority key, as ") && why.contains("tls.pem"),
        "{why}"
    );
    home.options.more = more;
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    // at another place it may be another's turn
    let first = std::mem::replace(&mut home.options.first, home.options.more[0].clone());
    home.options.more = vec![first];
    home.options.names = vec!["sv2.invalid".to_owned()];
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(!told(&swap.warnings, "ask for no name"), "{:?}", swap.warnings);
    let secret = authority::load_secret(&home.path("authority.key")).unwrap();
    let before = pins(&rotation)[0].clone();
    let wanted = make::Wanted { directory: home.beside("made"), ..home.wanted(700) };
    let made = make::make(&secret, &wanted, NOW).unwrap();
    home.options.names.clear();
    home.options.first = home.options.more[0].clone();
    home.options.more = vec![Options::usual_pair(&home.beside("made")), Options::usual_pair(&home.path(""))];
    home.has_first(&own(&["sv2.invalid", "a.example"]));
    let swap = swapped(&mut rotation, &home, NOW);
    let said = format!("instead of {}: those with ?pin={before}", home.path("tls.pem").display());
    assert!(told(&swap.warnings, "miners that ask for no name are shown "), "{:?}", swap.warnings);
    assert!(told(&swap.warnings, &said) && told(&swap.warnings, &made.pin), "{:?}", swap.warnings);
}

#[test]
fn what_nobody_has_served_is_offered_again() {
    let (home, authority) = Home::from_elsewhere(90);
    let Started { mut rotation, parts, .. } = home.start(NOW).unwrap();
    let noise = parts.noise.unwrap();
    let until = || noise.at(NOW, &mut rand::rng()).certificate().not_valid_after();
    let before = pins(&rotation);
    let renew = |days| {
        let wanted = make::Wanted { replace: true, ..home.wanted(days) };
        make::make(&authority, &wanted, NOW).unwrap().pin
    };
    let first = renew(100);
    let late = offered(rotation.look(&home.options, NOW));
    assert!(told(&late.warnings, &first));
    assert_eq!((until(), pins(&rotation)), (NOW + 90 * DAY, before.clone()));
    let again = offered(rotation.look(&home.options, NOW));
    assert_eq!((&again.told, &again.warnings), (&late.told, &late.warnings));
    // the newest, and this one alone counts
    let newest = renew(110);
    let swap = offered(rotation.look(&home.options, NOW));
    rotation.served(&again);
    assert_eq!((until(), pins(&rotation)), (NOW + 90 * DAY, before));
    rotation.served(&swap);
    assert_eq!((until(), pins(&rotation)), (NOW + 110 * DAY, vec![newest]));
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    // what was offered once and is gone is not served later
    let gone = home.contents();
    renew(120);
    let swap = offered(rotation.look(&home.options, NOW));
    gone.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    rotation.served(&swap);
    assert_eq!(until(), NOW + 110 * DAY);
}

#[test]
fn a_bad_neighbour_does_not_keep_ours_from_being_renewed() {
    let mut home = with_others(&[&["a.example"]]);
    let good = || own_at(&["a.example"], NOW - DAY, NOW + 6 * YEAR);
    home.has_other(0, &good());
    let mut rotation = home.start(NOW).unwrap().rotation;
    let before = pins(&rotation);
    home.write("0.key", "damaged");
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("0.key cannot be used"), "{why}");
    let later = NOW + YEAR + DAY;
    // as often as it takes
    offered(rotation.look(&home.options, later));
    let swap = swapped(&mut rotation, &home, later);
    assert!(told(&swap.told, "renewed the TLS certificate"), "{:?}", swap.told);
    assert_eq!(swap.told.len(), 1, "{:?}", swap.told);
    assert!(told(&swap.warnings, "all other certificates stay as they were"), "{:?}", swap.warnings);
    assert_eq!(rotation.status(NOW).certificates[0].valid_until, later + 2 * YEAR);
    assert_eq!(pins(&rotation), before);
    // the rest is as bad as before, and said to be
    let (why, _) = bad(rotation.look(&home.options, later));
    assert!(why.contains("0.key cannot be used"), "{why}");
    for said in [rotation.expiring(later), rotation.status(later).problems] {
        assert!(told(&said, "is not served: ") && told(&said, "0.key cannot be used"), "{said:?}");
    }
    let good = good();
    home.has_other(0, &good);
    let swap = swapped(&mut rotation, &home, later);
    assert!(swap.told.len() == 1 && told(&swap.told, "0.pem"), "{:?}", swap.told);
    assert_eq!(pins(&rotation)[1], good.pin());
    assert_eq!((rotation.expiring(later).len(), rotation.status(later).problems.len()), (0, 0));
    // nor does a path that leads nowhere, or a file that is none
    let other = Pair { certificate: home.beside("nowhere.pem"), key: home.options.directory.clone() };
    home.options.first = other;
    let last = later + YEAR + DAY;
    swapped(&mut rotation, &home, last);
    assert_eq!(rotation.status(NOW).certificates[0].valid_until, last + 2 * YEAR);
}

#[test]
fn a_status_hides_nothing() {
    let home = Home::new();
    home.start(NOW).unwrap();
    let until = NOW + 100 * DAY;
    home.has(&own_at(&["pool.example"], NOW - DAY, until));
    let mut rotation = home.start(NOW).unwrap().rotation;
    let problems = |rotation: &Rotation, now| rotation.status(now).problems;
    assert!(problems(&rotation, NOW).is_empty());
    assert!(told(&problems(&rotation, until - DAY), "tls.pem expires at"));
    let late = problems(&rotation, until + 1);
    assert!(late.len() == 1 && told(&late, "tls.pem has expired"), "{late:?}");
    home.write("tls.pem", "damaged");
    bad(rotation.look(&home.options, NOW));
    assert!(told(&problems(&rotation, NOW), "tls.pem and "), "{:?}", problems(&rotation, NOW));
}

#[test]
fn who_needs_no_certificate_is_told() {
    let mut home = Home::new();
    home.options.client_ca = Some(home.beside("clients.pem"));
    fs::write(home.beside("clients.pem"), own(&["ca.example"]).certificate).unwrap();
    let Started { mut rotation, warnings, .. } = home.start(NOW).unwrap();
    for said in [warnings, rotation.status(NOW).warnings, Report::inspect(&home.options, NOW).warnings] {
        assert!(said.len() == 1 && told(&said, "noise.enabled = false"), "{said:?}");
    }
    assert!(matches!(rotation.look(&home.options, NOW), Look::Same));
    home.options.noise = false;
    let Started { rotation, warnings, .. } = home.start(NOW).unwrap();
    assert!(warnings.is_empty() && rotation.status(NOW).warnings.is_empty());
    assert!(Report::inspect(&home.options, NOW).warnings.is_empty());
}

#[test]
fn what_was_bad_before_does_not_hold_up_the_rest() {
    let mut home = Home::new();
    home.start(NOW).unwrap();
    let old = own_at(&["b.example"], NOW - 2 * DAY, NOW - DAY);
    home.options.more = vec![Pair { certificate: home.path("b.pem"), key: home.path("b.key") }];
    home.write("b.pem", &old.certificate);
    home.write("b.key", &old.key);
    home.has(&own(&["a.example"]));
    let Started { mut rotation, problems, .. } = home.start(NOW).unwrap();
    assert!(told(&problems, "b.pem has expired"), "{problems:?}");
    let next = own(&["a.example"]);
    home.has(&next);
    swapped(&mut rotation, &home, NOW);
    assert_eq!(pins(&rotation), [next.pin(), old.pin()]);
    // all or nothing
    home.has(&own(&["a.example"]));
    home.write("b.key", "damaged");
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("b.key cannot be used"), "{why}");
    assert_eq!(pins(&rotation), [next.pin(), old.pin()]);
    home.options.more.clear();
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(told(&swap.told, "b.pem is served no more"), "{:?}", swap.told);
}

#[test]
fn other_paths_and_links_are_followed() {
    let mut home = Home::new();
    home.start(NOW).unwrap();
    let put = |home: &Home, directory: &str, pair: &Made| {
        let directory = home.beside(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(directory.join("tls.key"), &pair.key).unwrap();
    };
    let [one, two, three] = [(); 3].map(|()| own(&["pool.example"]));
    put(&home, "one", &one);
    put(&home, "two", &two);
    put(&home, "three", &three);
    // as Kubernetes does it
    symlink("one", home.beside("..data")).unwrap();
    let at = |home: &Home, directory: &str| Pair {
        certificate: home.beside(directory).join("tls.crt"),
        key: home.beside(directory).join("tls.key"),
    };
    home.options.first = at(&home, "..data");
    let mut rotation = home.start(NOW).unwrap().rotation;
    symlink("two", home.beside("..data_tmp")).unwrap();
    fs::rename(home.beside("..data_tmp"), home.beside("..data")).unwrap();
    swapped(&mut rotation, &home, NOW);
    assert_eq!(pins(&rotation), [two.pin()]);
    home.options.first = at(&home, "three");
    swapped(&mut rotation, &home, NOW);
    assert_eq!(pins(&rotation), [three.pin()]);
    home.options.first = at(&home, "four");
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("tls.cert_path"), "{why}");
}

#[test]
fn a_running_server_renews_what_it_can() {
    let home = Home::new();
    let mut rotation = home.start(NOW).unwrap().rotation;
    let [certificate, _] = home.texts();
    assert!(matches!(rotation.look(&home.options, NOW + YEAR - DAY), Look::Same));
    let later = NOW + YEAR + DAY;
    let swap = swapped(&mut rotation, &home, later);
    assert!(told(&swap.told, "renewed the TLS certificate"), "{:?}", swap.told);
    assert_ne!(home.texts()[0], certificate);
    assert_eq!(rotation.status(NOW).certificates[0].valid_until, later + 2 * YEAR);
    assert!(matches!(rotation.look(&home.options, later), Look::Same));
    assert!(rotation.expiring(later).is_empty());
}

#[test]
fn a_renewal_that_fails_is_told_once_and_warned_of() {
    let home = Home::new();
    home.start(NOW).unwrap();
    // a key that cannot be certified again
    let key = home.read("tls.key");
    let der = crate::transport::tls::pem_decode("PRIVATE KEY", key.as_bytes()).unwrap();
    let at = der.windows(4).position(|window| window == [0x04, 0x6d, 0x30, 0x6b]).unwrap() + 2;
    home.write("tls.key", &*crate::transport::tls::pem_encode("EC PRIVATE KEY", &der[at..at + 0x6d]));
    let mut rotation = home.start(NOW).unwrap().rotation;
    let later = NOW + YEAR + DAY;
    let (why, seen_before) = bad(rotation.look(&home.options, later));
    assert!(!seen_before && why.contains("cannot make"), "{why}");
    assert!(bad(rotation.look(&home.options, later)).1);
    let why = rotation.expiring(NOW + YEAR + DAY);
    assert!(why.len() == 1 && told(&why, "cannot make"), "{why:?}");
    let soon = rotation.expiring(NOW + 2 * YEAR - DAY);
    assert!(told(&soon, "tls.pem expires"), "{soon:?}");
    // nor does it keep the server from starting
    let started = home.start(later).unwrap();
    assert!(told(&started.problems, "cannot make"), "{:?}", started.problems);
}

#[test]
fn another_noise_certificate_is_taken_with_the_rest_or_not_at_all() {
    let (home, authority) = Home::from_elsewhere(90);
    let Started { mut rotation, parts, .. } = home.start(NOW).unwrap();
    let noise = parts.noise.unwrap();
    let until = || noise.at(NOW, &mut rand::rng()).certificate().not_valid_after();
    let pin = pins(&rotation);
    let renew = |days| {
        let wanted = make::Wanted { replace: true, keep_key: true, ..home.wanted(days) };
        make::make(&authority, &wanted, NOW).unwrap()
    };
    renew(100);
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(told(&swap.told, "noise.pem, until") && told(&swap.told, "tls.pem"), "{:?}", swap.told);
    assert_eq!((until(), pins(&rotation)), (NOW + 100 * DAY, pin));
    renew(200);
    let whole = home.read("noise.pem");
    home.write("noise.pem", &whole[..100]);
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("noise.pem is not a key for Noise"), "{why}");
    assert_eq!(
        (until(), rotation.status(NOW).certificates[0].valid_until),
        (NOW + 100 * DAY, NOW + 100 * DAY)
    );
    home.write("noise.pem", &whole);
    swapped(&mut rotation, &home, NOW);
    assert_eq!(until(), NOW + 200 * DAY);
    // one that has expired is no better
    let old = make::Wanted { replace: true, ..home.wanted(1) };
    make::make(&authority, &old, NOW - 2 * DAY).unwrap();
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("noise.pem has expired") && why.contains("tls.pem has expired"), "{why}");
    assert_eq!(until(), NOW + 200 * DAY);
}

#[test]
fn the_ca_of_clients_rotates_too() {
    let ca = |name: &str, until: u32| {
        let mut params = params(&[], NOW - 100 * DAY, until);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, name);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let mut home = Home::new();
    let file = home.beside("clients.pem");
    fs::write(&file, ca("one", NOW + YEAR)).unwrap();
    home.options.client_ca = Some(file.clone());
    let mut rotation = home.start(NOW).unwrap().rotation;
    assert!(rotation.status(NOW).client_ca[0].subject.contains("O=one"));
    fs::write(&file, "damaged").unwrap();
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("clients.pem cannot be used") && why.contains("tls.client_ca_path"), "{why}");
    fs::write(&file, ca("old", NOW - 1)).unwrap();
    let (why, _) = bad(rotation.look(&home.options, NOW));
    assert!(why.contains("clients.pem has expired"), "{why}");
    // one that is good is enough
    fs::write(&file, ca("old", NOW - 1) + &ca("two", NOW + 10 * DAY)).unwrap();
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(told(&swap.told, "must show a certificate of"), "{:?}", swap.told);
    let soon = rotation.expiring(NOW);
    assert!(told(&soon, "clients.pem has expired") && told(&soon, "clients.pem expires"), "{soon:?}");
    home.options.client_ca = None;
    let swap = swapped(&mut rotation, &home, NOW);
    assert!(told(&swap.told, "need no certificate any more"), "{:?}", swap.told);
}

#[test]
fn warned_from_two_weeks_before_the_end() {
    let home = Home::new();
    home.start(NOW).unwrap();
    let until = NOW + 100 * DAY;
    home.has(&own_at(&["pool.example"], NOW - DAY, until));
    let rotation = home.start(NOW).unwrap().rotation;
    assert!(rotation.expiring(until - 14 * DAY).is_empty());
    for (now, verb) in
        [(until - 14 * DAY + 1, "expires at"), (until, "expires at"), (until + 1, "has expired at")]
    {
        let soon = rotation.expiring(now);
        assert!(soon.len() == 1 && told(&soon, &format!("tls.pem {verb} 2027-04-25")), "{soon:?}");
    }
    // of one that lives for six days, from half of that on
    home.has(&own_at(&["pool.example"], NOW, NOW + 6 * DAY));
    let rotation = home.start(NOW).unwrap().rotation;
    assert!(rotation.expiring(NOW + 3 * DAY).is_empty());
    assert_eq!(rotation.expiring(NOW + 3 * DAY + 1).len(), 1);
}

#[test]
fn an_inspection_makes_nothing() {
    let home = Home::new();
    let report = Report::inspect(&home.options, NOW);
    let names = |report: &Report| -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        report.to_be_made.iter().map(name).collect()
    };
    assert_eq!(names(&report), ["authority.key", "authority.pub", "endpoint.key", "tls.pem", "tls.key"]);
    assert_eq!((report.authority_key, report.certificates.len(), report.problems.len()), (None, 0, 0));
    assert!(!home.options.directory.exists());
    let started = home.start(NOW).unwrap();
    let before = home.contents();
    let report = Report::inspect(&home.options, NOW);
    assert_eq!(report, started.rotation.status(NOW));
    let report = Report::inspect(&home.options, NOW + YEAR + DAY);
    assert_eq!(names(&report), ["tls.pem"], "it would be renewed");
    home.write("tls.pem", "damaged");
    let report = Report::inspect(&home.options, NOW);
    assert!(told(&report.problems, "tls.pem"), "{report:?}");
    home.write("tls.pem", &before.iter().find(|(path, _)| path.ends_with("tls.pem")).unwrap().1);
    assert_eq!(home.contents(), before);
    let (home, _) = Home::from_elsewhere(90);
    let report = Report::inspect(&home.options, NOW + 100 * DAY);
    assert!(!report.has_secret && told(&report.problems, "noise.pem has expired"), "{report:?}");
    assert!(
        matches!(report.noise, Some(NoiseReport::File { valid_until, .. }) if valid_until == NOW + 90 * DAY)
    );
}

#[test]
fn certificates_are_made_for_names_and_not_over_others() {
    let home = Home::new();
    let secret = authority();
    let names = ["pool.example", "*.pool.example", "192.0.2.1"].map(str::to_owned);
    let wanted = make::Wanted { names: names.to_vec(), ..home.wanted(90) };
    let made = make::make(&secret, &wanted, NOW).unwrap();
    assert_eq!((made.valid_from, made.not_valid_after), (NOW - 3600, NOW + 90 * DAY));
    let contents = home.contents();
    assert_eq!(contents.len(), 4);
    for file in &made.files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(matches!(make::make(&secret, &wanted, NOW), Err(CertsError::Exists(_))));
    let wanting = |change: &dyn Fn(&mut make::Wanted)| {
        let mut wanted = make::Wanted { replace: true, ..wanted.clone() };
        change(&mut wanted);
        wanted
    };
    let mut wrong = vec![
        wanting(&|wanted| wanted.valid_for = Duration::from_secs(3599)),
        wanting(&|wanted| wanted.valid_for = Duration::from_secs(1 << 32)),
        wanting(&|wanted| {
            wanted.directory = home.beside("empty");
            wanted.keep_key = true;
        }),
    ];
    for name in ["not a name", "*.", "*.not a name", "*.192.0.2.1", "*.*.example", "*", "a.*.example"] {
        wrong.push(wanting(&|wanted| wanted.names = vec![name.to_owned()]));
    }
    for wrong in wrong {
        assert!(make::make(&secret, &wrong, NOW).is_err(), "{wrong:?}");
    }
    let other = make::make(&authority(), &wanted, NOW).unwrap_err();
    assert!(matches!(&other, CertsError::Exists(at) if at.ends_with("authority.pub")), "{other}");
    assert_eq!(home.contents(), contents);
    assert!(!home.beside("empty").exists());
    // one that cannot be written keeps all others from being put into their places
    fs::remove_file(home.path("noise.pem")).unwrap();
    symlink("/proc/version", home.path("noise.pem")).unwrap();
    let before = home.texts();
    let error = make::make(&secret, &wanting(&|_| {}), NOW).unwrap_err();
    assert!(matches!(&error, CertsError::Write(at, _) if at.ends_with("noise.pem")), "{error}");
    assert_eq!((home.texts(), home.contents().len()), (before, 4), "no draft is left");
    fs::remove_file(home.path("noise.pem")).unwrap();

    let keep = make::Wanted { replace: true, keep_key: true, ..wanted.clone() };
    let kept = make::make(&secret, &keep, NOW + DAY).unwrap();
    assert_eq!(kept.pin, made.pin);
    let anew = make::make(&secret, &make::Wanted { keep_key: false, ..keep }, NOW + DAY).unwrap();
    assert_ne!(anew.pin, made.pin);
    let report = Report::inspect(&home.options, NOW + DAY);
    assert_eq!((report.certificates[0].names.as_slice(), report.problems.len()), (&names[..], 0));
    assert_eq!(report.certificates[0].pin, anew.pin);
    // a secret beside them is the one that counts
    home.write("authority.key", &*authority().to_text());
    let keep = make::Wanted { replace: true, ..wanted };
    assert!(matches!(make::make(&secret, &keep, NOW), Err(CertsError::TwoAuthorities { .. })));
}

#[test]
fn the_secret_arrives_and_names_and_span_outlast_the_renewal() {
    let home = Home::new();
    let secret = authority();
    let wanted = make::Wanted { names: vec!["pool.example".to_owned()], ..home.wanted(90) };
    let made = make::make(&secret, &wanted, NOW).unwrap();
    home.write("authority.key", &*secret.to_text());
    let started = home.start(NOW + 50 * DAY).unwrap();
    let report = &started.rotation.status(NOW).certificates[0];
    assert_eq!((report.pin.as_str(), report.names.as_slice()), (made.pin.as_str(), &wanted.names[..]));
    assert_eq!(report.valid_until, NOW + 140 * DAY);
    let public: AuthorityPublicKey = home.read("authority.pub").trim().parse().unwrap();
    assert_eq!(public, secret.public_key());
    assert_eq!(Path::new(&report.certificate), home.path("tls.pem"));
}
