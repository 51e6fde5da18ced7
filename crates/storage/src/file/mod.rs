//! A replica in a directory.
//!
//! Invariants: a file gets its name only when its content, its time and (after the return) its name are on the disk;
//! a name that exists is left alone even when several writers race for it.
//!
//! This is plain file I/O on blocking threads. `object_store`'s own local store can neither carry the file's
//! time nor set owner and permissions, so it cannot keep the peer's layout.

mod buffers;
mod legacy;
mod temp;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use walstream_ltx::{FileName, Level, Timestamp, Txid, TxidRange};

use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::config::{FileAccess, FileConfig};
use crate::error::StorageError;
use crate::layout::Layout;
use crate::legacy::LegacyStore;
use temp::TempFile;

/// How much of a file one step of [`ReplicaClient::read_stream`] brings.
const READ_STEP: u64 = 1 << 20;
/// How much of a stream is written in one go.
const BATCH: usize = 1 << 20;

/// The store of a directory.
#[derive(Clone, Debug)]
pub struct FileClient {
    root: PathBuf,
    access: Option<FileAccess>,
}

impl FileClient {
    /// A client for a configured directory, which need not exist yet.
    pub fn new(config: &FileConfig) -> Result<Self, StorageError> {
        let root = config.path.clone().filter(|path| !path.as_os_str().is_empty());
        let root = root.ok_or_else(|| {
            StorageError::Config(
                "a file replica needs a directory: set path, or url: file:///DIRECTORY".into(),
            )
        })?;
        let root = std::path::absolute(&root).map_err(StorageError::io("find", &root))?;
        Ok(FileClient { root, access: config.access })
    }

    fn folder(&self, level: Level) -> PathBuf {
        self.root.join(Layout::Ltx.folder("", level))
    }

    fn path(&self, level: Level, txids: TxidRange) -> PathBuf {
        self.root.join(Layout::Ltx.object("", level, txids))
    }

    /// A range of a file, as far as the file goes.
    async fn read_range(&self, path: PathBuf, range: Range<u64>) -> Result<Bytes, StorageError> {
        blocking(&self.root, move || {
            let (file, size) = open(&path)?;
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            if range.start >= size {
                let location = path.display().to_string();
                return Err(StorageError::PastEnd { location, offset: range.start });
            }
            read_at(&file, range.start..range.end.min(size)).map_err(StorageError::io("read", &path))
        })
        .await
    }

