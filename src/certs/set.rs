//! All that is served, as the files have it at one time.

use std::sync::Arc;

use ring::digest::{Context, SHA256, digest};
use zeroize::Zeroizing;

use super::authority::Authority;
use super::tls::{Held, places};
use super::{CertsError, Options, noise, private};
use crate::transport::tls::{ClientCa, Serving, TlsIdentity};
use crate::wire::noise::StaticIdentity;

/// A file's contents, if it is there.
type Contents = Option<Zeroizing<Vec<u8>>>;

/// What the files hold, unread.
pub(super) struct Snapshot {
    /// Certificates and keys.
    pairs: Vec<[Contents; 2]>,
    client_ca: Contents,
    noise: Contents,
    /// Tells it from all others, the options that name the files included.
    pub(super) digest: [u8; 32],
}

impl Snapshot {
    /// Reads every file once, and silently, as this is done often. `options.noise` says whether the Noise certificate is wanted.
    pub(super) fn read(options: &Options) -> Result<Self, CertsError> {
        let pairs = [&options.first].into_iter().chain(&options.more);
        let pairs = pairs.map(|pair| Ok([private::read(&pair.certificate)?, private::read(&pair.key)?]));
        let pairs: Vec<[Contents; 2]> = pairs.collect::<Result<_, CertsError>>()?;
        let client_ca = options.client_ca.as_deref().map_or(Ok(None), private::read)?;
        let noise = options.directory.join(noise::FILE_NAME);
        let noise = if options.noise { private::read(&noise)? } else { None };
        let mut hash = Context::new(&SHA256);
        add(&mut hash, Some(format!("{options:?}").as_bytes()));
        for contents in pairs.iter().flatten().chain([&client_ca, &noise]) {
            add(&mut hash, contents.as_ref().map(|contents| &contents[..]));
        }
        let digest = hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes");
        Ok(Self { pairs, client_ca, noise, digest })
    }

    /// What is there of the first pair, if it is to be made.
    pub(super) fn first_part(&self) -> Part<'_> {
        match self.pairs.first() {
            None | Some([None, None]) => Part::Nothing,
            Some([None, Some(key)]) => Part::Key(key),
            Some([Some(_), _]) => Part::Certificate,
        }
    }

    /// As if the first pair were this one.
    pub(super) fn with_first(mut self, identity: &TlsIdentity) -> Self {
        let contents = |text: &str| Some(Zeroizing::new(text.as_bytes().to_vec()));
        if let Some(first) = self.pairs.first_mut() {
            *first = [contents(&identity.chain_pem()), contents(&identity.key_pem())];
        }
        self
    }

    /// Makes sense of it; all that makes none is told. Nothing is said about time and names.
    pub(super) fn parse(&self, options: &Options, authority: &Authority) -> Result<Set, CertsError> {
        let mut wrong = Vec::new();
        let mut pairs = Vec::new();
        for (place, [chain, key]) in places(options, Some(authority)).iter().zip(&self.pairs) {
            let contents = [chain, key].map(|contents| contents.as_ref().map(|contents| &contents[..]));
            match Held::read(place, contents, authority, &options.directory) {
                Ok(held) => pairs.push(Arc::new(held)),
                Err(error) => wrong.push(error),
            }
        }
        let client_ca = self.client_ca(options).unwrap_or_else(|error| {
            wrong.push(error);
            None
        });
        let noise = self.noise(options, authority).unwrap_or_else(|error| {
            wrong.push(error);
            None
        });
        match wrong.len() {
            0 => {}
            1 => return Err(wrong.remove(0)),
            _ => return Err(CertsError::Refused(wrong.iter().map(ToString::to_string).collect())),
        }
        let first = pairs.remove(0);
        Ok(Set { first, more: pairs, client_ca, noise, digest: self.digest })
    }

    fn client_ca(&self, options: &Options) -> Result<Option<ClientCa>, CertsError> {
        let Some(path) = options.client_ca.clone() else { return Ok(None) };
        match &self.client_ca {
            None => Err(CertsError::Missing { path, key: "tls.client_ca_path".to_owned() }),
            Some(pem) => ClientCa::from_pem(pem).map(Some).map_err(|error| CertsError::ClientCa(path, error)),
        }
    }

    fn noise(
        &self,
        options: &Options,
        authority: &Authority,
    ) -> Result<Option<Arc<StaticIdentity>>, CertsError> {
        let path = options.directory.join(noise::FILE_NAME);
        match &self.noise {
            _ if !options.noise => Ok(None),
            None => Err(CertsError::NoNoise(path)),
            Some(pem) => noise::from_pem(&path, pem, &authority.public).map(Arc::new).map(Some),
        }
    }
}

/// How much of a pair is there.
pub(super) enum Part<'a> {
    Nothing,
    /// As of a first start that was cut off.
    Key(&'a [u8]),
    /// With its key or without.
    Certificate,
}

/// None and nothing differ, and so do two contents and their concatenation.
fn add(hash: &mut Context, contents: Option<&[u8]>) {
    match contents {
        None => hash.update(&[0]),
        Some(contents) => {
            hash.update(&[1]);
            hash.update(digest(&SHA256, contents).as_ref());
        }
    }
}

/// What the files say.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) first: Arc<Held>,
    pub(super) more: Vec<Arc<Held>>,
    pub(super) client_ca: Option<ClientCa>,
    /// If it is wanted from a file.
    pub(super) noise: Option<Arc<StaticIdentity>>,
    pub(super) digest: [u8; 32],
}

impl Set {
    /// The first pair and all others.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &Held> {
        [&self.first].into_iter().chain(&self.more).map(|held| &**held)
    }

    pub(super) fn pairs_mut(&mut self) -> impl Iterator<Item = &mut Arc<Held>> {
        [&mut self.first].into_iter().chain(&mut self.more)
    }

    /// What is shown to those who ask for no name.
    pub(super) fn unasked(&self) -> &Held {
        self.pairs().find(|held| held.word.is_some()).unwrap_or(&self.first)
    }

    /// Warns if others can read its secrets.
    pub(super) fn warn_of_readers(&self, options: &Options) {
        self.pairs().for_each(|held| private::warn_of_readers(&held.pair.key));
        if self.noise.is_some() {
            private::warn_of_readers(&options.directory.join(noise::FILE_NAME));
        }
    }

    /// For TLS.
    pub(super) fn serving(&self, authority: &Authority) -> Result<Serving, CertsError> {
        let more: Vec<&TlsIdentity> = self.more.iter().map(|held| &held.identity).collect();
        Ok(Serving::new(&self.first.identity, &more, self.client_ca.as_ref(), &authority.public)?)
    }
}
