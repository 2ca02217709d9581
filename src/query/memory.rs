//! Memory for answers: one budget for all questions that are being answered.
//!
//! What a question reads from the store is held until its answer is made, and its size is not known beforehand. So each
//! question takes from the budget as it reads, and is refused when nothing is left: a dashboard must not use up the
//! server's memory and so end ingestion. The budget counts the bytes of the data, not what the allocator adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytesize::ByteSize;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct QueryMemory(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    held: AtomicUsize,
}

/// What a question holds of the budget; given back when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Holding(Arc<Held>);

#[derive(Debug)]
struct Held {
    budget: QueryMemory,
    bytes: AtomicUsize,
}

/// Too little memory is left for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    /// The question needs more than the whole budget.
    #[error(
        "the question needs more than {} of memory: ask for a shorter range or fewer groups, or raise --query-bytes-max",
        ByteSize(*bytes_max as u64)
    )]
    Question {
        /// Size of the whole budget.
        bytes_max: usize,
    },
    /// The question might fit if other questions held less.
    #[error("other questions hold the memory for answers: ask again later, or raise --query-bytes-max")]
    Others,
}

impl QueryMemory {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Budget {
            bytes_max,
            held: AtomicUsize::new(0),
        }))
    }

    /// The holding of one question, which holds nothing yet.
    pub fn question(&self) -> Holding {
        Holding(Arc::new(Held {
            budget: self.clone(),
            bytes: AtomicUsize::new(0),
        }))
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

impl Holding {
    /// Takes `bytes` more from the budget.
    ///
    /// # Errors
    ///
    /// When the budget has less than that left. Nothing is taken then.
    pub fn take(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let Budget { bytes_max, held } = &*self.0.budget.0;
        let own = self.0.bytes.load(Ordering::Relaxed);
        if own.saturating_add(bytes) > *bytes_max {
            return Err(OutOfMemory::Question { bytes_max: *bytes_max });
        }
        if held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > *bytes_max {
            held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(OutOfMemory::Others);
        }
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_missing_until_the_question_is_answered() {
        let memory = QueryMemory::new(100);
        let (one, other) = (memory.question(), memory.question());
        assert_eq!(one.take(60), Ok(()));
        assert_eq!(other.take(41), Err(OutOfMemory::Others));
        assert_eq!(other.take(40), Ok(()));
        assert_eq!(one.take(41), Err(OutOfMemory::Question { bytes_max: 100 }));
        assert_eq!(one.take(usize::MAX), Err(OutOfMemory::Question { bytes_max: 100 }));
        let same = one.clone();
        drop(one);
        assert_eq!(memory.held(), 100);
        drop(same);
        assert_eq!((memory.held(), other.take(60)), (40, Ok(())));
        drop(other);
        assert_eq!(memory.held(), 0);
    }
}
