//! Waiting for what happens all the time, and beside it for what seldom does.
//!
//! A connection is polled several times for each request. What is beside it (its clockwork, the listener's end) is looked at only
//! when it has asked to be: it has a waker of its own, which remembers that it was used.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Which of the two is ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready<M, A> {
    /// What happens all the time.
    Main(M),
    /// What is beside it.
    Aside(A),
}

/// Wakes a task, and knows that it did.
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Wait for either.
pub(super) async fn either<M, A>(main: M, aside: A) -> Ready<M::Output, A::Output>
where
    M: Future,
    A: Future,
{
    let (mut main, mut aside) = (pin!(main), pin!(aside));
    let mut bell: Option<(Arc<Bell>, Waker)> = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = main.as_mut().poll(cx) {
            return Poll::Ready(Ready::Main(done));
        }
        // Polled by somebody else than before, it has somebody else to wake.
        if bell.as_ref().is_none_or(|(bell, _)| !bell.task.will_wake(cx.waker())) {
            let new = Arc::new(Bell { rung: AtomicBool::new(true), task: cx.waker().clone() });
            let waker = Waker::from(Arc::clone(&new));
            bell = Some((new, waker));
        }
        let Some((bell, waker)) = &bell else { return Poll::Pending };
        if !bell.rung.load(Ordering::Relaxed) || !bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        aside.as_mut().poll(&mut Context::from_waker(waker)).map(Ready::Aside)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_is_beside_is_looked_at_first_and_then_only_when_it_asks() {
        let (looked, steps, asked) = (Cell::new(0), Cell::new(0), Notify::new());
        let main = poll_fn(|cx| {
            steps.set(steps.get() + 1);
            if steps.get() == 5 {
                asked.notify_one();
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut notified = pin!(asked.notified());
        let aside = poll_fn(|cx| {
            looked.set(looked.get() + 1);
            notified.as_mut().poll(cx)
        });
        assert_eq!(either(main, aside).await, Ready::Aside(()));
        assert_eq!(looked.get(), 2, "once to begin with, once when it was told");
        assert!(steps.get() >= 5);
    }

    #[tokio::test]
    async fn what_happens_all_the_time_comes_first() {
        let both = either(std::future::ready(1), std::future::ready(2));
        assert_eq!(both.await, Ready::Main(1));
        assert_eq!(either(std::future::pending::<()>(), std::future::ready(2)).await, Ready::Aside(2));
    }
}
