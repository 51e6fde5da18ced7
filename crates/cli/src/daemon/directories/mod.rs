//! Databases that come and go in watched directories.
//!
//! Invariant: events only say where to look; what is taken and what is released is decided by what is on the disk. What
//! events miss, the next round finds.

mod survey;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::roster::Roster;
use crate::config::{DatabaseConfig, Entries};
use survey::{Change, Survey};

/// An application creates a database in several steps. It is given this time before anybody else opens it.
const SETTLE: Duration = Duration::from_millis(200);
/// All folders are looked at this often, in case an event was missed.
const ROUND: Duration = Duration::from_secs(15);
/// The same if there are folders whose events cannot be had.
const BLIND_ROUND: Duration = Duration::from_secs(2);

/// Keeps the fleet in step with the watched directories, for as long as it is awaited.
pub(super) async fn follow(entries: Entries, roster: &Roster, started: Vec<DatabaseConfig>) -> Infallible {
    if entries.watched().next().is_none() {
        return std::future::pending().await;
    }
    for directory in entries.watched() {
        tracing::info!(path = %directory.display(), "watching directory");
    }
    let mut survey = Survey::new(entries, roster.fleet().folder_watch(), &started);
    let mut next_round = Instant::now();
    loop {
        let changes;
        (survey, changes) = if Instant::now() >= next_round {
            let done = on_disk(survey, Survey::look_everywhere).await;
            next_round = Instant::now() + if done.0.is_blind() { BLIND_ROUND } else { ROUND };
            done
        } else {
            on_disk(survey, Survey::look_at_news).await
        };
        for change in changes {
            apply(change, roster).await;
        }
        tokio::select! {
            () = survey.news() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep_until(next_round) => {}
        }
    }
}

/// Looks at the disk on a blocking thread.
async fn on_disk(
    mut survey: Survey,
    look: impl FnOnce(&mut Survey) -> Vec<Change> + Send + 'static,
) -> (Survey, Vec<Change>) {
    let looked = tokio::task::spawn_blocking(move || {
        let changes = look(&mut survey);
        (survey, changes)
    });
    match looked.await {
        Ok(done) => done,
        // The runtime is ending.
        Err(_) => std::future::pending().await,
    }
}

async fn apply(change: Change, roster: &Roster) {
    match change {
        Change::Appeared(database) => {
            let path = database.path.clone();
            if let Err(error) = roster.appeared(*database).await {
                tracing::error!(path = %path.display(), %error, "database cannot be replicated");
            }
        }
        Change::Vanished(path) => roster.vanished(path).await,
    }
}
