//! Bringing stored files into a copy.
//!
//! Invariant: nothing is committed before every file was read to its end and proven by its own checksum, and is known to
//! continue the one before it. Memory is some chunks of some files, however many and large they are.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use walstream_ltx::{DecodeError, Decoder, Header, PageSize, Timestamp, merged_header};
use walstream_storage::{FileInfo, ReplicaClient};

use super::copy::{LocalCopy, Step};
use crate::error::EngineError;
use crate::restore::mark::Mark;
use crate::stream::{FileReader, decode_failed};

/// Bytes that one request fetches.
const CHUNK: u64 = 1 << 20;
/// Files that are asked for before it is their turn.
const AHEAD: usize = 8;

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// Where the copy stands now.
    pub(super) mark: Mark,
    /// When that state was captured.
    pub(super) created_at: Timestamp,
}

/// Files that a step consists of.
pub(super) struct Files {
    client: Arc<dyn ReplicaClient>,
    runtime: Handle,
    files: VecDeque<FileInfo>,
    opened: VecDeque<(FileInfo, FileReader)>,
}

impl Files {
    /// Of a listing, oldest first.
    pub(super) fn new(client: Arc<dyn ReplicaClient>, files: Vec<FileInfo>, runtime: Handle) -> Self {
        Files { client, runtime, files: files.into(), opened: VecDeque::new() }
    }

    fn next(&mut self) -> Option<(FileInfo, FileReader)> {
        while self.opened.len() < AHEAD
            && let Some(file) = self.files.pop_front()
        {
            let reader = FileReader::open(Arc::clone(&self.client), &file, CHUNK, self.runtime.clone());
            self.opened.push_back((file, reader));
        }
        self.opened.pop_front()
    }
}

/// Applies files onto the state that the copy is in, or, without `at`, in place of it; then pages that are the same
/// stay. `None` if the pages have another size.
pub(super) fn apply(
    copy: &mut LocalCopy,
    at: Option<Mark>,
    mut files: Files,
) -> Result<Option<Applied>, EngineError> {
    let (path, page_size) = (copy.path().to_owned(), copy.page_size()?);
    let mut step = copy.begin()?;
    let mut last: Option<Header> = None;
    while let Some((file, reader)) = files.next() {
        let reading = Reading { path: &path, file: &file, page_size, before: last.as_ref(), at };
        match reading.read(reader, &mut step)? {
            None => return Ok(None),
            header => last = header,
        }
    }
    let Some(Header { txids, lineage, commit, timestamp: created_at, .. }) = last else { return Ok(None) };
    let mark = Mark { txid: txids.max(), digest: lineage.post_apply };
    step.commit(commit, mark)?;
    Ok(Some(Applied { mark, created_at }))
}

/// A file that is being read, and what it must fit to.
struct Reading<'a> {
    path: &'a Path,
    file: &'a FileInfo,
    page_size: PageSize,
    before: Option<&'a Header>,
    at: Option<Mark>,
}

impl Reading<'_> {
    /// Takes the pages of the file to the copy; `None` if they have another size.
    fn read(&self, reader: FileReader, step: &mut Step<'_>) -> Result<Option<Header>, EngineError> {
        let mut decoder = Decoder::new(reader).map_err(|error| self.error(error))?;
        let header = decoder.header().clone();
        if header.page_size != self.page_size {
            return Ok(None);
        }
        self.check(&header)?;
        let replaces_all = self.at.is_none() && self.before.is_none();
        while let Some(page) = decoder.next_page().map_err(|error| self.error(error))? {
            match replaces_all {
                true => step.write_if_different(page.pgno, page.data)?,
                false => step.write(page.pgno, page.data)?,
            }
        }
        decoder.finish().map_err(|error| self.error(error))?;
        Ok(Some(header))
    }

    fn check(&self, header: &Header) -> Result<(), EngineError> {
        if header.txids != self.file.txids {
            return Err(self.damaged(format!("its header says that it holds {}", header.txids)));
        }
        match (self.before, self.at) {
            (Some(before), _) => merged_header(&[before.clone(), header.clone()])
                .map(|_| ())
                .map_err(|error| self.damaged(error)),
            (None, Some(at)) => self.check_that_it_continues(at, header),
            (None, None) => Ok(()),
        }
    }

    /// Digests are comparable only if the file begins where the copy stands.
    fn check_that_it_continues(&self, at: Mark, header: &Header) -> Result<(), EngineError> {
        let is_next = header.txids.min() == at.txid.next();
        match (at.digest, header.lineage.pre_apply) {
            (Some(ours), Some(theirs)) if is_next && ours != theirs => Err(EngineError::Output(format!(
                "cannot follow, {} is not what the replica was at TXID {}. Use -force to restore it anew",
                self.path.display(),
                at.txid
            ))),
            _ => Ok(()),
        }
    }

    fn error(&self, error: DecodeError) -> EngineError {
        decode_failed(error, self.file.level, self.file.txids)
    }

    fn damaged(&self, reason: impl ToString) -> EngineError {
        let FileInfo { level, txids, .. } = *self.file;
        EngineError::Damaged { level, txids, reason: reason.to_string() }
    }
}
