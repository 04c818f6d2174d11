//! TLS (1.2 and 1.3) on a connection of a shard, by rustls: cipher text ⇄ plain text, without sockets of its own.
//!
//! The plain text to send stays where it is until the kernel takes its cipher text: a [`TlsConn`] holds only what was encrypted and
//! not yet taken, [`UNSENT_BYTES_MAX`] and a record at most. Certificates can be replaced while the server runs; a handshake takes the
//! newest. Not here: when to read or write.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

/// Above it no more is encrypted until the kernel has taken some.
pub const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Plain text of one record.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Why there is no usable certificate; each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {file}: {error}")]
    Read { file: PathBuf, error: io::Error },
    #[error("{0} holds no certificate")]
    NoCertificate(PathBuf),
    #[error("{0} holds no private key")]
    NoKey(PathBuf),
    #[error("the certificate or its key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The certificate that new handshakes get. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    newest: Arc<Newest>,
}

#[derive(Debug)]
struct Newest(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Certificates {
    /// Reads a chain and its key, both PEM.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let newest = Arc::new(Newest(RwLock::new(Arc::new(certified_key(chain, key)?))));
        Ok(Certificates { chain: chain.to_owned(), key: key.to_owned(), newest })
    }

    /// Reads the files again. After an error the old certificate stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let new = Arc::new(certified_key(&self.chain, &self.key)?);
        *self.newest.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// When each of the files was last written; `None`: not to be seen.
    pub fn versions(&self) -> [Option<SystemTime>; 2] {
        [&self.chain, &self.key].map(|file| std::fs::metadata(file).and_then(|data| data.modified()).ok())
    }

    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(self.newest.clone())))
    }
}

fn certified_key(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|error| CertificateError::Read { file: file.to_owned(), error }).map(io::Cursor::new)
    };
    let certificates: Vec<_> = rustls_pemfile::certs(&mut BufReader::new(read(chain)?)).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Err(CertificateError::NoCertificate(chain.to_owned()));
    }
    let private = rustls_pemfile::private_key(&mut BufReader::new(read(key)?)).ok().flatten();
    let private = private.ok_or_else(|| CertificateError::NoKey(key.to_owned()))?;
    Ok(CertifiedKey::from_der(certificates, private, &ring::default_provider())?)
}

/// One connection's TLS.
pub struct TlsConn {
    connection: ServerConnection,
    /// Cipher text that the kernel has not taken.
    unsent: Vec<u8>,
}

impl TlsConn {
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(TlsConn { connection: ServerConnection::new(config.clone())?, unsent: Vec::new() })
    }

    /// Takes cipher text from the peer; appends plain text to `plain`. What TLS itself has to say waits in [`TlsConn::unsent`]. Says
    /// whether more may come: `false` after the peer's goodbye.
    pub fn received(&mut self, mut cipher: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        while !cipher.is_empty() {
            // After a goodbye nothing is taken any more, however much is left.
            if self.connection.read_tls(&mut cipher)? == 0 {
                return Ok(false);
            }
            let state = self.connection.process_new_packets();
            let result = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            // An alert that tells the peer goes out even when its records are broken.
            self.collect()?;
            let state = result?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[start..])?;
            if state.peer_has_closed() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Encrypts from `slices` what may wait; says how many bytes that was.
    pub fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for slice in slices {
            for record in slice.chunks(RECORD_BYTES_MAX) {
                if self.unsent.len() >= UNSENT_BYTES_MAX {
                    return Ok(count);
                }
                self.connection.writer().write_all(record)?;
                count += record.len();
                self.collect()?;
            }
        }
        Ok(count)
    }

    /// Says goodbye, once.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
        // Into memory: it does not fail.
        drop(self.collect());
    }

    fn collect(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.unsent)?;
        }
        Ok(())
    }

    /// Cipher text for the kernel.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// The kernel has taken so much of it.
    pub fn sent(&mut self, count: usize) {
        self.unsent.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    const IDENTITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/io/test_identity.pem");

    /// A client and the server's side, with the handshake done.
    fn connected() -> (ClientConnection, TlsConn) {
        let file = Path::new(IDENTITY);
        let server = Certificates::load(file, file).unwrap().server_config().unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut std::fs::read(file).unwrap().as_slice()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut server = TlsConn::new(&server).unwrap();
        while client.is_handshaking() || client.wants_write() {
            assert!(server.received(&written(&mut client), &mut Vec::new()).unwrap());
            let mut cipher = server.unsent().to_vec();
            server.sent(cipher.len());
            while !cipher.is_empty() {
                let count = client.read_tls(&mut &cipher[..]).unwrap();
                cipher.drain(..count);
                client.process_new_packets().unwrap();
            }
        }
        (client, server)
    }

    fn written(client: &mut ClientConnection) -> Vec<u8> {
        let mut cipher = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut cipher).unwrap();
        }
        cipher
    }

    #[test]
    fn what_follows_a_goodbye_is_not_read() {
        let (mut client, mut server) = connected();
        client.writer().write_all(b"the last words").unwrap();
        client.send_close_notify();
        let mut cipher = written(&mut client);
        cipher.extend_from_slice(b"more");
        let mut plain = Vec::new();
        assert!(!server.received(&cipher, &mut plain).unwrap(), "the end, and in this turn");
        assert_eq!(plain, b"the last words");
        assert!(!server.received(b"still more", &mut plain).unwrap());
        assert_eq!(plain, b"the last words");
    }
}
