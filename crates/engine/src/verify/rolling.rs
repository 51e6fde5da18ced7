//! Validation beside a daemon: the names at every turn, and a share of the contents.
//!
//! Invariant: a replica that stays as it is has been read whole after [`TURNS`] turns. Nothing is said of what a
//! restore does not miss: only of damage, of files that are there twice, and of states that nothing leads to.

use std::sync::Arc;

use tokio::sync::Semaphore;
use walstream_ltx::{Level, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use super::chain::{self, Chain};
use super::contents::{self, Content};
use super::levels::{self, Finding, Kind};
use crate::error::EngineError;
use crate::restore::plan;

/// After so many turns everything has been read.
const TURNS: u64 = 10;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, if it is in one level.
    pub(crate) level: Option<Level>,
    /// What kind of fault it is, for the log.
    pub(crate) kind: &'static str,
    /// What is wrong, in words.
    pub(crate) message: String,
}

/// How far the contents have been read.
pub(crate) struct Rolling {
    client: Arc<dyn ReplicaClient>,
    last: Option<(Level, TxidRange)>,
}

impl Rolling {
    /// Nothing has been read yet.
    pub(crate) fn new(client: Arc<dyn ReplicaClient>) -> Self {
        Rolling { client, last: None }
    }

    /// Looks at all names and reads the next share. Each file is read under a permit.
    pub(crate) async fn turn(&mut self, permits: &Semaphore) -> Result<Vec<Fault>, EngineError> {
        let mut listing = plan::list_upwards(&*self.client, TimestampSource::Listing).await?;
        let mut faults = look(&listing);
        if !faults.is_empty() {
            // Nothing is said on the word of one listing.
            listing = plan::list_upwards(&*self.client, TimestampSource::Listing).await?;
            faults = look(&listing);
        }
        for file in next_share(&mut listing, self.last) {
            // Never closed; if it were, there would be no bound and nothing worse.
            let _permit = permits.acquire().await;
            // What vanished was deleted by retention, or shows in the names the next time.
            if let Content::Damaged(reason) = contents::read(&self.client, &file).await? {
                let message = format!("file {} is damaged: {reason}", file.txids);
                faults.push(Fault { level: Some(file.level), kind: "damaged", message });
            }
            self.last = Some(name(&file));
        }
        Ok(faults)
    }
}

fn name(file: &FileInfo) -> (Level, TxidRange) {
    (file.level, file.txids)
}

/// What the names alone show.
fn look(listing: &[FileInfo]) -> Vec<Fault> {
    let chain = chain::judge(listing, listing);
    let findings = levels::look(listing).into_iter().filter(|finding| matters(finding, &chain));
    let fault = |finding: Finding| {
        let kind = match finding.kind {
            Kind::Gap => "gap",
            Kind::Overlap => "overlap",
        };
        Fault { level: Some(finding.level), kind, message: finding.to_string() }
    };
    findings.map(fault).chain(unreachable(&chain)).collect()
}

/// A gap in one level is a fault where it makes a hole that takes states away.
fn matters(finding: &Finding, chain: &Chain) -> bool {
    let overlaps =
        |hole: &TxidRange| (*hole).min() <= finding.txids.max() && finding.txids.min() <= (*hole).max();
    finding.kind == Kind::Overlap || (!chain.unreachable.is_empty() && chain.holes.iter().any(overlaps))
}

fn unreachable(chain: &Chain) -> Option<Fault> {
    let (first, last) = chain.unreachable.first().zip(chain.unreachable.last())?;
    let message = match chain.unreachable.len() {
        1 => format!("state {first} cannot be restored"),
        count => format!("{count} states from {first} to {last} cannot be restored"),
    };
    Some(Fault { level: None, kind: "unreachable", message })
}

/// The files after the last one that was read, around the end of the listing, that make up a share of all bytes.
fn next_share(listing: &mut [FileInfo], last: Option<(Level, TxidRange)>) -> Vec<FileInfo> {
    listing.sort_by_key(name);
    let start = listing.partition_point(|file| last.is_some_and(|last| name(file) <= last));
    let all = listing.iter().map(weight).fold(0, u64::saturating_add);
    let mut left = all.div_ceil(TURNS);
    let (before, after) = listing.split_at(start);
    let wanted = |file: &&FileInfo| {
        let wanted = left > 0;
        left = left.saturating_sub(weight(file));
        wanted
    };
    after.iter().chain(before).take_while(wanted).cloned().collect()
}

/// An empty file must be read as well.
fn weight(file: &FileInfo) -> u64 {
    file.size.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walstream_ltx::{Timestamp, Txid};

    use super::*;
    use crate::restore::tests::model::{Model, range};

    fn replica() -> Model {
        let mut model = Model::new(512, true);
        (1..=30u32).for_each(|txid| model.commit(8, &[(txid % 5 + 1, txid as u8)]));
        model.store(9, 1, 2);
        model.compact(1, 3, 8);
        model
    }

    async fn turns(model: &Model, count: u64) -> Vec<Fault> {
        let (mut rolling, permits) = (Rolling::new(model.client()), Semaphore::new(1));
        let mut faults = Vec::new();
        for _ in 0..count {
            faults.extend(rolling.turn(&permits).await.unwrap());
        }
        faults
    }

    #[tokio::test]
    async fn a_sound_replica_gives_nothing_to_say() {
        assert_eq!(turns(&replica(), 25).await, []);
    }

    #[tokio::test]
    async fn damage_is_found_within_ten_turns_and_once_in_ten() {
        let model = replica();
        let mut bytes = model.replica.content(Level::L0, range(20, 20)).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        model.put(0, 20, 20, bytes);
        let faults = turns(&model, TURNS).await;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].level, faults[0].kind), (Some(Level::L0), "damaged"));
    }

    #[tokio::test]
    async fn a_hole_is_said_with_the_states_behind_it() {
        let model = replica();
        model.replica.remove(Level::L0, range(20, 20));
        let said: Vec<_> =
            turns(&model, 1).await.into_iter().map(|fault| (fault.kind, fault.message)).collect();
        assert_eq!(
            said,
            [
                ("gap", "TXID 0000000000000014 is missing".to_owned()),
                (
                    "unreachable",
                    "10 states from 0000000000000015 to 000000000000001e cannot be restored".to_owned()
                ),
            ]
        );
    }

    #[tokio::test]
    async fn a_gap_that_another_level_fills_is_not_worth_a_line() {
        let model = replica();
        model.replica.remove(Level::L0, range(5, 5));
        assert_eq!(turns(&model, 1).await, []);
    }

    proptest! {
        #[test]
        fn ten_turns_read_everything(sizes in prop::collection::vec(0..5000u64, 1..40)) {
            let file = |(txid, &size): (u64, &u64)| FileInfo {
                level: Level::L0,
                txids: TxidRange::single(Txid::new(txid)).unwrap(),
                size,
                created_at: Timestamp::default(),
            };
            let mut listing: Vec<FileInfo> = (1..).zip(&sizes).map(file).collect();
            let (mut read, mut last) = (Vec::new(), None);
            for _ in 0..TURNS {
                let share = next_share(&mut listing, last);
                last = share.last().map(name).or(last);
                read.extend(share);
            }
            let unread = listing.iter().filter(|file| !read.contains(file));
            prop_assert_eq!(unread.count(), 0);
        }
    }
}
