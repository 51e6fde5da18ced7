//! The checksum of every page of a database, as of one TXID.
//!
//! Invariant: the XOR of all entries is the rolling checksum of that TXID, so a map that was stored proves
//! itself when it is read back, and is rolled forward from the level-0 files that came after it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use walstream_ltx::decode::Decoder;
use walstream_ltx::{Checksum, Commit, PageSize, Pgno, Txid, TxidRange, page_digest};

use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;

/// Name of the stored map in the metadata folder.
pub(crate) const NAME: &str = "walstream.map";
const MAGIC: &[u8; 8] = b"WSMAP\0\0\x01";
const HEADER_SIZE: usize = 40;

/// 8 bytes a page; the entry of a page that is not stored (the lock page) is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageMap {
    page_size: PageSize,
    entries: Vec<u64>,
    rolling: Checksum,
}

/// New checksums of pages, ascending, and the new size: what one level-0 file does to a map.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) pages: Vec<(Pgno, Checksum)>,
    pub(crate) commit: Commit,
}

impl PageMap {
    /// The map of a database without pages.
    pub(crate) fn empty(page_size: PageSize) -> Self {
        PageMap { page_size, entries: Vec::new(), rolling: Checksum::EMPTY }
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    pub(crate) fn rolling(&self) -> Checksum {
        self.rolling
    }

    pub(crate) fn commit(&self) -> Commit {
        Commit::new(u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn get(&self, pgno: Pgno) -> Option<Checksum> {
        let stored = self.entries.get(pgno.index()).copied().unwrap_or(0);
        Checksum::from_stored(stored).ok().flatten()
    }

    /// The rolling checksum that [`PageMap::apply`] would lead to.
    pub(crate) fn preview(&self, changes: &Changes) -> Checksum {
        let keep = changes.commit.get() as usize;
        let mut rolling = self.rolling;
        for &dropped in self.entries.iter().skip(keep).filter(|&&entry| entry != 0) {
            rolling = toggle_stored(rolling, dropped);
        }
        for &(pgno, checksum) in &changes.pages {
            let replaced = self.entries.get(pgno.index()).copied().unwrap_or(0);
            rolling = toggle_stored(rolling, replaced).toggle(checksum);
        }
        rolling
    }

    /// Takes over the changes of one level-0 file.
    pub(crate) fn apply(&mut self, changes: &Changes) {
        self.rolling = self.preview(changes);
        self.entries.resize(changes.commit.get() as usize, 0);
        for &(pgno, checksum) in &changes.pages {
            debug_assert!(changes.commit.contains(pgno));
            self.entries[pgno.index()] = checksum.get();
        }
    }

    /// Stores the map as of `txid`, durably.
    pub(crate) fn save(&self, folder: &ShadowFolder, txid: Txid) -> Result<(), EngineError> {
        let path = folder.meta_file(NAME);
        crate::fs::write_durably(folder.disk(), &path, |out| {
            let mut header = [0; HEADER_SIZE];
            header[..8].copy_from_slice(MAGIC);
            header[8..12].copy_from_slice(&self.page_size.get().to_be_bytes());
            header[12..16].copy_from_slice(&self.commit().get().to_be_bytes());
            header[16..24].copy_from_slice(&txid.get().to_be_bytes());
            header[24..32].copy_from_slice(&self.rolling.get().to_be_bytes());
            let sum = crc32fast::hash(&header[..36]);
            header[36..40].copy_from_slice(&sum.to_be_bytes());
            let mut write = || {
                out.write_all(&header)?;
                self.entries.iter().try_for_each(|entry| out.write_all(&entry.to_be_bytes()))
            };
            write().map_err(EngineError::io("write", &path))
        })
    }

    /// Reads a stored map; `None` if there is none or it does not prove itself.
    pub(crate) fn load(folder: &ShadowFolder) -> Option<(PageMap, Txid)> {
        let path = folder.meta_file(NAME);
        let map = read_map(&path).ok().flatten();
        if map.is_none() && path.exists() {
            tracing::warn!(path = %path.display(), "page map does not prove itself and is not used");
        }
        map
    }

    /// Rolls the map forward over one stored level-0 file. On an error the map is of no use any more.
    pub(crate) fn roll_forward(&mut self, folder: &ShadowFolder, file: TxidRange) -> Result<(), EngineError> {
        let path = folder.path(file);
        let damaged = |reason: String| EngineError::Shadow { path: path.clone(), reason };
        let open = File::open(&path).map_err(EngineError::io("open", &path))?;
        let mut decoder =
            Decoder::new(io::BufReader::new(open)).map_err(|error| damaged(error.to_string()))?;
        let header = decoder.header().clone();
        if header.lineage.pre_apply.is_some_and(|pre| pre != self.rolling) {
            return Err(damaged("it does not follow the page map".into()));
        }
        if header.page_size != self.page_size {
            // Such a file holds every page.
            *self = PageMap::empty(header.page_size);
        }
        let mut changes = Changes { commit: header.commit, pages: Vec::new() };
        while let Some(page) = decoder.next_page().map_err(|error| damaged(error.to_string()))? {
            changes.pages.push((page.pgno, page_digest(page.pgno, page.data)));
        }
        decoder.finish().map_err(|error| damaged(error.to_string()))?;
        self.apply(&changes);
        match header.lineage.post_apply {
            Some(post) if post != self.rolling => {
                Err(damaged("its pages do not lead to its checksum".into()))
            }
            _ => Ok(()),
        }
    }
}

fn toggle_stored(rolling: Checksum, stored: u64) -> Checksum {
    match Checksum::from_stored(stored) {
        Ok(Some(checksum)) => rolling.toggle(checksum),
        _ => rolling,
    }
}

fn read_map(path: &Path) -> io::Result<Option<(PageMap, Txid)>> {
    let mut file = io::BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut header = [0; HEADER_SIZE];
    file.read_exact(&mut header)?;
    let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    let (Some(page_size), Ok(Some(rolling))) = (PageSize::new(u32_at(8)), Checksum::from_stored(u64_at(24)))
    else {
        return Ok(None);
    };
    if &header[..8] != MAGIC || u32_at(36) != crc32fast::hash(&header[..36]) {
        return Ok(None);
    }
    let mut map = PageMap::empty(page_size);
    let mut entry = [0; 8];
    for _ in 0..u32_at(12) {
        file.read_exact(&mut entry)?;
        let stored = u64::from_be_bytes(entry);
        map.rolling = toggle_stored(map.rolling, stored);
        map.entries.push(stored);
    }
    let proven = map.rolling == rolling && file.read(&mut entry)? == 0;
    Ok(proven.then_some((map, Txid::new(u64_at(16)))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::SystemDisk;

    fn changes(commit: u32, pages: &[(u32, u8)]) -> Changes {
        let checksum = |&(pgno, fill): &(u32, u8)| {
            let pgno = Pgno::new(pgno).unwrap();
            (pgno, page_digest(pgno, &[fill; 512]))
        };
        Changes { commit: Commit::new(commit), pages: pages.iter().map(checksum).collect() }
    }

    fn map(steps: &[Changes]) -> PageMap {
        let mut map = PageMap::empty(PageSize::new(512).unwrap());
        steps.iter().for_each(|step| map.apply(step));
        map
    }

    #[test]
    fn the_rolling_checksum_depends_on_the_content_and_not_on_the_way_to_it() {
        let direct = map(&[changes(2, &[(1, 7), (2, 8)])]);
        let detour = map(&[changes(3, &[(1, 1), (2, 8), (3, 9)]), changes(2, &[(1, 7)])]);
        assert_eq!(direct, detour);
        assert_eq!(map(&[changes(1, &[(1, 1)]), changes(0, &[])]).rolling(), Checksum::EMPTY);
    }

    #[test]
    fn a_stored_map_proves_itself_and_a_damaged_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::like(folder.path()).unwrap());
        let shadow = ShadowFolder::open(folder.path(), folder.path(), disk).unwrap();
        let stored = map(&[changes(3, &[(1, 1), (2, 2), (3, 3)])]);
        stored.save(&shadow, Txid::new(9)).unwrap();
        assert_eq!(PageMap::load(&shadow), Some((stored, Txid::new(9))));

        let path = shadow.meta_file(NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(PageMap::load(&shadow), None, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        assert_eq!(PageMap::load(&shadow), None);
    }
}
