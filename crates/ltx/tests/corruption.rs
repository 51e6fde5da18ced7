//! No damage to a file goes unnoticed, and none makes reading it panic, allocate or run on.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{decode, golden};
use walstream_ltx::{Header, Tail, decode_frame, parse_tail, split_frames};

/// One small file of each page encoding.
fn samples() -> [Vec<u8>; 2] {
    let first = "replica/ltx/0/0000000000000001-0000000000000001.ltx";
    ["ps512", "frame-0.5.15"].map(|folder| fs::read(golden().join(folder).join(first)).unwrap())
}

#[test]
fn every_truncation_is_an_error() {
    for file in samples() {
        for end in 0..file.len() {
            assert!(decode(&file[..end]).is_err(), "cut at {end}");
            assert!(parse_tail(&file[..end], end as u64).is_err(), "cut at {end}");
        }
    }
}

/// Compressed bytes are covered by no checksum, only the page that they hold: a change of them may be
/// harmless, but then the page is the same.
#[test]
fn every_changed_byte_is_an_error_or_does_not_matter() {
    for file in samples() {
        let good = decode(&file).unwrap();
        for (at, change) in (0..file.len()).flat_map(|at| [(at, 0x01), (at, 0x80), (at, 0xff)]) {
            let mut bad = file.clone();
            bad[at] ^= change;
            if let Ok(contents) = decode(&bad) {
                assert_eq!(contents, good, "byte {at} changed by {change:#x}");
            }
            read_by_index(&bad);
        }
    }
}

/// Random access proves less, but must take any bytes.
fn read_by_index(file: &[u8]) {
    let (Ok(header), Ok(Tail::Complete { index, .. })) =
        (Header::parse(file), parse_tail(file, file.len() as u64))
    else {
        return;
    };
    let mut page = vec![0; header.page_size.bytes()];
    if index.check(&header).is_ok() {
        for (entry, frame) in split_frames(file, 0, &index).flatten() {
            let _ = decode_frame(frame, entry.pgno, header.page_size, &mut page);
        }
    }
}
