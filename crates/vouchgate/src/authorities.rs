//! Certificate authorities of the operator's own, accepted from hosts that are called: read at start, at a reload, and when their
//! files change.

use std::sync::{Mutex, PoisonError};

use config::{Config, UpstreamCa};
use net::{Authority, Egress};

use crate::listen::{TlsError, pem};

/// What the way out trusts besides the public authorities.
#[derive(Debug)]
pub struct Authorities {
    egress: Egress,
    /// The files it was last read from.
    files: Mutex<Vec<(UpstreamCa, Vec<u8>)>>,
}

/// What a configuration names, as its files hold it.
#[derive(Debug, Default)]
pub struct Read {
    authorities: Vec<Authority>,
    files: Vec<(UpstreamCa, Vec<u8>)>,
}

impl Read {
    /// Whether it is what this configuration names.
    pub fn is_of(&self, config: &Config) -> bool {
        self.files.iter().map(|(ca, _)| ca).eq(&config.server.upstream_ca)
    }

    /// The authorities.
    pub fn authorities(self) -> Vec<Authority> {
        self.authorities
    }
}

/// Read what a configuration names.
pub fn read(config: &Config) -> Result<Read, TlsError> {
    let mut read = Read::default();
    for ca in &config.server.upstream_ca {
        let (authority, file) = one(ca)?;
        read.authorities.push(authority);
        read.files.push((ca.clone(), file));
    }
    Ok(read)
}

/// What is wrong with one of them, if anything.
pub fn fault(ca: &UpstreamCa) -> Option<TlsError> {
    one(ca).err()
}

fn one(ca: &UpstreamCa) -> Result<(Authority, Vec<u8>), TlsError> {
    let (certificates, file) = pem(&ca.file)?;
    let hosts = ca.hosts.clone();
    let covers = move |host: &str| hosts.iter().any(|pattern| pattern.covers(host));
    let unusable = |error: net::EgressError| TlsError::Unusable { path: ca.file.clone(), detail: error.to_string() };
    Ok((Authority::new(certificates, covers).map_err(unusable)?, file))
}

impl Authorities {
    /// Have the way out trust what a configuration names.
    pub fn open(config: &Config, egress: &Egress) -> Result<Self, TlsError> {
        let authorities = Self { egress: egress.clone(), files: Mutex::default() };
        authorities.trust(read(config)?);
        Ok(authorities)
    }

    /// Have the way out trust these from now on and nobody else; whether anything is other than before. Connections are made
    /// anew only then.
    pub fn trust(&self, read: Read) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if *files == read.files {
            return false;
        }
        self.egress.trust(read.authorities);
        *files = read.files;
        true
    }
}
