//! `walstream ltx dump`

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;
use walstream_ltx::{Checksum, Header, PageIndex, TAIL_GUESS, Tail, Trailer, parse_tail};

use super::paths;
use crate::error::CliError;
use crate::output;

/// Show what an LTX file says about itself.
///
/// Shows its header, its trailer, and the number, offset and stored size of each page. The pages are not read: that
/// is for "walstream ltx verify".
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream ltx dump [flags] FILE", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,

    #[arg(hide = true)]
    file: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # One change.
  $ walstream ltx dump /backup/db/ltx/0/000000000000005b-000000000000005b.ltx";

/// A file, for people and for programs. What is unknown or not there is left out of the JSON.
#[derive(Serialize)]
struct Dump {
    file: String,
    size: u64,
    min_txid: String,
    max_txid: String,
    snapshot: bool,
    timestamp: String,
    page_size: u32,
    commit: u32,
    wal_offset: u64,
    wal_size: u64,
    wal_salt1: u32,
    wal_salt2: u32,
    node_id: u64,
    /// Whether the format's own checksums of the database are in use.
    tracked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_apply_checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_apply_checksum: Option<String>,
    /// walstream's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_apply_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_apply_digest: Option<String>,
    file_checksum: String,
    pages: Vec<Page>,
}

#[derive(Serialize)]
struct Page {
    pgno: u32,
    offset: u64,
    size: u32,
}

/// Shows the file.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let files = paths(&args.file, "walstream ltx dump FILE")?;
    let [path] = &files[..] else { return Err(CliError::new("too many arguments")) };
    let dump = read(path).map_err(|reason| CliError::new(format!("{}: {reason}", path.display())))?;
    output::print(&if args.json { output::json(&dump) } else { dump.text() })?;
    Ok(())
}

fn read(path: &Path) -> Result<Dump, String> {
    let unreadable = |error: io::Error| format!("cannot read the LTX file: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let head = part(&file, 0, size.min(Header::SIZE as u64)).map_err(unreadable)?;
    let header = Header::parse(&head).map_err(|error| error.to_string())?;
    let mut wanted = TAIL_GUESS.min(size);
    loop {
        let tail = part(&file, size - wanted, wanted).map_err(unreadable)?;
        match parse_tail(&tail, size).map_err(|error| error.to_string())? {
            Tail::NeedMore(needed) if needed > wanted && needed <= size => wanted = needed,
            Tail::NeedMore(_) => return Err("its page index has no end".to_owned()),
            Tail::Complete { index, trailer } => return Ok(Dump::new(path, size, header, &index, trailer)),
        }
    }
}

fn part(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Dump {
    fn new(path: &Path, size: u64, header: Header, index: &PageIndex, trailer: Trailer) -> Dump {
        let text = |checksum: Option<Checksum>| checksum.map(|checksum| checksum.to_string());
        Dump {
            file: path.display().to_string(),
            size,
            min_txid: header.txids.min().to_string(),
            max_txid: header.txids.max().to_string(),
            snapshot: header.is_snapshot(),
            timestamp: output::millis(header.timestamp),
            page_size: header.page_size.get(),
            commit: header.commit.get(),
            wal_offset: header.wal.offset,
            wal_size: header.wal.size,
            wal_salt1: header.wal.salts.salt1,
            wal_salt2: header.wal.salts.salt2,
            node_id: header.node_id,
            tracked: header.tracked,
            pre_apply_checksum: text(header.pre_apply),
            post_apply_checksum: text(trailer.post_apply),
            pre_apply_digest: text(header.lineage.pre_apply),
            post_apply_digest: text(header.lineage.post_apply),
            file_checksum: trailer.file_checksum.to_string(),
            pages: index
                .iter()
                .map(|entry| Page { pgno: entry.pgno.get(), offset: entry.offset, size: entry.size })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let pair = |before: &Option<String>, after: &Option<String>| match (before, after) {
            (None, None) => "none".to_owned(),
            (before, after) => {
                let text = |sum: &Option<String>| sum.clone().unwrap_or_else(|| "-".to_owned());
                format!("{} before, {} after", text(before), text(after))
            }
        };
        let kind = if self.snapshot { "a whole database" } else { "changes" };
        let wal = format!(
            "{} bytes from {}, salts {:08x} {:08x}",
            self.wal_size, self.wal_offset, self.wal_salt1, self.wal_salt2
        );
        let tracked = match self.tracked {
            true => pair(&self.pre_apply_checksum, &self.post_apply_checksum),
            false => "not tracked".to_owned(),
        };
        let rows = [
            ("file", self.file.clone()),
            ("size", self.size.to_string()),
            ("txids", format!("{} - {}", self.min_txid, self.max_txid)),
            ("holds", kind.to_owned()),
            ("timestamp", self.timestamp.clone()),
            ("page size", self.page_size.to_string()),
            ("commit", format!("{} pages", self.commit)),
            ("wal", if self.wal_offset == 0 { "none".to_owned() } else { wal }),
            ("node id", format!("{:016x}", self.node_id)),
            ("database checksums", tracked),
            ("walstream's digests", pair(&self.pre_apply_digest, &self.post_apply_digest)),
            ("file checksum", self.file_checksum.clone()),
            ("pages", self.pages.len().to_string()),
        ];
        let head: String =
            rows.iter().map(|(name, value)| format!("{:21}{value}\n", format!("{name}:"))).collect();
        let pages: Vec<_> = self
            .pages
            .iter()
            .map(|page| [page.pgno.to_string(), page.offset.to_string(), page.size.to_string()])
            .collect();
        format!("{head}\n{}", output::table(["page", "offset", "size"], &pages))
    }
}
