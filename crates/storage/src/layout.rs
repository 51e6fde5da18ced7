//! Where an LTX file lies in a replica (format.md, "Replica layout").
//!
//! Invariant: these names are the peer's, byte for byte, and a name leads back to one level and TXID range.

use walstream_ltx::{FileName, Level, TxidRange};

/// How the folders of the levels are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `ltx/<level>/`, the level in decimal: directories and most other stores.
    Ltx,
    /// `<level>/`, the level as four hexadecimal digits: S3 and its relatives.
    Hex,
}

impl Layout {
    /// The folder of a level below `root`, without a slash at the end. An empty root is the top of the store.
    pub(crate) fn folder(self, root: &str, level: Level) -> String {
        let folder = match self {
            Layout::Ltx => format!("ltx/{level}"),
            Layout::Hex => format!("{:04x}", level.get()),
        };
        if root.is_empty() { folder } else { format!("{root}/{folder}") }
    }

    /// The full name of a file below `root`.
    pub(crate) fn object(self, root: &str, level: Level, txids: TxidRange) -> String {
        format!("{}/{}", self.folder(root, level), FileName(txids))
    }
}

/// A slash-separated path without empty, `.` and `..` segments and without a slash at either end.
///
/// The peer does the same to the path of a URL, except at the top of a bucket: there it writes keys such as
/// `./0000/…` (`s3://bucket`) or `/0000/…` (`s3://bucket/`), which no S3 client that normalises its URLs can
/// ask for. Here both are the top itself, keys `0000/…`.
pub(crate) fn clean_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use walstream_ltx::Txid;

    #[test]
    fn names_are_the_peers() {
        let txids = TxidRange::new(Txid::new(1), Txid::new(0x2a)).unwrap();
        let name = "0000000000000001-000000000000002a.ltx";
        assert_eq!(Layout::Ltx.object("", Level::SNAPSHOT, txids), format!("ltx/9/{name}"));
        assert_eq!(Layout::Hex.object("a/b", Level::SNAPSHOT, txids), format!("a/b/0009/{name}"));
        assert_eq!(Layout::Hex.object("", Level::L0, txids), format!("0000/{name}"));
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (path, clean) in
            [("", ""), ("/", ""), (".", ""), ("/a//b/", "a/b"), ("a/./b/../c", "a/c"), ("../../a", "a")]
        {
            assert_eq!(clean_path(path), clean, "{path:?}");
        }
    }
}
