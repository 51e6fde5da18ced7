//! The folders that files lie in.
//!
//! Invariant: a folder is made only for a file that is about to be written into it, never over anything.

use std::sync::Arc;

use reqwest::{Response, StatusCode};

use super::exchange::{Request, Trouble};
use super::failure::Place;
use super::multistatus::{self, Entry};
use super::server::Server;
use crate::error::StorageError;

/// What became of a request to make a folder.
enum Made {
    /// It is there now.
    Yes,
    /// The folder that it belongs into is missing.
    NoParent(Response),
}

/// What lies in a folder; nothing if there is no such folder.
pub(super) async fn entries(server: &Arc<Server>, path: &str) -> Result<Option<Vec<Entry>>, StorageError> {
    let place = Place::new(server, path);
    let response =
        look(server, path, "1", false).await.map_err(|trouble| place.failed("listing", &trouble))?;
    match response.status() {
        StatusCode::MULTI_STATUS => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        _ => return Err(place.refused("listing", response).await),
    }
    let document = server.document(response).await.map_err(|trouble| place.failed("listing", &trouble))?;
    let entries = multistatus::parse(&document);
    entries.map(Some).map_err(|error| place.unavailable("listing", error.to_string()))
}

/// Asks for a folder, `depth` levels deep.
pub(super) async fn look(
    server: &Arc<Server>,
    path: &str,
    depth: &str,
    impatient: bool,
) -> Result<Response, Trouble> {
    let url = server.folder_url(path);
    let body = super::body::Body::Bytes(multistatus::WANTED.into());
    let request = Request::new("PROPFIND", &url).header("depth", depth).body(&body);
    let request = request.header("content-type", "application/xml; charset=utf-8");
    server.send(if impatient { request.impatient() } else { request }).await
}

/// Makes a folder and whatever it lies in, as far as it is missing: one by one, as many servers insist.
pub(super) async fn make(server: &Arc<Server>, path: &str) -> Result<(), StorageError> {
    let segments: Vec<&str> = path.split('/').collect();
    let mut depth = segments.len();
    // Up to the first that can be made, then down again.
    while let Made::NoParent(response) = make_one(server, &segments[..depth].join("/")).await? {
        depth -= 1;
        if depth == 0 {
            return Err(no_base(server, response));
        }
    }
    for depth in depth + 1..=segments.len() {
        let path = segments[..depth].join("/");
        if let Made::NoParent(response) = make_one(server, &path).await? {
            return Err(Place::new(server, &path).refused("making the folder", response).await);
        }
    }
    Ok(())
}

async fn make_one(server: &Arc<Server>, path: &str) -> Result<Made, StorageError> {
    let place = Place::new(server, path);
    let operation = "making the folder";
    let url = server.folder_url(path);
    let response = server.send(Request::new("MKCOL", &url)).await;
    let response = response.map_err(|trouble| place.failed(operation, &trouble))?;
    match response.status().as_u16() {
        200..300 | 405 => return Ok(Made::Yes),
        404 | 409 => return Ok(Made::NoParent(response)),
        _ => {}
    }
    // Servers have many answers for a folder that exists, or that one may look at but not make.
    match look(server, path, "0", false).await {
        Ok(found) if found.status() == StatusCode::MULTI_STATUS => Ok(Made::Yes),
        _ => Err(place.refused(operation, response).await),
    }
}

fn no_base(server: &Arc<Server>, response: Response) -> StorageError {
    StorageError::Config(format!(
        "{}: the folder does not exist (making one in it was answered with {}); create it, or correct webdav-url",
        server.location(""),
        response.status()
    ))
}
