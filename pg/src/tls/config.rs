//! From the connection string's files to a rustls configuration.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::refused;
use super::verifier::{Anchors, Trust, Verifier};
use crate::params::{CertMode, RootCert, SslMode, TlsParams, TlsVersion};
use crate::{Error, Result};

/// The protocol's name in TLS; servers from 17 on look at it, and refuse direct TLS without it.
const ALPN: &[u8] = b"postgresql";

pub(super) fn client_config(host: &str, params: &TlsParams) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (params.min_version..=params.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    let verifier = Verifier { trust: trust(host, params, &provider)?, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|_| Error::usage("ssl_min_protocol_version is above ssl_max_protocol_version"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_certificate(params)? {
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|error| refused(format!("client certificate and key cannot be used: {error}")))?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = params.sni;
    Ok(config)
}

fn trust(host: &str, params: &TlsParams, provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Trust> {
    let certificates = match &params.root_cert {
        RootCert::System => system_certificates()?,
        RootCert::File(Some(file)) if file.exists() => certificates(file)?,
        RootCert::File(_) if params.mode < SslMode::VerifyCa => return Ok(Trust::Anybody),
        RootCert::File(Some(file)) => {
            return Err(refused(format!("root certificate file \"{}\" does not exist", file.display())).hint(
                "give the authority's certificate with sslrootcert, use sslrootcert=system, or a weaker sslmode",
            ));
        }
        RootCert::File(None) => {
            return Err(refused("there is no root certificate file to verify the server's certificate with")
                .hint("give the authority's certificate with sslrootcert, or use sslrootcert=system"));
        }
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let revoked = match &params.crl {
        Some(file) => CertificateRevocationListDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| {
                refused(format!("certificate revocation list \"{}\": {error}", file.display()))
            })?,
        None => Vec::new(),
    };
    let revocation = !revoked.is_empty();
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(revoked)
        .build()
        .map_err(|error| refused(format!("root certificates cannot be used: {error}")))?;
    let anchors = Arc::new(Anchors { chains, certificates, revocation });
    Ok(match params.mode {
        SslMode::VerifyFull => Trust::AuthorityAndName(anchors, host.to_owned()),
        // libpq: a root certificate file makes "require" as strong as "verify-ca".
        _ => Trust::Authority(anchors),
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |why: String| refused(format!("certificate file \"{}\": {why}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() { Err(unusable("no certificate in it".to_owned())) } else { Ok(certificates) }
}

fn system_certificates() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(refused("the operating system has no trusted certificates")
            .hint("install them (package ca-certificates), or give a file with sslrootcert"));
    }
    Ok(found.certs)
}

type ClientCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The client's certificate and key, if there are any.
fn client_certificate(params: &TlsParams) -> Result<Option<ClientCertificate>> {
    let chain = match &params.cert {
        _ if params.cert_mode == CertMode::Disable => return Ok(None),
        Some(file) => certificates(file)?,
        None if params.cert_mode == CertMode::Require => {
            return Err(refused("sslcertmode=require, but there is no client certificate")
                .hint("give it with sslcert and sslkey"));
        }
        None => return Ok(None),
    };
    let Some(file) = &params.key else {
        return Err(refused("there is a client certificate, but no private key").hint("give it with sslkey"));
    };
    check_permissions(file)?;
    let key = PrivateKeyDer::from_pem_file(file).map_err(|error| {
        refused(format!("private key file \"{}\": {error}", file.display()))
            .hint("it must be PEM without a passphrase: openssl pkey -in client.key -out plain.key")
    })?;
    Ok(Some((chain, key)))
}

/// libpq's rule: nobody else may read a key; of root's keys the group may.
fn check_permissions(file: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file)
        .map_err(|error| refused(format!("private key file \"{}\": {error}", file.display())))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden == 0 {
        return Ok(());
    }
    Err(refused(format!("private key file \"{}\" has group or world access", file.display()))
        .hint(format!("chmod 0600 '{}'", file.display())))
}
