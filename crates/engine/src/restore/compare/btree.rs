//! Pages of b-trees, as [SQLite's file format](https://sqlite.org/fileformat2.html#b_tree_pages) has them.
//!
//! Invariant: whatever the bytes are, nothing panics or loops. What makes no sense is not there.

use walstream_ltx::Pgno;

/// Bytes of the header of the database, at the beginning of page 1.
const FILE_HEADER: usize = 100;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn pgno_at(bytes: &[u8], at: usize) -> Option<Pgno> {
    u32_at(bytes, at).and_then(Pgno::new)
}

/// SQLite's varint: its value and its length.
fn varint_at(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (length, &byte) in (1..).zip(bytes.get(at..)?.iter().take(9)) {
        if length == 9 {
            return Some((value << 8 | u64::from(byte), length));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, length));
        }
    }
    None
}

fn begin(pgno: Pgno) -> usize {
    if pgno == Pgno::FIRST { FILE_HEADER } else { 0 }
}

/// What the header of the database says about its pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Bytes of a page that SQLite uses.
    pub(super) usable: usize,
    /// The first page of the list of free pages.
    pub(super) free: Option<Pgno>,
    /// Whether there are pages that say where others belong.
    has_map: bool,
}

impl Shape {
    /// Reads it from page 1.
    pub(super) fn of(page: &[u8]) -> Option<Shape> {
        let usable = page.len().checked_sub(usize::from(*page.get(20)?)).filter(|&usable| usable >= 480)?;
        Some(Shape { usable, free: pgno_at(page, 32), has_map: u32_at(page, 52)? != 0 })
    }

    /// Whether it is a page of the [pointer map](https://sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages).
    pub(super) fn is_map(&self, pgno: Pgno, lock: Pgno) -> bool {
        let every = self.usable as u32 / 5 + 1;
        let place = |pgno: u32| pgno >= 2 && (pgno - 2).is_multiple_of(every);
        let moved = place(lock.get()) && pgno.get() == lock.get() + 1;
        self.has_map && (place(pgno.get()) || moved)
    }
}

/// The next page of the list of free pages, and the pages that this one names.
pub(super) fn free_pages(page: &[u8]) -> (Option<Pgno>, impl Iterator<Item = Pgno>) {
    let count = u32_at(page, 4).unwrap_or_default() as usize;
    let named = page.get(8..).unwrap_or_default().chunks_exact(4).take(count);
    (pgno_at(page, 0), named.filter_map(|number| pgno_at(number, 0)))
}

/// The next page of an overflow chain.
pub(super) fn next_of_chain(page: &[u8]) -> Option<Pgno> {
    pgno_at(page, 0)
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TableInterior,
    TableLeaf,
    IndexInterior,
    IndexLeaf,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        match byte {
            0x02 => Some(Kind::IndexInterior),
            0x05 => Some(Kind::TableInterior),
            0x0a => Some(Kind::IndexLeaf),
            0x0d => Some(Kind::TableLeaf),
            _ => None,
        }
    }

    pub(super) fn is_index(self) -> bool {
        matches!(self, Kind::IndexInterior | Kind::IndexLeaf)
    }

    pub(super) fn is_leaf(self) -> bool {
        matches!(self, Kind::TableLeaf | Kind::IndexLeaf)
    }
}

/// How a page begins: enough to know what it may be, how many cells it has, and what follows it in a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head([u8; 5]);

impl Head {
    pub(super) fn of(pgno: Pgno, page: &[u8]) -> Option<Head> {
        let start = begin(pgno);
        page.get(start..start + 5)?.try_into().ok().map(Head)
    }

    /// What it would be as a page of a b-tree.
    pub(super) fn kind(self) -> Option<Kind> {
        Kind::of(self.0[0])
    }

    pub(super) fn cells(self) -> u64 {
        u16_at(&self.0, 3).map_or(0, u64::from)
    }

    pub(super) fn next_of_chain(self) -> Option<Pgno> {
        next_of_chain(&self.0)
    }
}

/// A page of a b-tree.
pub(super) struct TreePage<'a> {
    bytes: &'a [u8],
    start: usize,
    usable: usize,
    cells: u16,
    pub(super) kind: Kind,
}

impl<'a> TreePage<'a> {
    /// `None` if it is none.
    pub(super) fn parse(pgno: Pgno, page: &'a [u8], usable: usize) -> Option<Self> {
        let (bytes, start) = (page.get(..usable)?, begin(pgno));
        let kind = Kind::of(*bytes.get(start)?)?;
        Some(TreePage { bytes, start, usable, cells: u16_at(bytes, start + 3)?, kind })
    }

    pub(super) fn cells(&self) -> u64 {
        u64::from(self.cells)
    }

    /// The pages below it, in order, each with the greatest rowid below it, where that is known: it is in tables,
    /// but for the last page.
    pub(super) fn children(&self) -> impl Iterator<Item = (Pgno, Option<i64>)> {
        let inner = !self.kind.is_leaf();
        let last = pgno_at(self.bytes, self.start + 8).filter(|_| inner).map(|pgno| (pgno, None));
        let cells = self.cell_offsets().filter(move |_| inner);
        cells.filter_map(|at| Some((pgno_at(self.bytes, at)?, self.rowid_at(at)))).chain(last)
    }

    /// A rowid below this page of a table, or in it.
    pub(super) fn any_rowid(&self) -> Option<i64> {
        self.cell_offsets().next().and_then(|at| self.rowid_at(at))
    }

    fn rowid_at(&self, cell: usize) -> Option<i64> {
        let at = match self.kind {
            Kind::TableInterior => cell + 4,
            Kind::TableLeaf => cell + varint_at(self.bytes, cell)?.1,
            Kind::IndexInterior | Kind::IndexLeaf => return None,
        };
        Some(varint_at(self.bytes, at)?.0.cast_signed())
    }

    /// Where its cells continue: the first page of each overflow chain, and how many pages it has.
    pub(super) fn chains(&self) -> impl Iterator<Item = (Pgno, u64)> {
        let has_payload = self.kind != Kind::TableInterior;
        self.cell_offsets().filter(move |_| has_payload).filter_map(|at| self.chain_at(at))
    }

    fn cell_offsets(&self) -> impl Iterator<Item = usize> {
        let array = self.start + if self.kind.is_leaf() { 8 } else { 12 };
        let cells = (0..usize::from(self.cells)).map_while(move |cell| u16_at(self.bytes, array + 2 * cell));
        cells.map(usize::from)
    }

    fn chain_at(&self, cell: usize) -> Option<(Pgno, u64)> {
        let at = cell + if self.kind == Kind::IndexInterior { 4 } else { 0 };
        let (payload, length) = varint_at(self.bytes, at)?;
        let rowid = match self.kind {
            Kind::TableLeaf => varint_at(self.bytes, at + length)?.1,
            _ => 0,
        };
        let local = self.local(payload)?;
        let rest = (payload - local as u64).div_ceil(self.usable as u64 - 4);
        Some((pgno_at(self.bytes, at + length + rowid + local)?, rest))
    }

    /// How many bytes of a payload are in the page; `None` if all are.
    fn local(&self, payload: u64) -> Option<usize> {
        let usable = self.usable;
        let most = match self.kind {
            Kind::TableLeaf => usable - 35,
            _ => (usable - 12) * 64 / 255 - 23,
        };
        if payload <= most as u64 {
            return None;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let wanted = least + ((payload - least as u64) % (usable as u64 - 4)) as usize;
        Some(if wanted <= most { wanted } else { least })
    }
}