    fn remove_abandoned_temp_files(&self) -> Result<(), StorageError> {
        for level in Level::all() {
            for entry in entries_of(&self.folder(level))? {
                let path = entry.path();
                if temp::is_temp_name(&entry.file_name()) && temp::is_abandoned(&path) {
                    match fs::remove_file(&path) {
                        Ok(()) => {
                            tracing::info!(path = %path.display(), "removed an abandoned temporary file")
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(source) => return Err(StorageError::io("remove", &path)(source)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whatever is ready goes to the blocking thread in one hop, up to [`BATCH`].
fn ready_batch(
    first: io::Result<Bytes>,
    stream: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
) -> io::Result<Vec<Bytes>> {
    let mut batch = vec![first?];
    let mut bytes = batch[0].len();
    while bytes < BATCH {
        match stream.next().now_or_never() {
            Some(Some(chunk)) => {
                let chunk = chunk?;
                bytes += chunk.len();
                batch.push(chunk);
            }
            Some(None) | None => break,
        }
    }
    Ok(batch)
}

#[async_trait]
impl ReplicaClient for FileClient {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn location(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        Some(self)
    }

    fn files_are_cheap(&self) -> bool {
        true
    }

    async fn init(&self) -> Result<(), StorageError> {
        let client = self.clone();
        blocking(&self.root, move || {
            match fs::metadata(&client.root) {
                Ok(meta) if !meta.is_dir() => {
                    let reason = format!("{} is not a directory", client.root.display());
                    return Err(StorageError::Config(reason));
                }
                Ok(_) => {}
                // It is made with the first file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(StorageError::io("open", &client.root)(source)),
            }
            client.remove_abandoned_temp_files()
        })
        .await
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        _: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let folder = self.folder(level);
        blocking(&self.root, move || {
            let mut files = Vec::new();
            for entry in entries_of(&folder)? {
                let name = entry.file_name().to_str().and_then(|name| name.parse::<FileName>().ok());
                let Some(FileName(txids)) = name.filter(|name| name.0.min() >= from) else { continue };
                match fs::metadata(entry.path()) {
                    Ok(meta) if meta.is_file() => {
                        let created_at = meta.modified().map(timestamp_of).unwrap_or_default();
                        files.push(FileInfo { level, txids, size: meta.len(), created_at });
                    }
                    Ok(_) => {}
                    // Deleted since the folder was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(StorageError::io("read", &entry.path())(source)),
                }
            }
            files.sort_unstable_by_key(|file| file.txids);
            Ok(files)
        })
        .await
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(self.path(level, txids), range).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let path = self.path(level, txids);
        let root = self.root.clone();
        let opened = path.clone();
        let (file, size) = blocking(&root, move || open(&opened)).await?;
        if from > 0 && from >= size {
            return Err(StorageError::PastEnd { location: path.display().to_string(), offset: from });
        }
        let steps = futures::stream::try_unfold((file, from), move |(file, at)| {
            let (root, path) = (root.clone(), path.clone());
            async move {
                if at >= size {
                    return Ok(None);
                }
                let step = at..size.min(at + READ_STEP);
                let end = step.end;
                let read = move || {
                    let bytes = read_at(&file, step).map_err(StorageError::io("read", &path))?;
                    Ok((bytes, (file, end)))
                };
                blocking(&root, read).await.map(Some)
            }
        });
        Ok(steps.boxed())
    }

    /// Crash points: before the rename there is only a temporary file, which no listing shows; after it the file
    /// is whole and has its time, and only the name may be lost with the power.
    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let path = self.path(level, txids);
        let access = self.access;
        let taken = path.clone();
        if blocking(&self.root, move || Ok(taken.try_exists().unwrap_or(false))).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let create = move || TempFile::create(&path, access);
        let temp = match body {
            PutBody::Bytes(bytes) => blocking(&self.root, move || create()?.write(&[bytes])).await?,
            PutBody::File(source) => {
                let target = self.path(level, txids);
                let link_or_copy = move || match TempFile::link(&source, &target, access)? {
                    Some(linked) => Ok(linked),
                    None => create()?.copy_from(&source),
                };
                blocking(&self.root, link_or_copy).await?
            }
            PutBody::Stream(stream) => {
                let mut temp = blocking(&self.root, create).await?;
                let mut stream = stream.fuse();
                while let Some(first) = stream.next().await {
                    let batch =
                        ready_batch(first, &mut stream).map_err(StorageError::io("make", temp.path()))?;
                    temp = blocking(&self.root, move || temp.write(&batch)).await?;
                }
                temp
            }
        };
        blocking(&self.root, move || temp.publish(created_at)).await
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let paths: Vec<PathBuf> = files.iter().map(|&(level, txids)| self.path(level, txids)).collect();
        blocking(&self.root, move || {
            for path in &paths {
                match fs::remove_file(path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::io("delete", path)(source));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

/// Runs file I/O where it may block. A future that is dropped meanwhile drops the result, and so a temporary file.
async fn blocking<T: Send + 'static>(
    root: &Path,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Unavailable {
            location: format!("file://{}", root.display()),
            operation: "file I/O",
            reason: error.to_string(),
        }),
    }
}

/// What lies in a folder; nothing if there is no such folder.
fn entries_of(folder: &Path) -> Result<Vec<fs::DirEntry>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StorageError::io("list", folder)(source)),
    };
    entries.collect::<Result<_, _>>().map_err(StorageError::io("list", folder))
}

fn open(path: &Path) -> Result<(fs::File, u64), StorageError> {
    match fs::File::open(path) {
        Ok(file) => {
            let size = file.metadata().map_err(StorageError::io("read", path))?.len();
            Ok((file, size))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StorageError::NotFound { location: path.display().to_string() })
        }
        Err(source) => Err(StorageError::io("open", path)(source)),
    }
}

/// Reads a range that lies within the file.
fn read_at(file: &fs::File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    buffers::filled(length, |memory| file.read_exact_at(memory, range.start))
}

/// The time of a file in whole milliseconds, rounded down like the peer's.
fn timestamp_of(time: SystemTime) -> Timestamp {
    let millis = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration().as_nanos().div_ceil(1_000_000);
            i64::try_from(before).map_or(i64::MIN, |millis| -millis)
        }
    };
    Timestamp::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use walstream_ltx::TxidRange;

    fn client(root: &Path, access: Option<FileAccess>) -> FileClient {
        FileClient::new(&FileConfig { path: Some(root.join("replica")), access }).unwrap()
    }

    fn txid(n: u64) -> TxidRange {
        TxidRange::single(Txid::new(n)).unwrap()
    }

    #[tokio::test]
    async fn a_file_on_the_same_file_system_is_not_copied_unless_it_must_belong_to_somebody_else() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("source");
        std::fs::write(&source, b"written once").unwrap();
        let meta = std::fs::metadata(&source).unwrap();
        let same =
            FileAccess { file_mode: meta.mode() & 0o7777, dir_mode: 0o750, uid: meta.uid(), gid: meta.gid() };
        let other = FileAccess { file_mode: 0o600, ..same };
        for (n, access, shared) in [(1, same, true), (2, other, false)] {
            let client = client(root.path(), Some(access));
            let body = PutBody::File(source.clone());
            client.put(Level::L0, txid(n), Timestamp::from_millis(1), body).await.unwrap();
            let stored = client.path(Level::L0, txid(n));
            assert_eq!(std::fs::read(&stored).unwrap(), b"written once");
            assert_eq!(std::fs::metadata(&stored).unwrap().ino() == meta.ino(), shared);
        }
    }

    #[tokio::test]
    async fn a_file_lies_where_the_peer_puts_it_and_has_the_time_of_its_header() {
        let root = tempfile::tempdir().unwrap();
        let access = FileAccess {
            file_mode: 0o640,
            dir_mode: 0o750,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        let client = client(root.path(), Some(access));
        let time = Timestamp::from_millis(1_700_000_000_123);
        client.put(Level::SNAPSHOT, txid(1), time, PutBody::Bytes("x".into())).await.unwrap();

        let path = root.path().join("replica/ltx/9/0000000000000001-0000000000000001.ltx");
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_700_000_000, 123_000_000));
        assert_eq!(meta.mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(root.path().join("replica/ltx")).unwrap().mode() & 0o777, 0o750);
    }

    #[tokio::test]
    async fn temporary_files_are_never_listed_and_removed_once_abandoned() {
        let root = tempfile::tempdir().unwrap();
        let client = client(root.path(), None);
        client.put(Level::L0, txid(1), Timestamp::default(), PutBody::Bytes("x".into())).await.unwrap();
        let folder = client.folder(Level::L0);
        let (old, new) = (folder.join(".a.ltx.1-1.tmp"), folder.join(".b.ltx.1-1.tmp"));
        fs::write(&old, "").unwrap();
        fs::write(&new, "").unwrap();
        let at_work = fs::File::open(&new).unwrap();
        at_work.lock().unwrap();

        let listed = client.list(Level::L0, Txid::FIRST, TimestampSource::Listing).await.unwrap();
        assert_eq!(listed.len(), 1);
        client.init().await.unwrap();
        assert_eq!((old.exists(), new.exists()), (false, true));
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let client = client(root.path(), None);
        let stuck = futures::stream::iter([Ok(Bytes::from("begun"))]).chain(futures::stream::pending());
        let put = client.put(Level::L0, txid(1), Timestamp::default(), PutBody::Stream(stuck.boxed()));
        assert!(tokio::time::timeout(Duration::from_millis(100), put).await.is_err());
        assert_eq!(fs::read_dir(client.folder(Level::L0)).unwrap().count(), 0);
    }

    #[test]
    fn times_before_1970_round_down_too() {
        let time = |nanos| timestamp_of(UNIX_EPOCH - Duration::from_nanos(nanos)).as_millis();
        assert_eq!((time(1), time(1_000_000), time(1_000_001)), (-1, -1, -2));
    }
}
