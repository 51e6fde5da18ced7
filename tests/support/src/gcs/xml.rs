//! Google's XML interface, as far as `object_store` uses it, in terms of the JSON interface of the emulator.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::front::{Answer, Request};
use crate::http;

const METADATA: &str = "x-goog-meta-";
const CONDITION: &str = "x-goog-if-generation-match";
/// What the JSON interface begins with; every other path is that of a bucket.
const JSON: [&str; 5] = ["/storage/v1/", "/upload/", "/download/", "/b/", "/batch/"];

/// The emulator, and what it lacks.
pub(super) struct Emulator {
    address: String,
    front: String,
    admits: bool,
    /// Held during each request, so that a condition and the write that it protects are one step, as at Google's.
    uploads: Mutex<Uploads>,
}

/// Multipart uploads under way, by their ids.
#[derive(Default)]
struct Uploads {
    begun: u64,
    under_way: HashMap<String, Upload>,
}

/// A multipart upload under way.
struct Upload {
    metadata: Value,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// Google's pages have up to 1000 names, and may have fewer.
const LARGEST_PAGE: usize = 100;

type Query = Vec<(String, String)>;

impl Emulator {
    pub(super) fn at(address: &str, admits: bool) -> Emulator {
        Emulator { address: address.to_owned(), front: String::new(), admits, uploads: Mutex::default() }
    }

    pub(super) fn fronted_by(self, front: &str) -> Emulator {
        Emulator { front: front.to_owned(), ..self }
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        let mut uploads = self.uploads.lock().unwrap();
        if !self.admits {
            return failure(403, "AccessDenied", "Access denied.");
        }
        if JSON.iter().any(|prefix| request.target.starts_with(prefix)) {
            return self.hand_on(request);
        }
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let query: Query = url_query(query);
        let path = percent_decode(path.trim_start_matches('/'));
        let (bucket, object) = path.split_once('/').unwrap_or((&path, ""));
        let at = At { emulator: self, bucket, object };
        let upload = get(&query, "uploadId").map(str::to_owned);
        match (request.method.as_str(), upload) {
            ("GET", None) if object.is_empty() => at.list(&query),
            ("HEAD", None) => at.head(),
            ("GET", None) => at.read(request),
            ("PUT", None) => at.write(request),
            ("DELETE", None) => at.delete(),
            ("POST", None) if get(&query, "uploads").is_some() => {
                if !at.has_bucket() {
                    return no_such_bucket();
                }
                uploads.begun += 1;
                let id = format!("upload-{}", uploads.begun);
                uploads
                    .under_way
                    .insert(id.clone(), Upload { metadata: metadata_of(request), parts: BTreeMap::new() });
                xml(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
                        escape(object)
                    ),
                )
            }
            // Google's documentation: preconditions cannot be used in XML API multipart uploads.
            (_, Some(_)) if request.header(CONDITION).is_some() => {
                failure(400, "NotImplemented", "Preconditions cannot be used here.")
            }
            ("PUT", Some(id)) => match uploads.under_way.get_mut(&id) {
                Some(upload) => {
                    let number = get(&query, "partNumber").unwrap().parse().unwrap();
                    upload.parts.insert(number, request.body.clone());
                    Answer {
                        status: 200,
                        headers: vec![header("etag", format!("\"part-{number}\""))],
                        body: Vec::new(),
                    }
                }
                None => no_such_upload(),
            },
            ("POST", Some(id)) => match uploads.under_way.remove(&id) {
                Some(upload) => {
                    let whole = upload.parts.into_values().collect::<Vec<_>>().concat();
                    at.store(&upload.metadata, &whole);
                    xml(
                        200,
                        format!(
                            "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{}</Key><ETag>\"{id}\"</ETag></CompleteMultipartUploadResult>",
                            escape(object)
                        ),
                    )
                }
                None => no_such_upload(),
            },
            ("DELETE", Some(id)) => match uploads.under_way.remove(&id) {
                Some(_) => empty(204),
                None => no_such_upload(),
            },
            _ => failure(501, "NotImplemented", "The front does not know this request."),
        }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> http::Response {
        http::request(&self.address, method, path, headers, body).unwrap()
    }

