//! All pages of a database at one moment.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rusqlite::{Connection, MAIN_DB};
use walstream_ltx::{Checksum, Decoder, Header, Pgno, page_digest};

/// Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    page_size: usize,
    bytes: Arc<Vec<u8>>,
}

impl Image {
    pub(super) fn of(connection: &mut Connection) -> Self {
        let is_empty = connection.query_row("PRAGMA page_count", [], |row| row.get(0)) == Ok(0);
        if is_empty { Image::default() } else { Image::new(connection.serialize(MAIN_DB).unwrap().to_vec()) }
    }

    /// A database file.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let stored = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        Image { page_size: if stored == 1 { 65536 } else { stored }, bytes: Arc::new(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        hasher.finish()
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
