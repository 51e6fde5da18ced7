//! A WAL that has grown beyond 4 GiB under Litestream 0.3, as it does while somebody reads for long. From there on offsets
//! have more than eight digits, and version 0.3 itself does not find its segments any more.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use walstream_test_support::App;
use walstream_test_support::compare::{assert_same_pages, folded_copy, with_suffix};
use walstream_test_support::golden::sha256;
use walstream_test_support::replica::file_url;

use crate::{litestream, walstream};

const GIB: u64 = 1 << 30;
/// When the snapshot was stored, in seconds since 1970. Each segment came ten seconds after the one before it.
const BEGUN: u64 = 1_793_500_000;

/// Stores bytes as version 0.3 does: an LZ4 frame in blocks of 4 MiB, with a checksum of the content.
fn store(path: &Path, content: &mut impl Read, seconds: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let frame = FrameInfo::new().block_size(BlockSize::Max4MB).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(frame, File::create(path).unwrap());
    io::copy(content, &mut encoder).unwrap();
    let file = encoder.finish().unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// One commit of 60 MiB that compress well.
fn commit(app: &App, number: u32) {
    let (id, letter) = (number % 3, 65 + number % 26);
    app.execute(&format!(
        "INSERT OR REPLACE INTO big VALUES ({id}, printf('%.*c', 62914560, char({letter})))"
    ));
}

fn summary(app: &App) -> String {
    app.query("SELECT group_concat(id || substr(body, 1, 1)) FROM big")
}

#[test]
fn offsets_of_more_than_eight_digits() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open_with(folder.path().join("big.db"), "PRAGMA page_size = 65536");
    app.execute("CREATE TABLE big(id INTEGER PRIMARY KEY, body TEXT)");
    app.checkpoint("TRUNCATE");
    app.execute("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF");
    let generation = folder.path().join("replica/generations/0123456789abcdef");
    let mut snapshot = File::open(folded_copy(app.path()).path().join("copy")).unwrap();
    store(&generation.join("snapshots/00000000.snapshot.lz4"), &mut snapshot, BEGUN);

    // The third segment and the fourth begin beyond 4 GiB.
    let mut wal = File::open(with_suffix(app.path(), "-wal")).unwrap();
    let length = |wal: &File| wal.metadata().unwrap().len();
    let (mut begin, mut number, mut states) = (0, 0, Vec::new());
    for (segment, end) in [2 * GIB, 4 * GIB, 4 * GIB, 4 * GIB].into_iter().enumerate() {
        while length(&wal) <= end.max(begin) {
            commit(&app, number);
            number += 1;
        }
        let end = length(&wal);
        wal.seek(SeekFrom::Start(begin)).unwrap();
        let path = generation.join(format!("wal/00000000_{begin:08x}.wal.lz4"));
        store(&path, &mut (&wal).take(end - begin), BEGUN + 10 * (segment as u64 + 1));
        states.push(summary(&app));
        begin = end;
    }
    app.checkpoint("TRUNCATE");

    let (url, output) = (file_url(&folder.path().join("replica")), folder.path().join("restored.db"));
    walstream().restore(&url, &output, &[]);
    assert_same_pages(app.path(), &output);

    // Between the third and the fourth.
    let time = app.query(&format!("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', {} + 35, 'unixepoch')", BEGUN));
    let [ours, theirs] = [walstream(), litestream()].map(|program| {
        program.restore(&url, &output, &["-force", "-timestamp", &time]);
        sha256(&output)
    });
    assert_eq!(ours, theirs);
    assert_eq!(summary(&App::open(&output)), states[2]);
}
