//! The part of crossbeam's channel that the ring needs, on locks that wait for the scheduler.
//!
//! It behaves like crossbeam's: a full or disconnected ring hands the message back; waiting messages are still received
//! after the last sender was dropped, and are dropped with the receiver. Time is the scheduler's choice: a receiver
//! without a message times out at once or waits until one comes, so that no code can rely on a time-out to make up for
//! a missed wake-up.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crossbeam_channel::{RecvTimeoutError, SendError, TryRecvError, TrySendError};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex, MutexGuard};

/// The sending end.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiving end. Public, because public functions take it in the place of crossbeam's.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Notified when a message comes or the last sender is dropped.
    arrived: Condvar,
}

struct State<T> {
    messages: VecDeque<T>,
    capacity: Option<usize>,
    senders: usize,
    is_receiver_gone: bool,
}

/// A ring of `capacity` slots.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// A ring that never fills.
pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            messages: VecDeque::new(),
            capacity,
            senders: 1,
            is_receiver_gone: false,
        }),
        arrived: Condvar::new(),
    });
    let receiver = Receiver {
        shared: Arc::clone(&shared),
    };
    (Sender { shared }, receiver)
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap()
    }
}

impl<T> Sender<T> {
    /// Puts a message on the ring, or hands it back at once.
    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.shared.lock();
        if state.is_receiver_gone {
            return Err(TrySendError::Disconnected(message));
        }
        let length = state.messages.len();
        if state.capacity.is_some_and(|capacity| length >= capacity) {
            return Err(TrySendError::Full(message));
        }
        state.messages.push_back(message);
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Puts a message on a ring that never fills.
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.try_send(message).map_err(|error| match error {
            TrySendError::Disconnected(message) => SendError(message),
            TrySendError::Full(_) => panic!("waiting for a free slot is not modelled"),
        })
    }

    /// Messages waiting.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().messages.len()
    }

    /// Slots; `None` without a bound.
    pub(crate) fn capacity(&self) -> Option<usize> {
        self.shared.lock().capacity
    }
}

impl<T> Receiver<T> {
    /// Takes a message, if one waits.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.shared.lock();
        match state.messages.pop_front() {
            Some(message) => Ok(message),
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Takes a message. The scheduler decides whether the wait for one times out.
    pub(crate) fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        let mut state = self.shared.lock();
        loop {
            if let Some(message) = state.messages.pop_front() {
                return Ok(message);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            if thread_rng().gen_range(0..3) == 0 {
                return Err(RecvTimeoutError::Timeout);
            }
            state = self.shared.arrived.wait(state).unwrap();
        }
    }

    /// Takes a message, waiting for one without a time limit.
    pub(crate) fn recv(&self) -> Result<T, RecvTimeoutError> {
        loop {
            match self.recv_timeout(Duration::MAX) {
                Err(RecvTimeoutError::Timeout) => {}
                outcome => return outcome,
            }
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let senders = {
            let mut state = self.shared.lock();
            state.senders -= 1;
            state.senders
        };
        if senders == 0 {
            self.shared.arrived.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.shared.lock();
            state.is_receiver_gone = true;
            mem::take(&mut state.messages)
        };
        // After the lock is released: dropping a message takes scheduled steps too.
        drop(waiting);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
