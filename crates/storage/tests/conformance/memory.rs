//! What every store may take: memory for the parts that are under way, whatever the size of the file.
//!
//! Nextest gives each test a process of its own, so the peak is that of the one upload and the one download.

use futures::StreamExt;
use walstream_ltx::Level;
use walstream_storage::{PutBody, PutOutcome};

use crate::backends::Backend;
use crate::common::{TIME, chunks, range};

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 1 << 10;
const LIMIT_KIB: u64 = 64 << 10;

pub(crate) async fn a_gibibyte_needs_64_mebibytes_of_memory<B: Backend>(backend: B) {
    // As the program itself does.
    // SAFETY: it takes two ints, and whatever was allocated before stays valid.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 512 << 10);
    }
    let client = backend.client();
    forget_the_peak();
    let body = PutBody::Stream(chunks(CHUNKS, CHUNK));
    assert_eq!(client.put(Level::L0, range(1, 1), TIME, body).await.unwrap(), PutOutcome::Created);
    assert!(peak_kib() < LIMIT_KIB, "{} KiB for the upload", peak_kib());

    let mut stream = client.read_stream(Level::L0, range(1, 1), 0).await.unwrap();
    let mut got = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert_eq!(chunk[0], (got / CHUNK) as u8);
        got += chunk.len();
    }
    assert_eq!(got, CHUNKS * CHUNK);
    assert!(peak_kib() < LIMIT_KIB, "{} KiB for the download", peak_kib());
}

fn forget_the_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
