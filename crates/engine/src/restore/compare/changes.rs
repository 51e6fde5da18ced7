//! Which pages differ, by content.
//!
//! Invariant: every page that differs is among them and no other. Where the files carry digests of the database, this
//! is proven: the pages that differ account for the whole difference of the two digests.

use walstream_ltx::{Checksum, Pgno, page_digest};

use super::btree::Head;
use super::versions::{Side, Versions};
use crate::error::EngineError;

/// A page that differs, or is only in one of the two states.
struct Changed {
    pgno: Pgno,
    heads: [Option<Head>; 2],
}

/// All of them, in order.
pub(super) struct Changes(Vec<Changed>);

impl Changes {
    /// Fetches both versions of all pages that may differ, and compares them.
    pub(super) async fn find(versions: &mut Versions) -> Result<Changes, EngineError> {
        let mut changes = Changes(Vec::new());
        let mut account = Checksum::EMPTY;
        for pgnos in versions.candidates().chunks(versions.batch() / 2) {
            let wanted: Vec<_> = pgnos.iter().flat_map(|&pgno| Side::BOTH.map(|side| (side, pgno))).collect();
            let pages = versions.pages(&wanted).await?;
            for (&pgno, pair) in pgnos.iter().zip(pages.chunks(2)) {
                let [before, after] = pair else { continue };
                if before == after {
                    continue;
                }
                let digests = pair.iter().flatten().map(|page| page_digest(pgno, page));
                account = digests.fold(account, Checksum::toggle);
                let heads = [before, after].map(|page| page.as_deref().and_then(|page| Head::of(pgno, page)));
                changes.0.push(Changed { pgno, heads });
            }
        }
        changes.prove(versions, account)?;
        Ok(changes)
    }

    fn prove(&self, versions: &Versions, account: Checksum) -> Result<(), EngineError> {
        let [before, after] = Side::BOTH.map(|side| versions.header(side).lineage.post_apply);
        let expected = before.zip(after).map(|(before, after)| before.toggle(after));
        if expected.is_none_or(|expected| expected == account) {
            return Ok(());
        }
        let reason = "the pages that differ are not those that its checksum promises";
        versions.damaged(reason).map_or(Ok(()), Err)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, pgno: Pgno) -> bool {
        self.find_one(pgno).is_some()
    }

    /// How a page that differs begins in one state.
    pub(super) fn head(&self, side: Side, pgno: Pgno) -> Option<Head> {
        self.find_one(pgno)?.heads[side.index()]
    }

    /// Those that one state has.
    pub(super) fn of(&self, side: Side) -> impl Iterator<Item = (Pgno, Head)> {
        self.0.iter().filter_map(move |page| Some((page.pgno, page.heads[side.index()]?)))
    }

    fn find_one(&self, pgno: Pgno) -> Option<&Changed> {
        let at = self.0.binary_search_by_key(&pgno, |page| page.pgno).ok()?;
        self.0.get(at)
    }
}
