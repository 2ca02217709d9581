//! Why a question has no answer.

use super::GROUPS_MAX;
use super::memory::OutOfMemory;
use crate::rollup::users::DamagedSet;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// The store failed.
    #[error("the store failed")]
    Store(E),
    /// More groups than an answer may hold.
    #[error("the answer would have more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// The answer would take too much work. The text says what to ask instead.
    #[error("{0}")]
    TooLarge(String),
    /// The answer would take too much memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// A rollup row is damaged.
    #[error(transparent)]
    Damaged(#[from] DamagedSet),
}

impl<E> AnswerError<E> {
    /// Turns the store's error into another one; keeps all other errors.
    pub fn map_store<F>(self, map: impl FnOnce(E) -> F) -> AnswerError<F> {
        match self {
            Self::Store(error) => AnswerError::Store(map(error)),
            Self::TooManyGroups => AnswerError::TooManyGroups,
            Self::TooLarge(reason) => AnswerError::TooLarge(reason),
            Self::Memory(error) => AnswerError::Memory(error),
            Self::Damaged(error) => AnswerError::Damaged(error),
        }
    }
}
