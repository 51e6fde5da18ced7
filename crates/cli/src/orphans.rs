//! Processes whose parents have ended. Where we are process 1, as in a container, they become ours, and stay zombies until
//! somebody asks how they ended.
//!
//! Invariant: how a process of our own ended is left to whoever started it and waits for it: he asks at once, so only what is
//! still a zombie after a while is an orphan.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, child_subreaper, getpid, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

/// Whoever waits for a process of our own has asked after this time.
const WHILE: Duration = Duration::from_secs(1);

/// Lets orphans go, for as long as it is awaited. `child` is spared in any case.
pub(crate) async fn reap(child: Option<Pid>) -> Infallible {
    match signal(SignalKind::child()) {
        Ok(ended) if they_become_ours() => reap_when(ended, child).await,
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot notice orphans, they stay zombies"),
    }
    std::future::pending().await
}

/// We are the first process, or said to be as good as it.
fn they_become_ours() -> bool {
    getpid().is_init() || matches!(child_subreaper(), Ok(Some(_)))
}

/// Ends when signals are no longer to be had.
async fn reap_when(mut ended: Signal, child: Option<Pid>) {
    let mut seen = HashSet::new();
    loop {
        if seen.is_empty() && ended.recv().await.is_none() {
            return;
        }
        let mut now = spawn_blocking(zombies).await.unwrap_or_default();
        now.retain(|pid| Some(*pid) != child);
        for pid in now.intersection(&seen) {
            // One who is no longer there has been asked for.
            let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        seen = &now - &seen;
        if !seen.is_empty() {
            tokio::time::sleep(WHILE).await;
        }
    }
}

/// Our zombies.
fn zombies() -> HashSet<Pid> {
    let us = getpid();
    let is_ours = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        // The name before the last bracket may hold anything.
        let mut words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        words.next() == Some("Z") && words.next() == Some(&us.as_raw_nonzero().to_string())
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?)).filter(is_ours).collect()
}
