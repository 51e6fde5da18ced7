//! What every TXID must be, noted when it was captured.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use walstream_ltx::{Decoder, Header, Txid};

use super::desk::Witness;
use super::image::Image;

/// The states that the database was in, and the numbers that they got.
#[derive(Default)]
pub(super) struct Record {
    images: BTreeMap<Txid, Image>,
    /// All of them by digest, also those whose numbers were given out anew: a machine that is set back has them again.
    archive: BTreeMap<u64, Image>,
    /// Which level-0 file led there: a number may be given out anew if it never left this machine.
    files: BTreeMap<Txid, u64>,
    /// Files that were looked at, and what tells whether they are still the same.
    known: BTreeMap<PathBuf, (u64, u64, i64, i64)>,
}

impl Record {
    pub(super) fn image(&self, txid: Txid) -> Option<&Image> {
        self.images.get(&txid)
    }

    /// Notes the level-0 files that are new. `wal` is the WAL that they were made from. `lost` says why a file may hold
    /// pages that say nothing new, if it may. Returns how many there are.
    pub(super) fn note(
        &mut self,
        files: &[PathBuf],
        witness: &Witness,
        wal: &[u8],
        lost: Option<&str>,
    ) -> usize {
        let mut new = 0;
        for file in files {
            let metadata = std::fs::metadata(file).unwrap();
            let identity = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
            if self.known.insert(file.clone(), identity) == Some(identity) {
                continue;
            }
            let content = std::fs::read(file).unwrap();
            // Damage stays until a start gets so far as to remove it.
            if walstream_ltx::verify(&content[..]).is_err() {
                continue;
            }
            let txids = Decoder::new(&content[..]).unwrap().header().txids;
            let txid = txids.max();
            assert_eq!(txids.min(), txid, "one capture, one file");
            if self.files.get(&txid) == Some(&hash(&content)) {
                continue;
            }
            let before = self.before(&content, witness);
            let (image, header, known) = before.after(&content);
            let against = || witness.now().map(|now| image.difference(now));
            assert!(
                witness.has_seen(&image),
                "{txid} is a state that never was: against now {:?}",
                against()
            );
            if lost.is_none() {
                require_reason(&header, &known, wal);
            }
            self.keep(txid, image);
            self.files.insert(txid, hash(&content));
            self.files.split_off(&txid.next());
            new += 1;
        }
        new
    }

    fn keep(&mut self, txid: Txid, image: Image) {
        self.archive.insert(image.digest().get(), image.clone());
        self.images.insert(txid, image);
    }

    /// The state that a file follows. That of TXID 1 needs no file of its own, and is found by its digest.
    fn before(&mut self, file: &[u8], witness: &Witness) -> Image {
        let header = Decoder::new(file).unwrap().header().clone();
        let (txid, digest) = (header.txids.min(), header.lineage.pre_apply.unwrap());
        if let Some(image) = self.archive.get(&digest.get()).cloned() {
            self.images.insert(txid.prev(), image.clone());
            return image;
        }
        assert_eq!(txid, Txid::FIRST.next(), "{txid} comes after nothing");
        let first = witness.find(digest).expect("TXID 1 is a state that never was");
        self.keep(Txid::FIRST, first.clone());
        first
    }
}

/// A page that says nothing new is there only because the WAL has a frame for it.
fn require_reason(header: &Header, known: &BTreeSet<u32>, wal: &[u8]) {
    let Some(frames) = frames_of(header, wal) else { return };
    let needless: Vec<_> = known.difference(&frames).collect();
    assert!(needless.is_empty(), "{} holds pages {needless:?} for no reason", header.txids);
}

/// The pages that the WAL holds where the header points; `None` if it holds other frames by now.
fn frames_of(header: &Header, wal: &[u8]) -> Option<BTreeSet<u32>> {
    let word = |at: usize| Some(u32::from_be_bytes(wal.get(at..at + 4)?.try_into().ok()?));
    let span = header.wal;
    if span.size == 0 {
        return Some(BTreeSet::new());
    }
    let same = word(16)? == span.salts.salt1 && word(20)? == span.salts.salt2;
    let frame = 24 + header.page_size.bytes();
    let frames = (span.offset as usize..(span.offset + span.size) as usize).step_by(frame);
    same.then(|| frames.map(word).collect::<Option<_>>())?
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
