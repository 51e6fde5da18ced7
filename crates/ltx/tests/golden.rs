//! Every file that a real Litestream wrote is read, proven, and written again.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use support::{Database, decode, golden, ltx_files, merge_bytes, sha256, txids};
use walstream_ltx::{
    Checksum, Decoder, Encoder, Header, PageRef, TAIL_GUESS, Tail, Txid, WalSpan, decode_frame,
    page_checksum, parse_tail, split_frames, verify,
};

#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<PathBuf, FileEntry>,
    images: BTreeMap<String, Image>,
}

#[derive(Deserialize)]
struct FileEntry {
    sha256: String,
    size: u64,
    page_size: u32,
    commit: u32,
    min_txid: u64,
    max_txid: u64,
    timestamp: i64,
    wal_offset: u64,
    wal_size: u64,
    salt1: u32,
    salt2: u32,
    node_id: u64,
    file_checksum: String,
    encoding: String,
    page_index_offset: u64,
    page_index_len: usize,
    pages: Vec<(u32, u64, u32)>,
}

#[derive(Deserialize)]
struct Image {
    sha256: String,
    rolling_db_checksum: String,
}

/// The replicas with LTX files: folder and manifest.
fn replicas() -> Vec<(PathBuf, Manifest)> {
    let folders = ["checkpoint", "frame-0.5.15", "frame-then-block", "ps512", "ps4096", "ps65536"];
    let more = ["random512", "random4096", "restart", "vacuum"];
    let read = |name: &&str| {
        let folder = golden().join(name);
        let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
        (folder, serde_json::from_str(&manifest).unwrap())
    };
    folders.iter().chain(&more).map(read).collect()
}

fn level(path: &Path, level: u8) -> bool {
    path.parent().unwrap().ends_with(level.to_string())
}

#[test]
fn every_file_is_what_its_manifest_says() {
    let mut seen = 0;
    for (folder, manifest) in replicas() {
        assert_eq!(manifest.files.len(), ltx_files(&folder).len(), "{}", folder.display());
        for (path, entry) in &manifest.files {
            let bytes = fs::read(folder.join(path)).unwrap();
            assert_eq!(sha256(&bytes), entry.sha256, "{}", path.display());
            check(&bytes, entry);
            seen += 1;
        }
    }
    assert_eq!(seen, 193);
}

fn check(bytes: &[u8], entry: &FileEntry) {
    let summary = verify(bytes).unwrap();
    let header = &summary.header;
    assert_eq!(header.page_size.get(), entry.page_size);
    assert_eq!(header.commit.get(), entry.commit);
    assert_eq!((header.txids.min().get(), header.txids.max().get()), (entry.min_txid, entry.max_txid));
    assert_eq!(header.timestamp.as_millis(), entry.timestamp);
    assert_eq!((header.wal.offset, header.wal.size), (entry.wal_offset, entry.wal_size));
    assert_eq!((header.wal.salts.salt1, header.wal.salts.salt2), (entry.salt1, entry.salt2));
    assert_eq!(header.node_id, entry.node_id);
    assert!(!header.tracked && header.pre_apply.is_none() && summary.trailer.post_apply.is_none());
    assert_eq!(header.encode().unwrap(), bytes[..Header::SIZE]);
    assert_eq!(summary.trailer.file_checksum.to_string(), entry.file_checksum);
    assert_eq!(summary.size, entry.size);
    let pages: Vec<_> = summary.index.iter().map(|e| (e.pgno.get(), e.offset, e.size)).collect();
    assert_eq!(pages, entry.pages);
    assert_eq!(summary.index.frames_end() + 6, entry.page_index_offset);
    assert_eq!(summary.index.as_bytes().len(), entry.page_index_len);
    check_encoding(bytes, entry);
    check_random_access(bytes);
}

fn check_encoding(bytes: &[u8], entry: &FileEntry) {
    let mut decoder = Decoder::new(bytes).unwrap();
    while let Some(page) = decoder.next_page().unwrap() {
        assert_eq!(page.block.is_some(), entry.encoding == "block");
    }
}

/// The index at the end leads to the same pages as reading from the front.
fn check_random_access(bytes: &[u8]) {
    let contents = decode(bytes).unwrap();
    let size = bytes.len() as u64;
    let tail = &bytes[(size - TAIL_GUESS.min(size)) as usize..];
    let Tail::Complete { index, trailer } = parse_tail(tail, size).unwrap() else { panic!("small files") };
    assert_eq!((&index, trailer), (&contents.summary.index, contents.summary.trailer));
    index.check(&contents.summary.header).unwrap();

    let page_size = contents.summary.header.page_size;
    let mut page = vec![0; page_size.bytes()];
    for found in split_frames(bytes, 0, &index) {
        let (entry, frame) = found.unwrap();
        decode_frame(frame, entry.pgno, page_size, &mut page).unwrap();
        assert_eq!(page, contents.pages[&entry.pgno.get()]);
        assert_eq!(index.lookup(entry.pgno), Some(entry));
    }
}

