//! Making one file of many: what compaction and restore by stream do.
//!
//! Invariant: the result, applied to any database, gives what the inputs give when they are applied in order.
//! Inputs are checked for contiguity before the first byte is written, and each is read to its end and proven
//! before the result is; an error after some output means that the output is to be thrown away
//! (format.md, "Merging").

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{Read, Write};

use crate::checksum::Checksum;
use crate::decode::{DecodeError, Decoder, PageRef};
use crate::encode::{EncodeError, Encoder};
use crate::extension::Lineage;
use crate::header::{Header, WalSpan};
use crate::page::{PageSize, Pgno};
use crate::summary::Summary;
use crate::txid::TxidRange;

/// The header of the file that these, oldest first, merge into. Ranges may overlap, but there is no hole
/// between them and each goes beyond the one before it.
pub fn merged_header(headers: &[Header]) -> Result<Header, MergeError> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Err(MergeError::NoInputs);
    };
    for pair in headers.windows(2) {
        check_successor(&pair[0], &pair[1])?;
    }
    let txids = TxidRange::new(first.txids.min(), last.txids.max()).ok_or(MergeError::NoInputs)?;
    Ok(Header {
        page_size: first.page_size,
        commit: last.commit,
        txids,
        timestamp: last.timestamp,
        tracked: false,
        pre_apply: None,
        wal: WalSpan::default(),
        node_id: 0,
        lineage: Lineage { pre_apply: first.lineage.pre_apply, post_apply: last.lineage.post_apply },
    })
}

fn check_successor(older: &Header, newer: &Header) -> Result<(), MergeError> {
    let (before, after) = (older.txids, newer.txids);
    if older.page_size != newer.page_size {
        return Err(MergeError::PageSizes { before, old: older.page_size, after, new: newer.page_size });
    }
    if after.min() > before.max().next() || after.max() <= before.max() {
        return Err(MergeError::NotContiguous { before, after });
    }
    let adjacent = after.min() == before.max().next();
    match (older.lineage.post_apply, newer.lineage.pre_apply) {
        (Some(left), Some(expects)) if adjacent && left != expects => {
            Err(MergeError::Lineage { before, left, after, expects })
        }
        _ => Ok(()),
    }
}

/// The pages of several files as those of one: for each page the newest version, in order.
pub struct Merge<R> {
    header: Header,
    inputs: Vec<Decoder<R>>,
    /// The page that each input is at, lowest page first, newest input first.
    heads: BinaryHeap<Reverse<(Pgno, Reverse<usize>)>>,
    /// Inputs that were at the page given out last: they move on at the next call.
    stale: Vec<usize>,
}

impl<R: Read> Merge<R> {
    /// Merges files that were just opened, oldest first.
    pub fn new(inputs: Vec<Decoder<R>>) -> Result<Self, MergeError> {
        let headers: Vec<Header> = inputs.iter().map(|input| input.header().clone()).collect();
        let header = merged_header(&headers)?;
        let stale = (0..inputs.len()).collect();
        Ok(Merge { header, heads: BinaryHeap::with_capacity(inputs.len()), inputs, stale })
    }

    /// The header of the merged file.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The newest version of the next page; `None` after the last. Pages that a later input cut off are left
    /// out.
    pub fn next_page(&mut self) -> Result<Option<PageRef<'_>>, MergeError> {
        while let Some((pgno, newest)) = self.next_head()? {
            if self.header.commit.contains(pgno) {
                return Ok(self.inputs[newest].current());
            }
        }
        Ok(None)
    }

    /// The next page of all inputs, and the newest of those that have it.
    fn next_head(&mut self) -> Result<Option<(Pgno, usize)>, MergeError> {
        for index in self.stale.drain(..) {
            let input = &mut self.inputs[index];
            let txids = input.header().txids;
            if let Some(pgno) = input.advance().map_err(|source| MergeError::Input { txids, source })? {
                self.heads.push(Reverse((pgno, Reverse(index))));
            }
        }
        let Some(Reverse((pgno, Reverse(newest)))) = self.heads.pop() else { return Ok(None) };
        self.stale.push(newest);
        while let Some(Reverse((same, Reverse(older)))) = self.heads.peek().copied()
            && same == pgno
        {
            self.heads.pop();
            self.stale.push(older);
        }
        Ok(Some((pgno, newest)))
    }

    /// Reads every input to its end and checks it.
    pub fn finish(self) -> Result<(), MergeError> {
        for input in self.inputs {
            let txids = input.header().txids;
            input.finish().map_err(|source| MergeError::Input { txids, source })?;
        }
        Ok(())
    }
}

/// Merges files, oldest first, into a new one. Compressed pages are copied as they are; those of legacy
/// frames become blocks.
pub fn merge<R: Read, W: Write>(inputs: Vec<Decoder<R>>, out: W) -> Result<(W, Summary), MergeError> {
    let mut merge = Merge::new(inputs)?;
    let mut encoder = Encoder::new(out, merge.header().clone())?;
    while let Some(page) = merge.next_page()? {
        match page.block {
            Some(block) => encoder.compressed_page(page.pgno, block, page.data)?,
            None => encoder.page(page.pgno, page.data)?,
        }
    }
    merge.finish()?;
    Ok(encoder.finish(None)?)
}

