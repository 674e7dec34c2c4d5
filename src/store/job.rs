//! A closure in the writer's queue, and what becomes of its answer.

use std::fmt::Display;

use tokio::sync::oneshot;

use super::{StoreError, Writes};

/// A [`Pending`] of any type.
pub(super) trait Job: Send {
    /// Runs the closure and stores its answer.
    ///
    /// # Errors
    /// If the closure failed after it had changed a row.
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError>;
    /// Sends the caller the answer, or the reason why the batch was undone.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A closure, its answer once it has run, and the caller who waits for that.
pub(super) struct Pending<T, E, F> {
    work: Option<F>,
    answer: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Pending<T, E, F> {
    pub(super) fn new(work: F, caller: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work: Some(work), answer: None, caller }
    }
}

impl<T, E, F> Job for Pending<T, E, F>
where
    T: Send,
    E: From<StoreError> + Display + Send,
    F: FnOnce(&mut Writes<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let before = tables.changes().count();
        let answer = work(tables);
        let has_changed = tables.changes().count() != before;
        let undone = match &answer {
            Err(error) if has_changed => Err(StoreError::Undone(error.to_string().into())),
            _ => Ok(()),
        };
        self.answer = Some(answer);
        undone
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { answer, caller, .. } = *self;
        let answer = match (answer, outcome) {
            // The closure's own error says more than that the batch was undone.
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Some(answer), Ok(())) => answer,
            (None, Ok(())) => Err(StoreError::Inconsistent("a write was not run").into()),
        };
        // The caller may have disconnected. The commit stays.
        let _ = caller.send(answer);
    }
}
