//! The configuration file, read anew while the daemon runs.
//!
//! Invariant: a file that cannot be used changes nothing. Databases that it does not change go on undisturbed.

use std::convert::Infallible;

use super::directories;
use super::roster::{Changes, Roster};
use super::{Job, Reread, restore_if_missing};
use crate::config::{DatabaseConfig, Entries};
use crate::error::CliError;
use crate::http::Observed;
use crate::signals::Signals;
use crate::systemd::Systemd;

/// What a daemon was started with, as far as it takes a restart to change it: each key with its value.
pub(super) struct Fixed([(&'static str, String); 7]);

impl Fixed {
    pub(super) fn of(job: &Job) -> Self {
        let heartbeat = job.heartbeat.as_ref().map(|heartbeat| (heartbeat.url.expose(), heartbeat.interval));
        Fixed([
            ("exec", format!("{:?}", job.exec)),
            ("addr", format!("{:?}", job.addr)),
            ("mcp-addr", format!("{:?}", job.mcp)),
            ("heartbeat-url", format!("{heartbeat:?}")),
            ("socket", format!("{:?}", job.socket)),
            ("logging", format!("{:?}", job.logging)),
            ("shutdown-sync-timeout", format!("{:?}", job.shutdown)),
        ])
    }

    fn changed_in(&self, other: &Fixed) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(one, other)| one != other).map(|((key, _), _)| *key).collect()
    }
}

/// Keeps the daemon in step with its watched directories, and on SIGHUP with its configuration file.
pub(super) async fn follow(
    started: (Entries, Vec<DatabaseConfig>),
    fixed: Fixed,
    mut reread: Option<(Signals, Reread)>,
    roster: &Roster,
    (observed, systemd): (&Observed, &Systemd),
) -> Infallible {
    let (entries, databases) = started;
    let mut directories = Box::pin(directories::follow(entries, roster, databases));
    loop {
        let reread = tokio::select! {
            never = &mut directories => match never {},
            reread = asked(&mut reread) => reread,
        };
        systemd.reloading();
        match reload(reread, &fixed, roster, observed).await {
            Ok((entries, databases)) => {
                directories = Box::pin(directories::follow(entries, roster, databases));
                systemd.reloaded(None);
            }
            Err(error) => {
                tracing::error!(%error, "configuration not reloaded, everything stays as it is");
                systemd.reloaded(Some(&error.to_string()));
            }
        }
    }
}

/// Waits for SIGHUP.
async fn asked(reread: &mut Option<(Signals, Reread)>) -> &Reread {
    match reread {
        Some((hangups, reread)) => {
            hangups.next().await;
            reread
        }
        None => std::future::pending().await,
    }
}

async fn reload(
    reread: &Reread,
    fixed: &Fixed,
    roster: &Roster,
    observed: &Observed,
) -> Result<(Entries, Vec<DatabaseConfig>), CliError> {
    let reread = reread.clone();
    let job = tokio::task::spawn_blocking(move || reread()).await;
    let mut job = job.map_err(|error| CliError::new(format!("the file was not read: {error}")))??;
    for database in roster.unknown(&job.databases).await {
        restore_if_missing(database, &observed.metrics).await?;
    }
    let now = Fixed::of(&job);
    let Changes { added, removed, changed } =
        roster.replace(job.databases.clone(), std::mem::take(&mut job.defaults)).await?;
    for warning in &job.warnings {
        tracing::warn!("{warning}");
    }
    let later = fixed.changed_in(&now);
    if !later.is_empty() {
        tracing::warn!(keys = later.join(", "), "some settings take effect after a restart only");
    }
    tracing::info!(added, removed, changed, "configuration reloaded");
    Ok((job.entries, job.databases))
}
