//! What the last run left in the metadata folder.
//!
//! Invariant: what is returned was verified whole. Torn or foreign files at the end are named and left where they are:
//! their numbers may have been used on the replica, so they go only when that is known. The database itself tells
//! what is missing after the newest file that can be trusted.

use std::io::BufReader;

use walstream_ltx::header::Header;
use walstream_ltx::{Txid, TxidRange, verify};

use super::folder::ShadowFolder;
use crate::capture::page_map::PageMap;
use crate::error::EngineError;

/// The local state of a database.
pub(crate) struct Local {
    /// The header of the newest level-0 file.
    pub(crate) newest: Option<Header>,
    /// The page map, rolled forward as far as the files lead, and the TXID that it is of: that of the newest file, or a
    /// later one whose file is lost.
    pub(crate) map: Option<(PageMap, Txid)>,
    /// Files after it that cannot be trusted.
    pub(crate) damaged: Vec<TxidRange>,
}

impl Local {
    /// How far it goes; `None` if there is nothing that says what was captured.
    pub(crate) fn end(&self) -> Option<LocalEnd> {
        let sound = self.newest.as_ref()?.txids.max();
        let damaged = self.damaged.iter().map(|&file| file.max());
        let mapped = self.map.iter().map(|&(_, txid)| txid);
        Some(LocalEnd { sound, given_out: damaged.chain(mapped).fold(sound, Ord::max) })
    }

    /// Whether it says by itself which TXIDs are taken.
    pub(crate) fn is_sound(&self) -> bool {
        self.newest.is_some() && self.damaged.is_empty()
    }
}

/// How far a local state goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalEnd {
    /// The newest file that is whole.
    pub(crate) sound: Txid,
    /// The last TXID that was given out here, even if its file is damaged or lost.
    pub(crate) given_out: Txid,
}

/// Reads the local state.
pub(crate) fn recover(shadow: &ShadowFolder) -> Result<Local, EngineError> {
    let mut files = shadow.files()?;
    let (mut newest, mut damaged) = (None, Vec::new());
    while let Some(&file) = files.last() {
        match verified(shadow, file)? {
            Ok(header) => {
                newest = Some(header);
                break;
            }
            Err(reason) => {
                let path = shadow.path(file);
                tracing::warn!(path = %path.display(), reason, "damaged level-0 file is not used; its pages are captured anew");
                damaged.extend(files.pop());
            }
        }
    }
    let map = rolled_map(shadow, &files, newest.as_ref());
    Ok(Local { newest, map, damaged })
}

/// The header of a file that is whole and is what its name says, or what is wrong with it.
fn verified(shadow: &ShadowFolder, file: TxidRange) -> Result<Result<Header, String>, EngineError> {
    let Some(open) = shadow.open_file(file)? else { return Ok(Err("it is gone".into())) };
    Ok(match verify::verify(BufReader::new(open)) {
        Ok(summary) if summary.header.txids == file => Ok(summary.header),
        Ok(summary) => Err(format!("its header says {}", summary.header.txids)),
        Err(error) => Err(error.to_string()),
    })
}

/// The stored map, rolled forward over the files after it; `None` where that proves nothing.
fn rolled_map(
    shadow: &ShadowFolder,
    files: &[TxidRange],
    newest: Option<&Header>,
) -> Option<(PageMap, Txid)> {
    let (mut map, mut txid) = PageMap::load(shadow)?;
    let stored = txid;
    for file in files.iter().copied().filter(|&file| file.max() > stored) {
        if file.min() != txid.next() {
            return None;
        }
        if let Err(error) = map.roll_forward(shadow, file) {
            tracing::warn!(%error, "page map cannot be rolled forward and is not used");
            return None;
        }
        txid = file.max();
    }
    let end = newest.map_or(Txid::ZERO, |newest| newest.txids.max());
    let post = newest.and_then(|newest| newest.lineage.post_apply).filter(|_| txid == end);
    let agrees = txid >= end && post.is_none_or(|post| post == map.rolling());
    agrees.then_some((map, txid))
}
