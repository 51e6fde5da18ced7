//! What must be right whenever everything has come to rest.

use std::fs;
use std::sync::Arc;

use walstream_ltx::{FileName, Level, Txid};
use walstream_storage::ReplicaClient;

use super::image::{Image, contents};
use super::world::World;
use crate::error::EngineError;
use crate::restore::{RestoreOptions, Target, Unwatched, restore};

impl World {
    /// Everything works again and comes to rest; then everything must be right.
    pub(super) fn quiesce(&mut self) {
        self.bury_the_dead();
        self.heal_disk();
        self.store.heal();
        self.desk().open();
        while !self.is_in_contact() {
            self.start();
        }
        let mut daemon = self.daemon.take().unwrap();
        let shipped = self.runtime.block_on(daemon.ship());
        let position = daemon.position();
        shipped.unwrap_or_else(|error| panic!("an error without a cause: {error}"));
        let again = self.runtime.block_on(daemon.ship());
        assert_eq!(daemon.position(), position, "nothing happened, and still there is a new TXID");
        self.daemon = Some(daemon);
        self.note();
        again.unwrap_or_else(|error| panic!("an error without a cause, the second time: {error}"));
        self.lost = None;

        let now = self.desk().image().unwrap();
        let noted = self.record.image(position.txid).unwrap();
        assert!(*noted == now, "{} is not the database: {}", position.txid, noted.difference(&now));
        assert_eq!(position.checksum, Some(noted.digest()));
        assert_eq!(self.check(Target::Latest), Ok(position.txid));
        let listed = self.listed();
        for _ in 0..3 {
            let txid = self.random.pick(&listed);
            self.check_txid(txid);
        }
    }

    fn is_in_contact(&mut self) -> bool {
        let Some(mut daemon) = self.daemon.take() else { return false };
        let known = daemon.is_current()
            && match self.runtime.block_on(daemon.contact()) {
                Ok(known) => known,
                // The next start is told the same, and does what a person would do.
                Err(EngineError::Fenced { .. }) if self.was_set_back => false,
                Err(error) => panic!("no contact: {error}"),
            };
        self.daemon = known.then_some(daemon);
        known
    }

    pub(super) fn check_all(&mut self) {
        for txid in self.listed() {
            self.check_txid(txid);
        }
        for file in self.store.names(Level::L0) {
            let path = self.options.meta_path.join("ltx/0").join(FileName(file).to_string());
            let local = fs::read(path).ok();
            let remote = self.store.content(Level::L0, file);
            // Not byte for byte: a flipped bit in a compressed page may say the same.
            let same = local.is_none() || local.as_deref().map(contents) == remote.as_deref().map(contents);
            assert!(same, "level-0 file {file} is one thing here and another there");
        }
    }

    /// Every TXID that a file on the replica ends with.
    fn listed(&self) -> Vec<Txid> {
        let mut listed: Vec<Txid> =
            Level::all().flat_map(|level| self.store.names(level)).map(|txids| txids.max()).collect();
        listed.sort_unstable();
        listed.dedup();
        listed
    }

    fn check_txid(&mut self, txid: Txid) {
        let snapshots = self.store.names(Level::SNAPSHOT);
        let must_be_there = !self.has_holes && snapshots.iter().any(|&snapshot| snapshot.max() <= txid);
        match self.check(Target::Txid(txid)) {
            Ok(restored) => assert_eq!(restored, txid),
            Err(error) => assert!(!must_be_there, "{txid} cannot be restored: {error}"),
        }
    }

    /// Restores, and compares with what was captured under that number.
    fn check(&mut self, target: Target) -> Result<Txid, String> {
        let output = self.folder.path().join("restored.db");
        let options = RestoreOptions { target, ..RestoreOptions::new(&output) };
        let client = Arc::clone(&self.store) as Arc<dyn ReplicaClient>;
        let restored = match self.runtime.block_on(restore(client, &options, &Unwatched)) {
            Ok(restored) => restored,
            Err(
                error @ (EngineError::Gap { .. }
                | EngineError::Unreachable { .. }
                | EngineError::NoBackup { .. }),
            ) => {
                return Err(error.to_string());
            }
            Err(error) => panic!("{target}: {error}"),
        };
        let found = Image::new(fs::read(&output).unwrap());
        fs::remove_file(output).unwrap();
        let noted = self.record.image(restored.txid).unwrap();
        assert!(found == *noted, "{target} is restored wrongly: {}", found.difference(noted));
        Ok(restored.txid)
    }
}
