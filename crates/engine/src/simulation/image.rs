//! All pages of a database at one moment.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rusqlite::{Connection, MAIN_DB};
use walstream_ltx::{Checksum, Decoder, Header, Pgno, page_digest};

/// Cheap to clone. Two images are equal if SQLite sees the same in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    page_size: usize,
    bytes: Arc<Vec<u8>>,
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.page_size == other.page_size && self.visible() == other.visible()
    }
}

impl Image {
    pub(super) fn of(connection: &mut Connection) -> rusqlite::Result<Self> {
        // Its cache may hold pages that were freed before they were written, and are something else in the file.
        connection.execute_batch("PRAGMA shrink_memory")?;
        let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if pages == 0 {
            return Ok(Image::default());
        }
        Ok(Image::new(connection.serialize(MAIN_DB)?.to_vec()))
    }

    /// A database file.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let stored = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        Image { page_size: if stored == 1 { 65536 } else { stored }, bytes: Arc::new(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What SQLite sees: after a crash the file may be longer than the header says, and the WAL says the same then.
    fn visible(&self) -> &[u8] {
        let word =
            |at: usize| self.bytes.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        match word(28) {
            Some(pages @ 1..) if word(24) == word(92) => {
                &self.bytes[..self.bytes.len().min(pages as usize * self.page_size)]
            }
            _ => &self.bytes,
        }
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.visible().hash(&mut hasher);
        hasher.finish()
    }

    /// The same after somebody set the journal mode to WAL: format versions, and the counters of changes.
    pub(super) fn in_wal_mode(&self) -> Image {
        if self.bytes.get(18) != Some(&1) {
            return self.clone();
        }
        let mut bytes = self.bytes.to_vec();
        let changes = u32::from_be_bytes(bytes[24..28].try_into().unwrap()).wrapping_add(1).to_be_bytes();
        bytes[18..20].fill(2);
        bytes[24..28].copy_from_slice(&changes);
        bytes[92..96].copy_from_slice(&changes);
        Image { page_size: self.page_size, bytes: Arc::new(bytes) }
    }

    pub(super) fn digest(&self) -> Checksum {
        let pages = (1..).zip(self.bytes.chunks(self.page_size));
        pages.fold(Checksum::EMPTY, |sum, (number, page)| {
            sum.toggle(page_digest(Pgno::new(number).unwrap(), page))
        })
    }

    /// Where two images differ, for people.
    pub(super) fn difference(&self, other: &Image) -> String {
        let pages = |image: &Image| image.bytes.len() / image.page_size;
        let page =
            |image: &Image, index: usize| image.bytes.chunks(image.page_size).nth(index).map(<[u8]>::to_vec);
        let differ: Vec<usize> = (0..pages(self).max(pages(other)))
            .filter(|&index| page(self, index) != page(other, index))
            .map(|index| index + 1)
            .collect();
        let sizes = (self.page_size, pages(self), other.page_size, pages(other));
        format!("pages {differ:?} differ (page size and pages: {sizes:?})")
    }

    /// The image that a level-0 file leads to, and which of its pages say nothing new.
    pub(super) fn after(&self, file: &[u8]) -> (Image, Header, BTreeSet<u32>) {
        let mut decoder = Decoder::new(file).unwrap();
        let header = decoder.header().clone();
        let page_size = header.page_size.bytes();
        let old: &[u8] = if page_size == self.page_size { &self.bytes } else { &[] };
        let mut bytes = old.to_vec();
        bytes.resize(header.commit.get() as usize * page_size, 0);
        let (mut known, mut grown) = (BTreeSet::new(), old.len() / page_size);
        while let Some(page) = decoder.next_page().unwrap() {
            let at = page.pgno.index() * page_size..(page.pgno.index() + 1) * page_size;
            if old.get(at.clone()) == Some(page.data) {
                known.insert(page.pgno.get());
            }
            grown = if page.pgno.index() == grown { grown + 1 } else { grown };
            bytes[at].copy_from_slice(page.data);
        }
        decoder.finish().unwrap();
        let all = grown >= header.commit.get() as usize;
        assert!(all, "{} lacks pages by which the database grew", header.txids);
        (Image { page_size, bytes: Arc::new(bytes) }, header, known)
    }
}

/// The header and the pages of a level-0 file.
pub(super) fn contents(file: &[u8]) -> (Header, Vec<(Pgno, Vec<u8>)>) {
    let mut decoder = Decoder::new(file).unwrap();
    let (header, mut pages) = (decoder.header().clone(), Vec::new());
    while let Some(page) = decoder.next_page().unwrap() {
        pages.push((page.pgno, page.data.to_vec()));
    }
    (header, pages)
}
