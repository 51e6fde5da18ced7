//! Bytes of the planned files.
//!
//! Invariant: what [`Source::read`] returns has exactly the length that was asked for. A dropped connection
//! costs the range that it interrupted and nothing more; a line on which no connection lasts costs time, as long as
//! anything gets through.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use walstream_ltx::{Header, PageIndex, Pgno, TAIL_GUESS, Tail, merged_header, parse_tail};
use walstream_storage::{FileInfo, ReplicaClient, StorageError};

use super::pages::HOLE;
use super::progress::Counts;
use crate::error::EngineError;

/// Bytes that one request fetches at most, about, where a request costs next to nothing; more would only take memory.
const NEAR_RANGE: u64 = 1 << 20;
/// The same where every request has to wait for its answer. Eight of these are on their way at once by default.
const FAR_RANGE: u64 = 4 << 20;
/// What [`Source::hole`] is where a request costs next to nothing.
const NEAR_HOLE: u64 = 8 << 10;
/// A file of at most this size is read whole by one request.
const SMALL: u64 = 256 << 10;
/// Pauses before a failed range is tried again. Stores retry by themselves; this is for what they give up on.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(2500)];
/// How many times less is asked for then.
const LESS: u64 = 4;
/// But no less than these bytes.
const LEAST: u64 = 64 << 10;

/// Fetches exactly the bytes of a range. A request whose failure may pass is made again, for less, since a bad line may let
/// no more through at a time; whatever arrives renews the patience. An object that stays shorter is
/// [`StorageError::PastEnd`].
pub(super) async fn patiently<F: Future<Output = Result<Bytes, StorageError>>>(
    counts: &Counts,
    range: Range<u64>,
    mut read: impl FnMut(Range<u64>) -> F,
) -> Result<Bytes, StorageError> {
    let (mut arrived, mut at) = (BytesMut::new(), range.start);
    let (mut step, mut pauses) = (range.end - range.start, PAUSES.iter());
    loop {
        let wanted = at..range.end.min(at + step);
        let problem = match read(wanted.clone()).await {
            Ok(bytes) if bytes.len() as u64 == wanted.end - wanted.start => {
                counts.add_fetched(bytes.len());
                if wanted == range {
                    return Ok(bytes);
                }
                arrived.extend_from_slice(&bytes);
                at = wanted.end;
                if at == range.end {
                    return Ok(arrived.freeze());
                }
                pauses = PAUSES.iter();
                continue;
            }
            Ok(bytes) => StorageError::PastEnd { location: String::new(), offset: bytes.len() as u64 },
            Err(error) if error.is_transient() || matches!(error, StorageError::PastEnd { .. }) => error,
            Err(error) => return Err(error),
        };
        let Some(&pause) = pauses.next() else { return Err(problem) };
        tracing::debug!(error = %problem, "read again");
        tokio::time::sleep(pause).await;
        step = (step / LESS).max(LEAST);
    }
}

/// Bytes that one request to this store fetches at most, about.
pub(super) fn range(client: &dyn ReplicaClient) -> u64 {
    if client.files_are_cheap() { NEAR_RANGE } else { FAR_RANGE }
}

/// One planned file.
pub(super) struct Source {
    client: Arc<dyn ReplicaClient>,
    counts: Arc<Counts>,
    /// What the listing says of it.
    pub(super) file: FileInfo,
    header: Option<Header>,
    /// The whole file, if it is small and was read already.
    kept: Option<Bytes>,
}

impl Source {
    pub(super) fn new(client: Arc<dyn ReplicaClient>, file: FileInfo, counts: Arc<Counts>) -> Self {
        Source { client, counts, file, header: None, kept: None }
    }

    /// Bytes that one request for it fetches at most, about.
    pub(super) fn range(&self) -> u64 {
        range(&*self.client)
    }

    /// Bytes that are cheaper to fetch than to leave out with another request, where few pages are wanted.
    pub(super) fn hole(&self) -> u64 {
        if self.client.files_are_cheap() { NEAR_HOLE } else { HOLE }
    }

    /// An error of this file.
    pub(super) fn damaged(&self, reason: impl ToString) -> EngineError {
        let FileInfo { level, txids, .. } = self.file;
        EngineError::Damaged { level, txids, reason: reason.to_string() }
    }

    /// An error of the newest file: the database cannot be put together.
    pub(super) fn lacks(&self, page: Pgno) -> EngineError {
        self.damaged(format!("page {page} of its database is neither in it nor in an older file"))
    }

