//! Looks whether the certificate's files have changed, now and then and at every SIGHUP, and has them read again.

use std::time::Duration;

use tokio::signal::unix::Signal;

use crate::io::tls::Certificates;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Ends with the process. Without certificates it only keeps SIGHUP from ending the server.
pub async fn watch(certificates: Option<Certificates>, mut hangup: Signal) {
    let Some(certificates) = certificates else {
        while hangup.recv().await.is_some() {
            log::info!("SIGHUP: there is nothing to read again");
        }
        return;
    };
    let mut seen = certificates.versions();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let versions = certificates.versions();
        if !asked && versions == seen {
            continue;
        }
        seen = versions;
        match certificates.reload() {
            Ok(()) => log::info!("new connections over TLS get the certificate as it is now in the files"),
            Err(error) => log::error!("the old certificate stays in use: {error}"),
        }
    }
}
