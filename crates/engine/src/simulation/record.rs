//! What every TXID must be, noted when it was captured.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use walstream_ltx::{Decoder, Header, Txid};

use super::image::Image;

/// The states that the database was in, and the numbers that they got.
#[derive(Default)]
pub(super) struct Record {
    /// Every state that SQLite ever called committed.
    committed: HashSet<u64>,
    images: BTreeMap<Txid, Image>,
    /// Which level-0 file led there: a number may be given out anew if it never left this machine.
    files: BTreeMap<Txid, u64>,
}

impl Record {
    pub(super) fn commit(&mut self, image: &Image) {
        self.committed.insert(image.hash());
    }

    pub(super) fn image(&self, txid: Txid) -> Option<&Image> {
        self.images.get(&txid)
    }

    /// Notes the level-0 files that are new. `now` is what SQLite says is in the database, `wal` the WAL that they
    /// were made from. `lost` says why a file may hold pages that say nothing new, if it may.
    pub(super) fn note(&mut self, files: &[PathBuf], now: &Image, wal: &[u8], lost: Option<&str>) {
        self.commit(now);
        for file in files {
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
            if txid == Txid::FIRST.next() {
                self.begin(&content, now);
            }
            let before = self.images.get(&txid.prev()).cloned();
            let before = before.unwrap_or_else(|| panic!("{txid} comes after nothing"));
            let (image, header, known) = before.after(&content);
            let seen = self.committed.contains(&image.hash());
            assert!(seen, "{txid} is a state that never was: against now {}", image.difference(now));
            if lost.is_none() {
                require_reason(&header, &known, wal);
            }
            self.images.insert(txid, image);
            self.files.insert(txid, hash(&content));
            self.files.split_off(&txid.next());
        }
    }

    /// The first file is an anchor in a state that needs no file of its own.
    fn begin(&mut self, anchor: &[u8], now: &Image) {
        let header = Decoder::new(anchor).unwrap().header().clone();
        let before = self.images.get(&Txid::FIRST).map(Image::digest);
        if before.is_none() || header.lineage.pre_apply != before {
            self.images.insert(Txid::FIRST, now.clone());
        }
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
