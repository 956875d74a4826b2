//! The one home of background tasks: nothing runs that shutdown does not wait for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Starts background tasks and waits for them at the end. Clones share the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    running: Arc<watch::Sender<usize>>,
    stop: watch::Receiver<bool>,
}

/// Tells every task of a [`Tasks`] to stop, by being dropped or told to.
#[derive(Debug)]
pub struct StopTasks(watch::Sender<bool>);

/// One running task; counts itself out when it ends, also by panic.
struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Tasks {
    /// An empty set, and the handle that ends it.
    pub fn new() -> (Self, StopTasks) {
        let (stop_sender, stop) = watch::channel(false);
        (Self { running: Arc::new(watch::Sender::new(0)), stop }, StopTasks(stop_sender))
    }

    /// Run `task` in the background until it ends or the set is stopped. A stopped task is dropped at its
    /// next await; one that must finish its work listens to [`Tasks::stopped`] and is started with
    /// [`Tasks::spawn_to_completion`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped();
        self.spawn_to_completion(async move {
            tokio::select! {
                () = task => {}
                () = stopped => {}
            }
        });
    }

    /// Run `task` in the background; shutdown waits until it ends by itself.
    #[allow(clippy::disallowed_methods)] // the one home of tokio::spawn
    pub fn spawn_to_completion(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.send_modify(|count| *count += 1);
        let running = Running(Arc::clone(&self.running));
        tokio::spawn(async move {
            let _running = running;
            task.await;
        });
    }

    /// Ends once the set has been told to stop.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            // An error means the handle was dropped, which is a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Wait until no task runs, at most `limit`; `false` if some still do.
    pub async fn finished(&self, limit: Duration) -> bool {
        let mut running = self.running.subscribe();
        tokio::time::timeout(limit, running.wait_for(|count| *count == 0)).await.is_ok_and(|r| r.is_ok())
    }
}

impl gateway::Background for Tasks {
    fn run(&self, work: futures_util::future::BoxFuture<'static, ()>) {
        self.spawn_to_completion(work);
    }
}

impl StopTasks {
    /// Tell every task to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_ends_waiting_tasks_and_waits_for_working_ones() {
        let (tasks, stop) = Tasks::new();
        tasks.spawn(std::future::pending());
        let (go, work) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn_to_completion(async move {
            let _ = work.await;
        });
        stop.stop();
        assert!(!tasks.finished(Duration::from_millis(20)).await);
        drop(go);
        assert!(tasks.finished(Duration::from_secs(5)).await);
    }
}
