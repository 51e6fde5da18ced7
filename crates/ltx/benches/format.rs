//! How fast pages go in and out: `cargo bench -p walstream-ltx`.

#![allow(clippy::unwrap_used)]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use walstream_ltx::{
    Commit, Decoder, Encoder, Header, Lineage, PageSize, Pgno, Timestamp, Txid, TxidRange, WalSpan,
    decode_frame, merge, page_checksum, split_frames,
};

fn main() {
    divan::main();
}

const SIZES: [u32; 3] = [512, 4096, 65536];
const DATABASE: u32 = 16 << 20;

/// A database that compresses to about a half, like rows of short texts and numbers do.
fn database(page_size: u32) -> (Header, Vec<u8>) {
    let mut state = 1_u64;
    let mut image = Vec::with_capacity(DATABASE as usize);
    while image.len() < DATABASE as usize {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        image.extend_from_slice(b"order ");
        image.extend_from_slice(&state.to_be_bytes()[..6]);
        image.extend_from_slice(b" shipped");
    }
    image.truncate(DATABASE as usize);
    let header = Header {
        page_size: PageSize::new(page_size).unwrap(),
        commit: Commit::new(DATABASE / page_size),
        txids: TxidRange::single(Txid::FIRST).unwrap(),
        timestamp: Timestamp::from_millis(0),
        tracked: false,
        pre_apply: None,
        wal: WalSpan::default(),
        node_id: 0,
        lineage: Lineage::default(),
    };
    (header, image)
}

fn pages<'a>(header: &Header, image: &'a [u8]) -> impl Iterator<Item = (Pgno, &'a [u8])> {
    header.commit.pages(header.page_size).zip(image.chunks(header.page_size.bytes()))
}

fn encode(header: &Header, image: &[u8], out: Vec<u8>) -> Vec<u8> {
    let mut encoder = Encoder::new(out, header.clone()).unwrap();
    for (pgno, page) in pages(header, image) {
        encoder.page(pgno, page).unwrap();
    }
    encoder.finish(None).unwrap().0
}

#[divan::bench(args = SIZES)]
fn encoder(bencher: Bencher<'_, '_>, page_size: u32) {
    let (header, image) = database(page_size);
    bencher
        .counter(BytesCount::new(DATABASE))
        .with_inputs(|| Vec::with_capacity(2 * DATABASE as usize))
        .bench_values(|out| encode(&header, &image, out));
}

#[divan::bench(args = SIZES)]
fn decoder(bencher: Bencher<'_, '_>, page_size: u32) {
    let (header, image) = database(page_size);
    let file = encode(&header, &image, Vec::new());
    bencher
        .counter(BytesCount::new(DATABASE))
        .bench(|| Decoder::new(black_box(&file[..])).unwrap().finish().unwrap());
}

#[divan::bench(args = SIZES)]
fn frames_by_index(bencher: Bencher<'_, '_>, page_size: u32) {
    let (header, image) = database(page_size);
    let file = encode(&header, &image, Vec::new());
    let index = Decoder::new(&file[..]).unwrap().finish().unwrap().index;
    let mut page = vec![0; header.page_size.bytes()];
    bencher.counter(BytesCount::new(DATABASE)).bench_local(|| {
        for found in split_frames(black_box(&file), 0, &index) {
            let (entry, frame) = found.unwrap();
            decode_frame(frame, entry.pgno, header.page_size, &mut page).unwrap();
        }
    });
}

#[divan::bench(args = SIZES)]
fn merge_of_two(bencher: Bencher<'_, '_>, page_size: u32) {
    let (older, image) = database(page_size);
    let newer = Header { txids: TxidRange::single(Txid::new(2)).unwrap(), ..older.clone() };
    let files = [encode(&older, &image, Vec::new()), encode(&newer, &image, Vec::new())];
    bencher
        .counter(BytesCount::new(DATABASE))
        .with_inputs(|| Vec::with_capacity(2 * DATABASE as usize))
        .bench_values(|out| {
            let inputs = files.iter().map(|file| Decoder::new(&file[..]).unwrap()).collect();
            merge(inputs, out).unwrap()
        });
}

#[divan::bench(args = SIZES)]
fn page_checksums(bencher: Bencher<'_, '_>, page_size: u32) {
    let (header, image) = database(page_size);
    bencher.counter(BytesCount::new(DATABASE)).bench(|| {
        for (pgno, page) in pages(&header, &image) {
            black_box(page_checksum(pgno, page));
        }
    });
}
