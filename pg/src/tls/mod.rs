//! TLS below a connection: rustls with ring, and libpq's meaning of `sslmode`.
//!
//! In: a TCP stream and the connection string's [`TlsParams`]. Out: the encrypted stream and the `tls-server-end-point` data that SCRAM is
//! bound to.
//!
//! Traps: PostgreSQL's own recipes make certificates that web servers would not be given: self-signed ones used as their own
//! authority, names in the CN only, X.509 version 1. libpq takes them, so they are taken here, by rules of their own in [`verifier`].
//!
//! <https://www.postgresql.org/docs/current/libpq-ssl.html>, <https://www.rfc-editor.org/rfc/rfc5929#section-4>

mod certificate;
mod config;
mod der;
mod names;
mod verifier;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::params::{SslMode, SslNegotiation, TlsParams};
use crate::{Error, Result};

use certificate::Certificate;

/// What came of asking for TLS.
pub(crate) enum Negotiated {
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        /// Hash of the server's certificate, where its signature algorithm defines one.
        end_point: Option<Vec<u8>>,
    },
    /// The server has no TLS, and `sslmode=prefer` goes on without.
    Plain(TcpStream),
}

/// Starts TLS on `stream` for the host `name`.
///
/// # Errors
/// Code `TLS`, class `Refuse`: what the server shows is not what was asked for; class `Connection` where the line broke.
pub(crate) async fn negotiate(mut stream: TcpStream, name: &str, params: &TlsParams) -> Result<Negotiated> {
    let config = config::client_config(name, params)?;
    if params.negotiation == SslNegotiation::Postgres {
        let mut message = bytes::BytesMut::new();
        postgres_protocol::message::frontend::ssl_request(&mut message);
        stream.write_all(&message).await?;
        // One byte: what follows in clear text would have been put there by somebody in between.
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        match answer[0] {
            b'S' => {}
            b'N' if params.mode <= SslMode::Prefer => return Ok(Negotiated::Plain(stream)),
            b'N' => {
                let error = refused("server does not support TLS, but TLS was required");
                return Err(if params.mode_given {
                    error
                        .hint("ALTER SYSTEM SET ssl = on, with a certificate; or connect with sslmode=prefer")
                } else {
                    error
                        .detail("no sslmode was given, and the host is not local: sslmode=require is the default there")
                        .hint(
                            "ALTER SYSTEM SET ssl = on, with a certificate; or, to send passwords and rows in clear text, \
                             write sslmode=disable into the connection string",
                        )
                });
            }
            // It could not start a process for us, for example. What else it says is from whoever sits at this address, and is not shown.
            b'E' => return Err(Error::connection("the server can't take a connection at the moment")),
            _ => return Err(refused("unexpected answer to the request for TLS")),
        }
    }
    // A name that no certificate can have is compared with none below verify-full.
    let server_name = match ServerName::try_from(name.to_owned()) {
        Ok(server_name) => server_name,
        Err(_) if params.mode < SslMode::VerifyFull => unnamed()?,
        Err(_) => return Err(refused(format!("\"{name}\" cannot be the name in a certificate"))),
    };
    let connected = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await;
    let stream = Box::new(connected.map_err(|error| explain(&error))?);
    let end_point = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(|der| {
        let certificate = Certificate::parse(der)?;
        certificate.end_point_hash()
    });
    Ok(Negotiated::Tls { stream, end_point })
}

fn unnamed() -> Result<ServerName<'static>> {
    ServerName::try_from("unnamed.invalid").map_err(|_| refused("no server name"))
}

/// An error of TLS itself: trying again changes nothing.
pub(crate) fn refused(primary: impl Into<String>) -> Error {
    Error::refuse("TLS", primary)
}

/// rustls puts its error inside of an I/O error.
fn explain(error: &std::io::Error) -> Error {
    use rustls::CertificateError as Bad;
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Error::connection(format!("TLS handshake failed: {error}"));
    };
    let out = refused(format!("TLS handshake failed: {inner}"));
    match inner {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => {
                out.hint("give the authority that signed the server's certificate: sslrootcert=<file>")
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                out.hint("connect by a name that the server's certificate has, or with sslmode=verify-ca")
            }
            Bad::Expired | Bad::ExpiredContext { .. } => out.hint("renew the server's certificate"),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                out.hint("check the clocks of both machines and the certificate's dates")
            }
            _ => out,
        },
        _ => out,
    }
}