/// Files that cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("there are no files to merge")]
    NoInputs,
    /// A database that changed its page size: nothing can be merged across that border.
    #[error("cannot merge {before} (page size {old}) with {after} (page size {new})")]
    PageSizes {
        /// The older file.
        before: TxidRange,
        /// Its page size.
        old: PageSize,
        /// The newer file.
        after: TxidRange,
        /// Its page size.
        new: PageSize,
    },
    /// A hole, or a file that adds nothing.
    #[error("{after} does not continue {before}: TXIDs must follow without a hole and go further")]
    NotContiguous {
        /// The older file.
        before: TxidRange,
        /// The newer file.
        after: TxidRange,
    },
    /// Two files that are not of the same history.
    #[error("{after} applies to a database with checksum {expects}, but {before} leaves {left}")]
    Lineage {
        /// The older file.
        before: TxidRange,
        /// What it leaves.
        left: Checksum,
        /// The newer file.
        after: TxidRange,
        /// What it applies to.
        expects: Checksum,
    },
    /// An input is damaged or cannot be read.
    #[error("{txids}: {source}")]
    Input {
        /// The TXIDs of the input.
        txids: TxidRange,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The result cannot be written.
    #[error("cannot write the merged file: {0}")]
    Output(#[from] EncodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, header, page};

    fn merged(files: &[Vec<u8>]) -> Result<(Header, Vec<(u32, u8)>), MergeError> {
        let inputs = files.iter().map(|bytes| Decoder::new(&bytes[..]).unwrap()).collect();
        let (bytes, summary) = merge(inputs, Vec::new())?;
        let mut decoder = Decoder::new(&bytes[..]).unwrap();
        let mut pages = Vec::new();
        while let Some(found) = decoder.next_page().unwrap() {
            assert_eq!(found.data, page(found.data[0]));
            pages.push((found.pgno.get(), found.data[0]));
        }
        assert_eq!(decoder.finish().unwrap(), summary);
        Ok((summary.header, pages))
    }

    #[test]
    fn the_newest_page_wins() {
        let files = [
            file(&header(2..=2, 9), &[(1, 1), (3, 1), (9, 1)]),
            file(&header(3..=3, 9), &[(3, 2), (4, 2)]),
            file(&header(4..=4, 9), &[(1, 3)]),
        ];
        let (merged, pages) = merged(&files).unwrap();
        assert_eq!(pages, [(1, 3), (3, 2), (4, 2), (9, 1)]);
        assert_eq!(merged, header(2..=4, 9));
    }

    #[test]
    fn a_shrink_cuts_pages_off() {
        let files = [file(&header(2..=2, 9), &[(2, 1), (8, 1), (9, 1)]), file(&header(3..=3, 4), &[(1, 2)])];
        assert_eq!(merged(&files).unwrap().1, [(1, 2), (2, 1)]);
    }

    #[test]
    fn a_merge_of_one_file_drops_where_it_came_from() {
        let from_wal = Header { wal: WalSpan { offset: 32, ..WalSpan::default() }, ..header(2..=2, 9) };
        assert_eq!(merged(&[file(&from_wal, &[])]).unwrap().0, header(2..=2, 9));
    }

    #[test]
    fn overlap_is_fine_but_holes_and_repetition_are_not() {
        let merge = |a, b| merged(&[file(&header(a, 9), &[]), file(&header(b, 9), &[])]).map(|_| ());
        assert!(merge(2..=4, 3..=6).is_ok());
        assert!(matches!(merge(2..=4, 6..=6), Err(MergeError::NotContiguous { .. })));
        assert!(matches!(merge(2..=4, 3..=4), Err(MergeError::NotContiguous { .. })));
        assert!(matches!(merged(&[]), Err(MergeError::NoInputs)));
    }

    #[test]
    fn files_of_different_histories_are_not_merged() {
        let known = |byte| Checksum::from_stored(u64::MAX - byte).unwrap();
        let with = |txids, pre_apply, post_apply| {
            let lineage = Lineage { pre_apply, post_apply };
            file(&Header { lineage, ..header(txids, 9) }, &[])
        };
        let first = with(2..=2, known(1), known(2));
        let (merged_header, _) = merged(&[first.clone(), with(3..=3, known(2), known(3))]).unwrap();
        assert_eq!(merged_header.lineage, Lineage { pre_apply: known(1), post_apply: known(3) });
        let foreign = merged(&[first.clone(), with(3..=3, known(9), known(3))]);
        assert!(matches!(foreign, Err(MergeError::Lineage { .. })));
        assert!(merged(&[first, with(3..=3, None, None)]).is_ok(), "unknown checksums prove nothing");
    }

    #[test]
    fn a_snapshot_that_would_have_a_hole_is_not_written() {
        let files = [file(&header(1..=1, 2), &[(1, 1), (2, 1)]), file(&header(2..=2, 4), &[(4, 2)])];
        let refused = merged(&files);
        assert!(matches!(refused, Err(MergeError::Output(EncodeError::Order(_)))), "{refused:?}");
    }

    #[test]
    fn damage_that_shows_only_at_the_end_is_found() {
        let mut damaged = file(&header(3..=3, 9), &[(1, 1)]);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let refused = merged(&[file(&header(2..=2, 9), &[(2, 2)]), damaged]);
        assert!(matches!(refused, Err(MergeError::Input { .. })), "{refused:?}");
    }
}
