//! Where the chunks of an object are: their numbers in the stream, and where each begins in the object.
//!
//! Invariant: what is known of an object never changes, since its chunks have a subject of their own and an object that
//! is written anew has other chunks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::bucket::{Bucket, Found};
use super::connection::Connection;
use super::consumer::Consumer;
use super::failure::Failure;

/// Objects whose layouts are kept; of each 16 bytes a chunk.
const KEPT: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// Of its message.
    pub(super) number: u64,
    /// Its first byte in the object.
    pub(super) begin: u64,
}

pub(super) struct Layout(Vec<Chunk>);

impl Layout {
    /// Asks for the sizes of all chunks: other programs write chunks of any size, and several objects at a time.
    async fn find(connection: &Arc<Connection>, bucket: &Bucket, found: &Found) -> Result<Self, Failure> {
        let (mut chunks, mut end) = (Vec::new(), 0);
        let mut sizes = Consumer::sizes(connection, bucket, &bucket.chunks(&found.info.nuid)).await?;
        while let Some(delivered) = sizes.next().await? {
            let size = delivered.size();
            let size = size.ok_or_else(|| Failure::Damaged("the size of a chunk is not told".into()))?;
            chunks.push(Chunk { number: delivered.sequence, begin: end });
            end += size;
        }
        match end == found.info.size {
            true => Ok(Layout(chunks)),
            false => Err(Failure::Damaged("its content is not as long as its description says".into())),
        }
    }

    /// The chunks that hold a range, in their order.
    pub(super) fn of_range(&self, range: &Range<u64>) -> &[Chunk] {
        let first = self.0.partition_point(|chunk| chunk.begin <= range.start).saturating_sub(1);
        let end = self.0.partition_point(|chunk| chunk.begin < range.end).max(first);
        &self.0[first..end]
    }
}

/// A layout, as soon as it is known.
type Entry = Arc<OnceCell<Arc<Layout>>>;

/// The layouts of objects that were read lately, by what the chunks' subject ends in.
#[derive(Default)]
pub(super) struct Layouts(Mutex<VecDeque<(String, Entry)>>);

impl Layouts {
    /// That of an object, which is found out once however many want it.
    pub(super) async fn of(
        &self,
        connection: &Arc<Connection>,
        bucket: &Bucket,
        found: &Found,
    ) -> Result<Arc<Layout>, Failure> {
        let find = || async { Layout::find(connection, bucket, found).await.map(Arc::new) };
        self.entry(&found.info.nuid).get_or_try_init(find).await.cloned()
    }

    fn entry(&self, nuid: &str) -> Entry {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, entry)) = kept.iter().find(|(known, _)| known == nuid) {
            return Arc::clone(entry);
        }
        let entry = Entry::default();
        kept.truncate(KEPT - 1);
        kept.push_front((nuid.to_owned(), Arc::clone(&entry)));
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_in_the_chunks_that_it_touches() {
        let layout = Layout([(5, 0), (7, 10), (8, 12)].map(|(number, begin)| Chunk { number, begin }).into());
        let numbers = |range| layout.of_range(&range).iter().map(|chunk| chunk.number).collect::<Vec<_>>();
        assert_eq!(numbers(0..20), [5, 7, 8]);
        assert_eq!(numbers(0..10), [5]);
        assert_eq!(numbers(9..11), [5, 7]);
        assert_eq!(numbers(10..12), [7]);
        assert_eq!(numbers(12..13), [8]);
        assert!(Layout(Vec::new()).of_range(&(0..1)).is_empty());
    }
}
