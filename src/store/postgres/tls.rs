//! What `sslmode` asks of the server's certificate, with rustls. The modes mean what they mean to libpq.

mod advice;

use std::path::Path;
use std::sync::Arc;

pub(super) use self::advice::explain;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::support::settings::ConfigError;

/// How much of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    /// Nothing: the connection is encrypted, but the server is not authenticated (`prefer`, `require`).
    Nothing,
    /// A trusted authority signed it (`verify-ca`).
    Authority,
    /// Also, the certificate names this host (`verify-full`).
    AuthorityAndName,
}

/// A client configuration that verifies against the certificates in `roots` (PEM), or else the system's.
pub(super) fn client_config(verification: Verification, roots: Option<&Path>) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError(format!("TLS: {error}")))?;
    let verifier = match verification {
        Verification::Nothing => Verifier {
            chain: None,
            trusted: Vec::new(),
            checks_name: false,
            provider,
        },
        Verification::Authority | Verification::AuthorityAndName => {
            let (roots, trusted) = load_roots(roots)?;
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let chain = chain.build().map_err(|error| ConfigError(format!("TLS: {error}")))?;
            Verifier {
                chain: Some(chain),
                trusted,
                checks_name: verification == Verification::AuthorityAndName,
                provider,
            }
        }
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// The trusted authorities, and the user's own certificates unparsed.
fn load_roots(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), ConfigError> {
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    match file {
        Some(path) => {
            let unreadable =
                |error: &dyn std::fmt::Display| ConfigError(format!("sslrootcert {}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate.clone()).map_err(|error| unreadable(&error))?;
                named.push(certificate);
            }
        }
        // It is normal that the system has some certificates that rustls cannot read.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(ConfigError(
            "sslmode verifies the server, but there is no root certificate: name a PEM file with sslrootcert="
                .to_owned(),
        ));
    }
    Ok((roots, named))
}

/// Checks what libpq would, which is less than rustls does: the chain only, or nothing, and no chain where the server's
/// own certificate is trusted. The handshake's signature is always checked.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Trusted certificates, one of which may be the server's own.
    trusted: Vec<CertificateDer<'static>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // rustls checks the name last, so a complaint about it means that the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            // No trusted authority has signed it, or it is an authority's itself, as most self-signed certificates are.
            // rustls checks expiry before it reports either of these errors.
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
                if self.trusted.contains(end_entity) =>
            {
                if self.checks_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
