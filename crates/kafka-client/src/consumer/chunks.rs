//! Pieces of memory that batches are written into, used again and again.
//!
//! A consumer under load would otherwise ask for and give back megabytes many times a second, from different threads,
//! which the allocator answers by holding far more than is in use.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a piece. About a hundred records; small against the limits of a batch, so that a batch of a few records
/// wastes little.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Free pieces of one consumer; empty clones of the handle share them.
#[derive(Debug, Clone)]
pub(super) struct ChunkPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    chunks_max: usize,
}

impl ChunkPool {
    /// Keeps at most about so many bytes of free pieces.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { free: Arc::default(), chunks_max: bytes_max / CHUNK_BYTES }
    }

    /// An empty piece with room for `bytes`.
    fn take(&self, bytes: usize) -> Vec<u8> {
        let free = if bytes <= CHUNK_BYTES { self.lock().pop() } else { None };
        free.unwrap_or_else(|| Vec::with_capacity(bytes.max(CHUNK_BYTES)))
    }

    /// Takes pieces back; those of other sizes and those that are too many are freed.
    fn give(&self, chunks: impl Iterator<Item = Vec<u8>>) {
        let mut free = self.lock();
        for mut chunk in chunks {
            if chunk.capacity() == CHUNK_BYTES && free.len() < self.chunks_max {
                chunk.clear();
                free.push(chunk);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where bytes lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkPlace {
    chunk: usize,
    start: usize,
}

/// Bytes in pieces; what is appended at once lies in one piece.
#[derive(Debug)]
pub(super) struct Chunks {
    pool: ChunkPool,
    chunks: Vec<Vec<u8>>,
    byte_len: usize,
}

impl Chunks {
    pub(super) fn new(pool: ChunkPool) -> Self {
        Self { pool, chunks: Vec::new(), byte_len: 0 }
    }

    /// Bytes that were appended.
    pub(super) fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Appends the parts, one behind the other.
    pub(super) fn append(&mut self, parts: &[&[u8]]) -> ChunkPlace {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let fits = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= bytes);
        if !fits {
            self.chunks.push(self.pool.take(bytes));
        }
        self.byte_len += bytes;
        let chunk = self.chunks.len() - 1;
        let start = self.chunks[chunk].len();
        for part in parts {
            self.chunks[chunk].extend_from_slice(part);
        }
        ChunkPlace { chunk, start }
    }

    /// Everything of its piece from a place on.
    pub(super) fn from(&self, place: ChunkPlace) -> &[u8] {
        &self.chunks[place.chunk][place.start..]
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.pool.give(self.chunks.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(pool: &ChunkPool) -> usize {
        pool.lock().len()
    }

    #[test]
    fn pieces_are_used_again_up_to_the_pools_limit() {
        let pool = ChunkPool::new(2 * CHUNK_BYTES + 1);
        let mut chunks = Chunks::new(pool.clone());
        let places: Vec<_> = (0..3_u8).map(|byte| chunks.append(&[&vec![byte; CHUNK_BYTES]])).collect();
        assert_eq!(chunks.byte_len(), 3 * CHUNK_BYTES);
        assert!((0..3_u8).zip(places).all(|(byte, place)| chunks.from(place) == vec![byte; CHUNK_BYTES]));
        drop(chunks);
        assert_eq!(free(&pool), 2);
        let mut again = Chunks::new(pool.clone());
        again.append(&[b"a"]);
        assert_eq!(free(&pool), 1);
        assert_eq!(again.byte_len(), 1);
    }

    #[test]
    fn what_is_appended_at_once_is_never_torn_and_a_giant_gets_a_piece_of_its_own() {
        let pool = ChunkPool::new(10 * CHUNK_BYTES);
        let mut chunks = Chunks::new(pool.clone());
        let giant = vec![7; CHUNK_BYTES + 1];
        let first = chunks.append(&[b"key", b"value"]);
        let second = chunks.append(&[b"k", &giant]);
        let third = chunks.append(&[b"after"]);
        assert_eq!(&chunks.from(first)[..8], b"keyvalue");
        assert_eq!(chunks.from(second).len(), giant.len() + 1);
        assert_eq!(chunks.from(third), b"after");
        drop(chunks);
        assert_eq!(free(&pool), 2, "the giant's piece is freed");
    }
}