    /// Exactly the bytes of this range.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, EngineError> {
        if let Some(kept) = &self.kept {
            let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let slice = slice.filter(|&(start, end)| start <= end && end <= kept.len());
            return slice.map(|(start, end)| kept.slice(start..end)).ok_or_else(|| self.cut_short());
        }
        let (level, txids) = (self.file.level, self.file.txids);
        let read = |part| self.client.read(level, txids, part);
        match patiently(&self.counts, range, read).await {
            Ok(bytes) => Ok(bytes),
            Err(StorageError::PastEnd { .. }) => Err(self.cut_short()),
            Err(StorageError::NotFound { .. }) => Err(self.damaged("it vanished while it was needed")),
            Err(error) => Err(error.into()),
        }
    }

    fn cut_short(&self) -> EngineError {
        self.damaged(format!("it is shorter than the {} bytes in the listing", self.file.size))
    }

    /// Reads the header. A small file is read whole, and kept if `keep` allows it.
    pub(super) async fn read_header(&mut self, keep: bool) -> Result<Header, EngineError> {
        if let Some(header) = &self.header {
            return Ok(header.clone());
        }
        let small = keep && self.file.size <= SMALL;
        let end = if small { self.file.size } else { self.file.size.min(Header::SIZE as u64) };
        let bytes = self.read(0..end).await?;
        let header = Header::parse(&bytes).map_err(|error| self.damaged(error))?;
        self.check_name(&header)?;
        self.kept = small.then_some(bytes);
        self.header = Some(header.clone());
        Ok(header)
    }

    /// Whether the file is the one that its name promises.
    pub(super) fn check_name(&self, header: &Header) -> Result<(), EngineError> {
        if header.txids == self.file.txids {
            return Ok(());
        }
        Err(self.damaged(format!("its header says that it holds {}", header.txids)))
    }

    /// Whether the file continues the one before it in the plan.
    pub(super) fn check_successor_of(&self, older: &Header, header: &Header) -> Result<(), EngineError> {
        merged_header(&[older.clone(), header.clone()]).map(|_| ()).map_err(|error| self.damaged(error))
    }

    /// Reads the page index from the end of the file and checks it against the header.
    pub(super) async fn read_index(&self, header: &Header) -> Result<PageIndex, EngineError> {
        let size = self.file.size;
        let mut wanted = TAIL_GUESS.min(size);
        loop {
            let tail = self.read(size - wanted..size).await?;
            match parse_tail(&tail, size).map_err(|error| self.damaged(error))? {
                Tail::NeedMore(needed) if needed > wanted && needed <= size => wanted = needed,
                Tail::NeedMore(_) => return Err(self.damaged("its page index has no end")),
                Tail::Complete { index, .. } => {
                    index.check(header).map_err(|error| self.damaged(error))?;
                    return Ok(index);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn unavailable() -> StorageError {
        StorageError::Unavailable {
            operation: "reading",
            location: String::new(),
            reason: "the connection broke".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_lets_little_through_costs_time_and_no_more() {
        let content: Vec<u8> = (0..FAR_RANGE).map(|n| (n % 251) as u8).collect();
        for most in [u64::MAX, 1 << 20, 100 << 10, LEAST] {
            let (counts, asked) = (Counts::default(), Cell::new(0));
            let read = async |range: Range<u64>| {
                asked.set(asked.get() + 1);
                // Every third request fails for another reason.
                let passes = range.end - range.start <= most && (asked.get() % 3 != 0 || most == u64::MAX);
                let bytes = &content[range.start as usize..range.end as usize];
                if passes { Ok(Bytes::copy_from_slice(bytes)) } else { Err(unavailable()) }
            };
            let found = patiently(&counts, 5..FAR_RANGE, read).await.unwrap();
            assert!(found == content[5..], "at most {most} at a time");
            assert_eq!(counts.fetched(), FAR_RANGE - 5, "nothing arrived twice");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_where_nothing_gets_through() {
        let asked = RefCell::new(Vec::new());
        let read = async |range: Range<u64>| {
            asked.borrow_mut().push(range.end - range.start);
            Err::<Bytes, _>(unavailable())
        };
        assert!(patiently(&Counts::default(), 0..FAR_RANGE, read).await.is_err());
        assert_eq!(*asked.borrow(), [4 << 20, 1 << 20, 256 << 10, 64 << 10]);
    }
}
