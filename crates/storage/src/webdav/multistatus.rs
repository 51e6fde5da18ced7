//! What a server says of a folder: the answer to `PROPFIND` (RFC 4918, section 14.16).
//!
//! Invariant: whatever a server sends, this ends, takes no more memory than the answer has, and never panics. Prefixes
//! of namespaces are the server's choice and are not looked at.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};
use walstream_ltx::Timestamp;

use crate::timestamp;
use crate::url::percent_decode;

/// The properties that are asked for.
pub(super) const WANTED: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>"#,
    "<resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"
);

/// One file or folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The last part of its path, decoded.
    pub(super) name: String,
    pub(super) is_folder: bool,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Timestamp>,
}

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotUnderstood {
    #[error("its listing is no valid XML: {0}")]
    Xml(#[from] quick_xml::Error),
    #[error("its listing is no WebDAV multistatus; is the URL that of a WebDAV folder?")]
    Other,
    #[error("its listing ends in the middle")]
    Cut,
}

/// A `response` on its way.
#[derive(Default)]
struct Response {
    entry: Entry,
    href: String,
    /// Of the `propstat` at hand: counted only if its status is a success.
    found: Entry,
    failed: bool,
}

/// Everything that an answer speaks of, the folder itself included.
pub(super) fn parse(document: &[u8]) -> Result<Vec<Entry>, NotUnderstood> {
    let mut reader = Reader::from_reader(document);
    let (mut entries, mut response, mut text) = (Vec::new(), Response::default(), String::new());
    let (mut depth, mut is_multistatus) = (0_usize, false);
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                is_multistatus |= depth == 0 && tag.local_name().as_ref() == b"multistatus";
                depth += 1;
                text.clear();
                response.begin(tag.local_name().as_ref());
            }
            Event::Empty(tag) => {
                is_multistatus |= depth == 0 && tag.local_name().as_ref() == b"multistatus";
                response.begin(tag.local_name().as_ref());
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(quick_xml::Error::from)?),
            Event::CData(part) => text.push_str(&part.decode().map_err(quick_xml::Error::from)?),
            Event::GeneralRef(part) => text.push_str(&resolved(&part)),
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                if response.end(tag.local_name().as_ref(), text.trim()) {
                    entries.extend(std::mem::take(&mut response).finish());
                }
                text.clear();
            }
            Event::Eof if !is_multistatus => return Err(NotUnderstood::Other),
            Event::Eof if depth > 0 => return Err(NotUnderstood::Cut),
            Event::Eof => return Ok(entries),
            _ => {}
        }
    }
}

/// `&amp;` and `&#38;`; entities of the server's own stand for nothing.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.into();
    }
    let name = reference.decode().unwrap_or_default();
    resolve_predefined_entity(&name).unwrap_or_default().to_owned()
}

impl Response {
    fn begin(&mut self, tag: &[u8]) {
        match tag {
            b"response" => *self = Response::default(),
            b"propstat" => (self.found, self.failed) = (Entry::default(), false),
            b"collection" => self.found.is_folder = true,
            _ => {}
        }
    }

    /// Takes in what an element held; true at the end of the response.
    fn end(&mut self, tag: &[u8], text: &str) -> bool {
        match tag {
            b"href" => text.clone_into(&mut self.href),
            b"getcontentlength" => self.found.size = text.parse().ok(),
            b"getlastmodified" => self.found.modified = timestamp::from_http(text),
            b"status" => self.failed = text.split(' ').nth(1).is_none_or(|code| !code.starts_with('2')),
            b"propstat" if !self.failed => {
                self.entry.is_folder |= self.found.is_folder;
                self.entry.size = self.found.size.or(self.entry.size);
                self.entry.modified = self.found.modified.or(self.entry.modified);
            }
            _ => return tag == b"response",
        }
        false
    }

    /// `None` for a name that is no text.
    fn finish(self) -> Option<Entry> {
        let path = self.href.trim_end_matches('/');
        let name = percent_decode(path.rsplit('/').next().unwrap_or_default())?;
        Some(Entry { name, ..self.entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64, modified: i64) -> Entry {
        let modified = Some(Timestamp::from_millis(modified));
        Entry { name: name.into(), is_folder: false, size: Some(size), modified }
    }

    #[test]
    fn every_spelling_of_the_same_listing_is_read() {
        let nginx = r#"<?xml version="1.0" encoding="utf-8" ?>
            <D:multistatus xmlns:D="DAV:"><D:response><D:href>/dav/ltx/0/</D:href><D:propstat><D:prop>
            <D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
            <D:response><D:href>/dav/ltx/0/a%20b.ltx</D:href><D:propstat><D:prop><D:getcontentlength>10</D:getcontentlength>
            <D:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</D:getlastmodified><D:resourcetype></D:resourcetype></D:prop>
            <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"#;
        let absolute_and_unprefixed = r#"<multistatus xmlns="DAV:">
            <response><href>https://cloud.example:8443/x/0</href><propstat><prop><resourcetype><collection></collection></resourcetype>
            <getcontentlength/></prop><status>HTTP/1.1 200 OK</status></propstat></response>
            <response><href><![CDATA[https://cloud.example:8443/x/0/a%20b.ltx]]></href>
            <propstat><prop><getlastmodified>2023-11-14T22:13:20Z</getlastmodified></prop><status>HTTP/1.1 200 OK</status></propstat>
            <propstat><prop><getcontentlength> 10 </getcontentlength></prop><status>HTTP/2 200</status></propstat>
            <propstat><prop><resourcetype><collection/></resourcetype></prop><status>HTTP/1.1 404 Not Found</status></propstat>
            </response></multistatus>"#;
        for document in [nginx, absolute_and_unprefixed] {
            let entries = parse(document.as_bytes()).unwrap();
            assert!(entries[0].is_folder && entries[0].name == "0", "{entries:?}");
            assert_eq!(entries[1..], [file("a b.ltx", 10, 1_700_000_000_000)]);
        }
    }

    #[test]
    fn references_stand_for_their_characters() {
        let document = "<m:multistatus><m:response><m:href>/a&amp;b&#x2f;c&unknown;.ltx</m:href></m:response></m:multistatus>";
        let entries = parse(document.as_bytes()).unwrap();
        assert_eq!((entries[0].name.as_str(), entries[0].size), ("c.ltx", None));
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for (document, reason) in [
            ("", "no WebDAV multistatus"),
            ("<html><body>Welcome</body></html>", "no WebDAV multistatus"),
            ("<multistatus><response>", "ends in the middle"),
            ("<multistatus><a></b></multistatus>", "no valid XML"),
        ] {
            let error = parse(document.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(parse(b"<multistatus/>").unwrap(), []);
    }
}
