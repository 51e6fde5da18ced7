//! What differs between the state at the position and the database as it is now.
//!
//! Invariant: after a gap, the pages that go into the next file are exactly those whose checksum differs from
//! the map of the position, so that a gap costs a diff and never a copy of what has not changed.

use walstream_ltx::{Pgno, page_digest};

use super::database_file::DatabaseFile;
use super::image::Image;
use super::page_map::{Changes, PageMap};
use crate::error::EngineError;

/// The map of an image: every page is read and checksummed once.
pub(crate) fn map_of(image: &Image, file: DatabaseFile<'_>) -> Result<PageMap, EngineError> {
    let mut builder = MapBuilder { map: PageMap::empty(image.page_size()), pending: Changes::default() };
    image.for_each_page(file, |pgno, page| {
        builder.add(pgno, page);
        Ok(())
    })?;
    Ok(builder.finish(image))
}

/// Collects checksums in page order, a few thousand at a time.
struct MapBuilder {
    map: PageMap,
    pending: Changes,
}

impl MapBuilder {
    fn add(&mut self, pgno: Pgno, page: &[u8]) {
        self.pending.pages.push((pgno, page_digest(pgno, page)));
        if self.pending.pages.len() == 4096 {
            self.pending.commit = walstream_ltx::Commit::new(pgno.get());
            self.map.apply(&self.pending);
            self.pending.pages.clear();
        }
    }

    fn finish(mut self, image: &Image) -> PageMap {
        self.pending.commit = image.commit();
        self.map.apply(&self.pending);
        self.map
    }
}

/// The pages of `now` that `base` does not hold in the same version; all of them without a base.
pub(crate) fn differing<'a>(base: Option<&'a PageMap>, now: &'a PageMap) -> impl Iterator<Item = Pgno> + 'a {
    let comparable = base.filter(|base| base.page_size() == now.page_size());
    let pages = now.commit().pages(now.page_size());
    pages.filter(move |&pgno| comparable.is_none_or(|base| base.get(pgno) != now.get(pgno)))
}