    /// The peer's requests and their answers go through as they are, but for the address that uploads go on at.
    fn hand_on(&self, request: &Request) -> Answer {
        let own = |name: &str| {
            ["host", "connection", "content-length", "transfer-encoding", "expect"].contains(&name)
        };
        let headers = request.headers.iter().filter(|(name, _)| !own(name));
        let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.ask(&request.method, &request.target, &headers, &request.body);
        let headers = answer.headers.into_iter().filter(|(name, _)| !own(name));
        let headers = headers.map(|(name, value)| (name, value.replace(&self.address, &self.front)));
        let mut headers: Vec<_> = headers.collect();
        // What Google does for clients that cannot tell "go on with the upload" from a redirection.
        let disguised = answer.status == 308 && request.header("x-guploader-no-308") == Some("yes");
        if disguised {
            headers.push(header("x-http-status-code-override", "308"));
        }
        Answer { status: if disguised { 200 } else { answer.status }, headers, body: answer.body }
    }
}

/// An object in a bucket.
struct At<'a> {
    emulator: &'a Emulator,
    bucket: &'a str,
    object: &'a str,
}

impl At<'_> {
    fn resource(&self) -> String {
        format!("/storage/v1/b/{}/o/{}", self.bucket, percent_encode(self.object))
    }

    fn has_bucket(&self) -> bool {
        self.emulator.ask("GET", &format!("/storage/v1/b/{}", self.bucket), &[], b"").status == 200
    }

    /// Why an object is not found.
    fn missing(&self) -> Answer {
        match self.has_bucket() {
            true => failure(404, "NoSuchKey", "The specified key does not exist."),
            false => no_such_bucket(),
        }
    }

    /// What the emulator says of the object.
    fn known(&self) -> Option<Value> {
        let answer = self.emulator.ask("GET", &self.resource(), &[], b"");
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
    }

    fn list(&self, query: &Query) -> Answer {
        let prefix = percent_encode(get(query, "prefix").unwrap_or_default());
        let path = format!("/storage/v1/b/{}/o?prefix={prefix}", self.bucket);
        let answer = self.emulator.ask("GET", &path, &[], b"");
        if answer.status == 404 {
            return no_such_bucket();
        }
        let listing: Value = serde_json::from_slice(&answer.body).unwrap();
        let mut items: Vec<&Value> = listing["items"].as_array().unwrap().iter().collect();
        items.sort_by_key(|item| item["name"].as_str().unwrap());
        let after =
            get(query, "continuation-token").or_else(|| get(query, "start-after")).unwrap_or_default();
        items.retain(|item| item["name"].as_str().unwrap() > after);
        let most = get(query, "max-keys").map_or(LARGEST_PAGE, |most| most.parse().unwrap());
        let is_cut = items.len() > most;
        items.truncate(most);
        let mut text = format!("<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>");
        for item in &items {
            let field = |name: &str| escape(item[name].as_str().unwrap());
            let (key, time, size) = (field("name"), field("updated"), field("size"));
            text += &format!(
                "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><Size>{size}</Size><ETag>\"{}\"</ETag></Contents>",
                field("generation")
            );
        }
        if let Some(last) = items.last().filter(|_| is_cut) {
            let token = escape(last["name"].as_str().unwrap());
            text += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
        }
        xml(200, text + "</ListBucketResult>")
    }

    fn head(&self) -> Answer {
        match self.known() {
            Some(object) => {
                let mut headers = headers_of(&object);
                headers.push(header("content-length", object["size"].as_str().unwrap()));
                Answer { status: 200, headers, body: Vec::new() }
            }
            None => empty(404),
        }
    }

    fn read(&self, request: &Request) -> Answer {
        let Some(object) = self.known() else { return self.missing() };
        let size: u64 = object["size"].as_str().unwrap().parse().unwrap();
        let range = request.header("range");
        let start =
            range.and_then(|range| range.trim_start_matches("bytes=").split('-').next()?.parse::<u64>().ok());
        if start.is_some_and(|start| start >= size) {
            return failure(416, "InvalidRange", "The requested range cannot be satisfied.");
        }
        let asked: Vec<(&str, &str)> = range.map(|range| ("range", range)).into_iter().collect();
        let path = format!("/{}/{}", self.bucket, percent_encode(self.object));
        let answer = self.emulator.ask("GET", &path, &asked, b"");
        let mut headers = headers_of(&object);
        let kept =
            answer.headers.into_iter().filter(|(name, _)| name == "content-range" || name == "x-goog-hash");
        headers.extend(kept);
        Answer { status: answer.status, headers, body: answer.body }
    }

    fn write(&self, request: &Request) -> Answer {
        if request.header(CONDITION) == Some("0") && self.known().is_some() {
            return failure(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold.",
            );
        }
        let Some(generation) = self.store(&metadata_of(request), &request.body) else {
            return no_such_bucket();
        };
        let headers =
            vec![header("etag", format!("\"{generation}\"")), header("x-goog-generation", generation)];
        Answer { status: 200, headers, body: Vec::new() }
    }

    /// A resumable upload in one piece: the only kind that takes any bytes together with metadata. `None` without bucket.
    fn store(&self, metadata: &Value, body: &[u8]) -> Option<String> {
        let path = format!("/upload/storage/v1/b/{}/o?uploadType=resumable", self.bucket);
        let resource = json!({"name": self.object, "metadata": metadata}).to_string();
        let begun =
            self.emulator.ask("POST", &path, &[("content-type", "application/json")], resource.as_bytes());
        let location = begun.headers.iter().find(|(name, _)| name == "location")?.1.clone();
        let (_, target) = location.split_once(&self.emulator.address).unwrap();
        let content_type = [("content-type", "application/octet-stream")];
        let stored = self.emulator.ask("PUT", target, &content_type, body);
        let object: Value = serde_json::from_slice(&stored.body).unwrap();
        object["generation"].as_str().map(str::to_owned)
    }

    fn delete(&self) -> Answer {
        match self.emulator.ask("DELETE", &self.resource(), &[], b"").status {
            404 => self.missing(),
            _ => empty(204),
        }
    }
}

