//! What to do about a server's certificate that is not trusted.

use std::error::Error as _;
use std::io;

use rustls::{CertificateError, Error};

/// What is wrong with the certificate and what to do, if a connection failed because of it.
pub(in crate::store::postgres) fn explain(error: &tokio_postgres::Error) -> Option<String> {
    let cause = error.source()?.downcast_ref::<io::Error>()?.get_ref()?;
    let Error::InvalidCertificate(reason) = cause.downcast_ref::<Error>()? else {
        return None;
    };
    Some(format!("the server's certificate is refused: {}", advice(reason)))
}

fn advice(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            "none of the trusted certificates has signed it; name a PEM file with sslrootcert= that holds the certificate of the authority \
             that did, or, if it is self-signed, the certificate itself"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "{reason}; verify-full wants the host of the URL in the certificate's subjectAltName (the common name does not count): \
                 let the URL name the host as the certificate does, or make a certificate with that name, or use sslmode=verify-ca"
            )
        }
        CertificateError::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "it is an authority's certificate, as most self-signed ones are; it is trusted if sslrootcert= names a \
                 PEM file with this very certificate"
                    .to_owned()
            }
            "UnsupportedCertVersion" => {
                "it is of an X.509 version before 3; make one of version 3, which has a subjectAltName".to_owned()
            }
            other => other.to_owned(),
        },
        other => other.to_string(),
    }
}