#[test]
fn every_file_written_again_holds_the_same() {
    for (folder, _) in replicas() {
        for path in ltx_files(&folder) {
            let original = decode(&fs::read(&path).unwrap()).unwrap();
            let mut encoder = Encoder::new(Vec::new(), original.summary.header.clone()).unwrap();
            for (pgno, page) in &original.pages {
                encoder.page(walstream_ltx::Pgno::new(*pgno).unwrap(), page).unwrap();
            }
            let (bytes, summary) = encoder.finish(None).unwrap();
            let again = decode(&bytes).unwrap();
            assert_eq!(again.summary, summary);
            assert_eq!(again.summary.header, original.summary.header);
            assert!(again.pages == original.pages, "{}", path.display());
        }
    }
}

/// Blocks copied as they are give the very same file, byte for byte.
#[test]
fn every_file_copied_by_blocks_is_identical() {
    let mut copied = 0;
    for path in replicas().iter().flat_map(|(folder, _)| ltx_files(folder)) {
        let original = fs::read(&path).unwrap();
        if let Some(copy) = copy_blocks(&original) {
            assert!(copy == original, "{}", path.display());
            copied += 1;
        }
    }
    assert!(copied > 150, "{copied}");
}

/// `None` for a file with legacy frames.
fn copy_blocks(original: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(original).unwrap();
    let mut encoder = Encoder::new(Vec::new(), decoder.header().clone()).unwrap();
    while let Some(PageRef { pgno, data, block }) = decoder.next_page().unwrap() {
        encoder.compressed_page(pgno, block?, data).unwrap();
    }
    Some(encoder.finish(None).unwrap().0)
}

#[test]
fn every_txid_restores_to_its_image() {
    let mut seen = 0;
    for (folder, manifest) in replicas() {
        let changes: Vec<_> =
            manifest.files.keys().filter(|path| level(path, 0)).map(|path| folder.join(path)).collect();
        for (txid, image) in &manifest.images {
            let txid: Txid = txid.parse().unwrap();
            let files: Vec<_> = changes.iter().filter(|path| txids(path).1 <= txid).collect();
            let files: Vec<_> = files.into_iter().map(|path| fs::read(path).unwrap()).collect();
            let merged = decode(&merge_bytes(&files).unwrap()).unwrap();
            assert_eq!(merged.summary.header.txids.max(), txid);
            let mut database = Database::default();
            database.apply(&merged.summary.header, &merged.pages);
            assert_eq!(sha256(&database.image()), image.sha256, "{} at {txid}", folder.display());
            assert_eq!(database.rolling().to_string(), image.rolling_db_checksum);
            seen += 1;
        }
    }
    assert_eq!(seen, 139);
}

/// Our merge of level-0 files is what Litestream made of them.
#[test]
fn every_compaction_is_reproduced() {
    let mut seen = 0;
    for (folder, manifest) in replicas() {
        for path in manifest.files.keys().filter(|path| !level(path, 0)) {
            let (min, max) = txids(path);
            let within = |path: &&PathBuf| level(path, 0) && txids(path).0 >= min && txids(path).1 <= max;
            let inputs: Vec<_> = manifest
                .files
                .keys()
                .filter(within)
                .map(|path| fs::read(folder.join(path)).unwrap())
                .collect();
            let theirs = decode(&fs::read(folder.join(path)).unwrap()).unwrap();
            let ours = decode(&merge_bytes(&inputs).unwrap()).unwrap();
            assert!(ours.pages == theirs.pages, "{}", path.display());
            let mut expected = theirs.summary.header;
            if level(path, 9) {
                // Snapshots are not compactions: they have a time and a place in the WAL of their own.
                expected.timestamp = ours.summary.header.timestamp;
                expected.wal = WalSpan::default();
            }
            assert_eq!(ours.summary.header, expected, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

/// A database beyond 1 GiB: the lock page is in no frame, in no index and in no checksum.
#[test]
fn a_large_database_leaves_the_lock_page_out() {
    #[derive(Deserialize)]
    struct Large {
        ltx_sha256: String,
        commit: u32,
        frames: u32,
        lock_pgno: u32,
        rolling_db_checksum: String,
    }
    let folder = golden().join("lockpage65536");
    let manifest: Large =
        serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    let packed = fs::File::open(folder.join("0000000000000001-0000000000000001.ltx.xz")).unwrap();
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(BufReader::new(packed), false).read_to_end(&mut bytes).unwrap();
    assert_eq!(sha256(&bytes), manifest.ltx_sha256);

    let mut decoder = Decoder::new(&bytes[..]).unwrap();
    let mut rolling = Checksum::EMPTY;
    while let Some(page) = decoder.next_page().unwrap() {
        assert_ne!(page.pgno.get(), manifest.lock_pgno);
        rolling = rolling.toggle(page_checksum(page.pgno, page.data));
    }
    assert_eq!(rolling.to_string(), manifest.rolling_db_checksum);
    let summary = decoder.finish().unwrap();
    assert_eq!((summary.header.commit.get(), summary.pages), (manifest.commit, manifest.frames));
    assert_eq!(summary.header.page_size.lock_pgno().get(), manifest.lock_pgno);
    summary.index.check(&summary.header).unwrap();
}
