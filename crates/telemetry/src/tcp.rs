// SPDX-License-Identifier: Apache-2.0
//! The same services over TCP, for clients that are elsewhere or know nothing else.
//!
//! With [`Tls`] both sides show a certificate of one authority: whoever has none gets no further than
//! the handshake. What is served without it is the caller's choice.

use crate::service::{ServeError, Services};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// Who the server is, and whom it lets in. Everything is PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority whose certificates clients must show.
    pub ca: Vec<u8>,
    /// The server's own certificate, with those between it and its authority.
    pub certificate: Vec<u8>,
    /// Of the certificate.
    pub key: Vec<u8>,
}

impl Tls {
    /// What a server is configured with.
    pub fn of_server(self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(self.certificate, self.key))
            .client_ca_root(Certificate::from_pem(self.ca))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// The services cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Certificates and key do not make a server.
    #[error("certificate, key and authority cannot be used together")]
    Tls(#[source] tonic::transport::Error),
}

/// A TCP port that is open, before anything is answered on it.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
    server: Server,
}

impl Tcp {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or `tls` cannot be used.
    pub async fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, ListenError> {
        let mut server = Server::builder();
        if let Some(tls) = tls {
            let config = tls.of_server();
            server = server.tls_config(config).map_err(ListenError::Tls)?;
        }
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { listener, server })
    }

    /// Where it listens; the port is the one that was chosen when 0 was asked for.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is ready.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(
        self,
        services: Services,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let (router, shutdown) = services.on(self.server, shutdown).await?;
        let incoming = TcpListenerStream::new(self.listener);
        router
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await?;
        Ok(())
    }

    /// Serves nothing but `grpc.health.v1` of these services.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve_health(mut self, services: Services) -> Result<(), ServeError> {
        let incoming = TcpListenerStream::new(self.listener);
        let router = self.server.add_service(services.health());
        router.serve_with_incoming(incoming).await?;
        Ok(())
    }
}