fn metadata_of(request: &Request) -> Value {
    let named =
        request.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(METADATA)?, value)));
    named
        .map(|(name, value)| (name.to_owned(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn headers_of(object: &Value) -> Vec<(String, String)> {
    let text = |name: &str| object[name].as_str().unwrap().to_owned();
    let mut headers = vec![
        header("etag", format!("\"{}\"", text("generation"))),
        header("x-goog-generation", text("generation")),
        header("last-modified", http_date(&text("updated"))),
    ];
    for (name, value) in object["metadata"].as_object().into_iter().flatten() {
        headers.push(header(&format!("{METADATA}{name}"), value.as_str().unwrap()));
    }
    headers
}

/// `2026-11-21T06:40:12.610000Z` as `Sat, 21 Nov 2026 06:40:12 GMT`.
fn http_date(time: &str) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];
    let number = |range: std::ops::Range<usize>| time[range].parse::<usize>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Zeller: January and February belong to the year before.
    let (m, y) = if month < 3 { (month + 12, year - 1) } else { (month, year) };
    let weekday = (day + 13 * (m + 1) / 5 + y + y / 4 - y / 100 + y / 400) % 7;
    format!("{}, {day:02} {} {year} {} GMT", DAYS[weekday], MONTHS[month - 1], &time[11..19])
}

fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn empty(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

fn xml(status: u16, text: String) -> Answer {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?>{text}").into_bytes();
    Answer { status, headers: vec![header("content-type", "application/xml")], body }
}

fn failure(status: u16, code: &str, message: &str) -> Answer {
    xml(status, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

fn no_such_bucket() -> Answer {
    failure(404, "NoSuchBucket", "The specified bucket does not exist.")
}

fn no_such_upload() -> Answer {
    failure(404, "NoSuchUpload", "The requested upload was not found.")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn get<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn url_query(query: &str) -> Query {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (percent_decode(name), percent_decode(&value.replace('+', " ")))).collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap()
}

pub(super) fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date("2026-11-21T06:40:12.610000Z"), "Sat, 21 Nov 2026 06:40:12 GMT");
        assert_eq!(http_date("2024-02-29T23:59:59.000000Z"), "Thu, 29 Feb 2024 23:59:59 GMT");
    }
}
