//! What must hold for any bytes at all. The fuzz targets run these on new inputs
//! (`cargo +nightly fuzz run decoder`), a normal test on the inputs that were kept.

use walstream_ltx::{
    DecodeError, Decoder, Encoder, FileName, Header, PageIndex, PageSize, Pgno, Summary, Tail, decode_frame,
    merge, parse_tail, split_frames, verify,
};

/// Any bytes as a whole file: what is accepted can be written again, merged and verified.
pub fn decoder(data: &[u8]) {
    let mut file = data.to_vec();
    match read(&file) {
        Ok(summary) => accepted(&file, &summary),
        // Past the checksum, which only a real writer gets right, there is more to find.
        Err(DecodeError::FileChecksum { computed, .. }) => {
            let last = file.len() - 8;
            file[last..].copy_from_slice(&computed.get().to_be_bytes());
            if let Ok(summary) = read(&file) {
                accepted(&file, &summary);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn read(file: &[u8]) -> Result<Summary, DecodeError> {
    Decoder::new(file)?.finish()
}

fn accepted(file: &[u8], summary: &Summary) {
    assert_eq!(summary.size, file.len() as u64);
    let tail = parse_tail(file, summary.size).expect("the end of a good file");
    assert_eq!(tail, Tail::Complete { index: summary.index.clone(), trailer: summary.trailer });
    summary.index.check(&summary.header).expect("the index of a good file");

    let mut decoder = Decoder::new(file).expect("a good file");
    let mut encoder = Encoder::new(Vec::new(), summary.header.clone()).expect("the header of a good file");
    while let Some(page) = decoder.next_page().expect("a good file") {
        encoder.page(page.pgno, page.data).expect("the pages of a good file");
    }
    let (again, _) = encoder.finish(summary.trailer.post_apply).expect("all pages of a good file");
    let again = read(&again).expect("what was just written");
    assert_eq!((&again.header, again.pages), (&summary.header, summary.pages));

    let _ = verify(file);
    let _ = merge(vec![Decoder::new(file).expect("a good file")], Vec::new());
}

/// Any bytes as the end of a file, as an index, and as a frame.
pub fn tail(data: &[u8]) {
    let _ = parse_tail(data, data.len() as u64 + 100);
    if let Ok(Tail::NeedMore(needed)) = parse_tail(&data[data.len() / 2..], data.len() as u64) {
        assert!(needed <= data.len() as u64);
    }
    if let Ok(Tail::Complete { index, .. }) = parse_tail(data, data.len() as u64) {
        read_frames(data, &index);
    }
    if let Ok(index) = PageIndex::parse(data) {
        assert_eq!(index.as_bytes(), data);
        assert!(index.iter().all(|entry| index.lookup(entry.pgno) == Some(entry)));
    }
    let page_size = PageSize::new(512).expect("a page size");
    let _ = decode_frame(data, Pgno::FIRST, page_size, &mut [0; 512]);
}

fn read_frames(file: &[u8], index: &PageIndex) {
    let Ok(header) = Header::parse(file) else { return };
    let _ = index.check(&header);
    let mut page = vec![0; header.page_size.bytes()];
    for (entry, frame) in split_frames(file, 0, index).flatten() {
        let _ = decode_frame(frame, entry.pgno, header.page_size, &mut page);
    }
}

/// Any text as a file name: what is accepted is spelled in one way only.
pub fn file_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<FileName>() {
        assert_eq!(name.to_string(), text);
    }
}
