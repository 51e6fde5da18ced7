//! A merge needs memory for its inputs' heads and indexes, not for their pages: two gibibytes of input are merged by a
//! process that may have 64 MiB.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::process::Command;
use std::rc::Rc;

use walstream_ltx::{
    Commit, Decoder, Encoder, Header, Lineage, PageSize, Pgno, Timestamp, Txid, TxidRange, WalSpan, merge,
};

/// As many files as a compaction merges at once.
const FILES: u64 = 128;
const PAGE_SIZE: u32 = 4096;
/// Pages of each file: 2 GiB in all.
const PAGES: u32 = 4096;
/// Files are at every fourth page, beginning with their own.
const STRIDE: u32 = 4;

/// Set for the process that merges.
const IN_THE_CHILD: &str = "WALSTREAM_TEST_MERGES";

#[test]
fn two_gibibytes_are_merged_in_64_mebibytes() {
    if std::env::var_os(IN_THE_CHILD).is_some() {
        return merge_all();
    }
    let child = Command::new("sh")
        .args(["-c", "ulimit -d 65536 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "two_gibibytes_are_merged_in_64_mebibytes", "--nocapture"])
        .env(IN_THE_CHILD, "yes")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn merge_all() {
    let read = Rc::new(RefCell::new(0));
    let inputs = (0..FILES).map(|number| Decoder::new(Generated::new(number, Rc::clone(&read))).unwrap());
    let (_, summary) = merge(inputs.collect(), io::sink()).unwrap();
    assert_eq!(summary.pages, PAGES * STRIDE);
    assert!(*read.borrow() >= 2 << 30, "{} bytes of input", read.borrow());
    let peak = peak_memory_kib();
    assert!(peak < 64 << 10, "{peak} KiB");
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A file of pages that do not compress, which exists only while it is read.
struct Generated {
    number: u64,
    encoder: Option<Encoder<Pipe>>,
    pages: u32,
    written: Pipe,
    taken: usize,
    read: Rc<RefCell<u64>>,
}

impl Generated {
    fn new(number: u64, read: Rc<RefCell<u64>>) -> Self {
        let written = Pipe::default();
        let header = Header {
            page_size: PageSize::new(PAGE_SIZE).unwrap(),
            commit: Commit::new(PAGES * STRIDE),
            txids: TxidRange::single(Txid::new(number + 2)).unwrap(),
            timestamp: Timestamp::default(),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            lineage: Lineage::default(),
        };
        let encoder = Some(Encoder::new(written.clone(), header).unwrap());
        Generated { number, encoder, pages: 0, written, taken: 0, read }
    }

    /// Encodes the next page, or what comes after the last.
    fn encode(&mut self) {
        self.written.0.borrow_mut().clear();
        self.taken = 0;
        let Some(mut encoder) = self.encoder.take() else { return };
        if self.pages == PAGES {
            encoder.finish(None).unwrap();
            return;
        }
        let pgno = self.pages * STRIDE + (self.number % u64::from(STRIDE)) as u32 + 1;
        encoder.page(Pgno::new(pgno).unwrap(), &noise(self.number << 32 | u64::from(pgno))).unwrap();
        self.pages += 1;
        self.encoder = Some(encoder);
    }
}

impl Read for Generated {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.written.0.borrow().len() {
            self.encode();
        }
        let written = self.written.0.borrow();
        let length = out.len().min(written.len() - self.taken);
        out[..length].copy_from_slice(&written[self.taken..self.taken + length]);
        self.taken += length;
        *self.read.borrow_mut() += length as u64;
        Ok(length)
    }
}

/// Takes what an encoder writes.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A page that cannot be compressed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut page = vec![0; PAGE_SIZE as usize];
    for word in page.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    page
}
